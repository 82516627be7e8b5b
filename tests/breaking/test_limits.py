"""Every limit attacked from inside a handler, each in the ways there are, while a neighbour is watched."""

from __future__ import annotations

import os
import time

import pytest
from tests.breaking.conftest import Attack
from tests.host.serving import needs, needs_root, wait_for

MIB = 1_048_576
OUT_OF_MEMORY = ("error", "Runtime.OutOfMemory")
TIMED_OUT = ("timeout", "Sandbox.Timedout")

# --- memory ---------------------------------------------------------------------------------------------------------

MEMORY = {
    "the heap": f"kept = []\nwhile True:\n    kept.append(bytearray(b'x' * {MIB}))",
    "malloc of small pieces": "kept = [object() for _ in range(100_000_000)]",
    "mmap": f"""
import mmap
memory = mmap.mmap(-1, {600 * MIB})
for at in range(0, len(memory), 4096):
    memory[at] = 1
""",
    "a memfd": f"import os\nfd = os.memfd_create('much')\nwhile True:\n    os.write(fd, b'x' * {MIB})",
    "shared memory": f"""
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(libc.shmget(0, {600 * MIB}, 0o1600), None, 0)
ctypes.memset(at, 1, {600 * MIB})
""",
    "locked memory": f"""
import ctypes, mmap
memory = mmap.mmap(-1, {600 * MIB})
libc = ctypes.CDLL(None, use_errno=True)
libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), ctypes.c_size_t({600 * MIB}))
for at in range(0, len(memory), 4096):
    memory[at] = 1
""",
    "threads": f"""
import threading
kept = []
def fill():
    while True:
        kept.append(bytearray(b'x' * {MIB}))
threads = [threading.Thread(target=fill) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
""",
}


@needs("memory")
@pytest.mark.parametrize("way", MEMORY)
def test_memory_beyond_the_limit_ends_the_environment_and_says_so(attack: Attack, way: str) -> None:
    assert attack.run(MEMORY[way]).verdict == OUT_OF_MEMORY
    attack.serves_again()


@needs("memory")
def test_children_cannot_have_together_what_one_process_cannot(attack: Attack) -> None:
    code = f"""
import os
for _ in range(6):
    if os.fork() == 0:
        kept = bytearray(b'x' * {80 * MIB})
        os.pause() if hasattr(os, "pause") else __import__("signal").pause()
import time
time.sleep(10)
"""
    answer = attack.run(code, function="late")
    # On version 1 the kernel ends one process after the other, and the handler may outlive them; then its time is up.
    assert answer.verdict in (OUT_OF_MEMORY, TIMED_OUT)
    attack.serves_again("late")


@needs("memory")
@needs_root
def test_page_cache_is_no_way_to_run_out_of_memory(attack: Attack) -> None:
    code = f"""
import os
with open("/tmp/large", "wb", buffering=0) as file:
    for _ in range(450):
        file.write(bytes({MIB}))
for _ in range(3):
    with open("/tmp/large", "rb", buffering=0) as file:
        while file.read({MIB}):
            pass
os.unlink("/tmp/large")
result = "within it"
"""
    assert attack.run(code).value == "within it"


@needs("memory")
def test_a_pipe_and_a_socket_hold_no_memory_that_is_not_counted(attack: Attack) -> None:
    code = """
import os, socket
kept, total = [], 0
try:
    while total < 600 * 2**20:
        pair = socket.socketpair()
        kept.append(pair)
        pair[0].setblocking(False)
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        try:
            while True:
                total += pair[0].send(bytes(65536))
        except BlockingIOError:
            pass
except OSError as fault:
    total = fault.errno
result = total
"""
    answer = attack.run(code)
    # Either the environment ran out of memory, or of descriptors before it could hold much.
    if "x-amz-function-error" not in answer.headers:
        assert answer.value < 600 * MIB
    else:
        assert answer.verdict == OUT_OF_MEMORY
    attack.serves_again()


# --- CPU ------------------------------------------------------------------------------------------------------------

BUSY = """
import os, sys, threading, time
began = time.monotonic()
def spin():
    while time.monotonic() - began < 2:
        pass
how = event["how"]
if how == "threads":
    threads = [threading.Thread(target=spin) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
else:
    for _ in range(8):
        if os.fork() == 0:
            if how == "sessions":
                os.setsid()
            spin()
            os._exit(0)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
times = os.times()
result = (times.user + times.system + times.children_user + times.children_system) / (time.monotonic() - began)
"""


@needs("cpu")
@pytest.mark.parametrize("how", ["threads", "children", "sessions"])
def test_a_function_has_its_share_of_a_cpu_however_many_it_is(attack: Attack, how: str) -> None:
    attack.afresh()  # times() of a fresh environment
    share = attack.run(BUSY, how=how).value
    assert share < 2 * 256 / 1769


# --- time -----------------------------------------------------------------------------------------------------------

TIME = {
    "ignoring signals": """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
time.sleep(100)
""",
    "never returning to Python": "import ctypes; ctypes.CDLL(None).pause()",
    "a sleep that no signal but one ends (vfork)": """
import ctypes, os, platform, time
libc = ctypes.CDLL(None)
read, write = os.pipe()
# The parent of a vfork sleeps, in a state that ends with its child or by SIGKILL alone.
if platform.machine() == "x86_64":
    pid = libc.syscall(58)
else:
    pid = libc.syscall(220, 0x4000 | 17, 0, 0, 0, 0)
if pid == 0:
    libc.pause()
    libc._exit(0)
""",
    "in a session of its own": "import os, time\nos.fork() or (os.setsid(), time.sleep(100))\ntime.sleep(100)",
    "stopping itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "an endless regular expression": "import re; re.match('(a*)*b', 'a' * 64)",
}


@pytest.mark.parametrize("way", TIME)
def test_a_handler_that_is_late_is_answered_for_and_its_environment_replaced(attack: Attack, way: str) -> None:
    began = time.monotonic()
    answer = attack.run(TIME[way], function="late")
    assert answer.verdict == TIMED_OUT
    assert time.monotonic() - began < 10
    assert answer.error["errorMessage"].endswith("Task timed out after 1.00 seconds")
    attack.serves_again("late")


@needs_root
def test_what_a_late_handler_started_is_gone_whatever_it_did_to_stay(attack: Attack) -> None:
    code = """
import os, signal, time
# A double fork, a session of its own, signals ignored, standard streams closed: a daemon as the books have it.
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        for fd in (0, 1, 2):
            os.close(fd)
        os.execv("/bin/sleep", ["/bin/sleep", "98765"])
    os._exit(0)
os.wait()
time.sleep(100)
"""
    assert attack.run(code, function="late").verdict == TIMED_OUT
    wait_for(lambda: not commands("98765"), lambda: f"it lives on: {commands('98765')}")


def commands(word: str) -> list[str]:
    """Pids of the machine's processes that have a word among their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if word.encode() in file.read().split(b"\0"):
                        found.append(name)
            except OSError:
                continue
    return found


# --- processes and files --------------------------------------------------------------------------------------------


@needs("pids")
def test_a_fork_bomb_is_answered_for_at_its_timeout_and_gone(attack: Attack) -> None:
    code = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    assert attack.run(code, function="late").verdict in (TIMED_OUT, OUT_OF_MEMORY)
    attack.serves_again("late")


@needs("pids")
def test_threads_that_make_threads_end_with_their_environment(attack: Attack) -> None:
    code = """
import threading, time
threading.stack_size(65536)
def more():
    while True:
        try:
            threading.Thread(target=more, daemon=True).start()
        except RuntimeError:
            time.sleep(0.01)
more()
"""
    assert attack.run(code, function="late").verdict in (TIMED_OUT, OUT_OF_MEMORY)
    attack.serves_again("late")


def test_leaked_descriptors_are_its_own_loss(attack: Attack) -> None:
    code = """
import errno, os
kept["fds"] = []
try:
    while True:
        kept["fds"].append(os.open("/dev/null", os.O_RDONLY))
except OSError as fault:
    result = [errno.errorcode[fault.errno], len(kept["fds"])]
"""
    attack.afresh()
    before = attack.host.descriptors()
    name, count = attack.run(code).value
    assert name == "EMFILE"
    assert 1_000 < count < 1_024
    assert attack.host.descriptors() <= before + 20
    attack.afresh()
    attack.serves_again()


def test_descriptors_sent_to_oneself_do_not_get_past_the_limit_for_ever(attack: Attack) -> None:
    code = """
import array, errno, os, socket
sent, kept_ = 0, []
try:
    while sent < 100_000:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        kept_.append(pair)
        pair[0].setblocking(False)
        while True:
            try:
                socket.send_fds(pair[0], [b"x"], [0] * 200)
                sent += 200
            except BlockingIOError:
                break
except OSError as fault:
    result = [errno.errorcode[fault.errno], sent]
"""
    name, sent = attack.run(code).value
    assert name in ("ETOOMANYREFS", "EMFILE")  # the kernel counts those in flight against the same limit
    assert sent < 10_000
    attack.afresh()


# --- /tmp -----------------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("how", ["one file", "many files", "a hole", "deleted", "fallocate", "links"])
def test_tmp_holds_no_more_than_its_size_however_it_is_filled(attack: Attack, how: str) -> None:
    code = f"""
import errno, os
how, total, number, kept_ = event["how"], 0, 0, []
try:
    while total < {700 * MIB}:
        number += 1
        if how == "one file":
            fd = os.open("/tmp/one", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            total += os.write(fd, bytes({4 * MIB}))
            os.close(fd)
        elif how == "many files":
            with open(f"/tmp/{{number}}", "wb", buffering=0) as file:
                total += file.write(bytes({MIB}))
        elif how == "a hole":
            fd = os.open("/tmp/hole", os.O_CREAT | os.O_RDWR)
            total += os.pwrite(fd, bytes({4 * MIB}), number * {1 << 30})
            os.close(fd)
        elif how == "deleted":
            fd = os.open("/tmp/deleted", os.O_CREAT | os.O_RDWR | os.O_EXCL)
            kept_.append(fd)
            os.unlink("/tmp/deleted")
            total += os.write(fd, bytes({4 * MIB}))
        elif how == "fallocate":
            fd = os.open("/tmp/allocated", os.O_CREAT | os.O_RDWR)
            os.posix_fallocate(fd, 0, number * {16 * MIB})
            os.close(fd)
            total = number * {16 * MIB}
        else:
            os.symlink("x" * 4000, f"/tmp/link{{number}}")
            total += 4000
    result = ["never", total]
except OSError as fault:
    result = [errno.errorcode[fault.errno], total]
"""
    attack.afresh()
    name, total = attack.run(code, how=how).value
    assert name == "ENOSPC"
    assert total <= 512 * MIB
    attack.afresh()
    assert attack.run("import os; result = os.listdir('/tmp')").value == []

"""Every isolation promise, by an attempt to cross it: from one environment to another of the same function, the nearest
there is, to another function's, to the template and to the host.

Each test has one environment hold something and another one look for it while it is held.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.host.serving import RUNS, Serving, needs_root, serving_many, wait_for

from lamplighter.sandbox import confine

pytestmark = needs_root

TRIED = """
import errno, os

def tried(attempt):
    try:
        attempt()
    except OSError as fault:
        return errno.errorcode[fault.errno]
    return "done"
"""
HOLD_S = 1.5


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    functions: dict[str, dict[str, object]] = {
        "one": {"source": RUNS, "memory_mb": 512, "parked": 2, "environment": {"PASSWORD": "of-one"}},
        "other": {"source": RUNS, "memory_mb": 512, "parked": 2},
    }
    with serving_many(tmp_path_factory.mktemp("crossing"), functions, variables={"HOSTS_SECRET": "kept"}) as host:
        host.settle("one")
        host.settle("other")
        yield host


@pytest.fixture(params=["one", "other"], ids=["from the same function", "from another function"])
def looker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def across(host: Serving, hold: str, look: str, looker: str) -> Any:
    """What ``look`` finds in one environment while ``hold`` is held in one of ``one``."""
    hold = f"{hold}\nimport time\ntime.sleep({HOLD_S})\nresult = 'held'"
    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(host.run, hold, function="one")
        wait_for(lambda: host.facts("one")["busy"], "the one that holds")
        wait_for(lambda: host.facts(looker)["parked"] or host.facts(looker)["idle"], "one to look with")
        found = host.run(TRIED + look, function=looker).value
        assert holding.result().value == "held"
    return found


def test_no_process_of_another_environment_is_seen(host: Serving, looker: str) -> None:
    hold = "import subprocess\nchild = subprocess.Popen(['/bin/sleep', '4321'])"
    look = """
seen = {}
for name in os.listdir("/proc"):
    if name.isdigit():
        seen[name] = open(f"/proc/{name}/cmdline").read()
result = [len(seen), any("4321" in text for text in seen.values())]
"""
    count, found = across(host, hold, look, looker)
    assert not found
    assert count == 2  # itself, and its namespace's first process


def test_no_pid_reaches_beyond_its_own_namespace(host: Serving, looker: str) -> None:
    pids = sorted({process.pid for process in host.tree()} | {os.getpid()})
    look = f"""
import signal
own = {{os.getpid(), 1}}
result = sorted({{tried(lambda: os.kill(pid, 0)) for pid in set({pids}) | set(range(2, 400)) if pid not in own}}
                | {{tried(lambda: os.pidfd_open(pid)) for pid in {pids} if pid not in own}}
                | {{tried(lambda: os.sched_setaffinity(pid, [0])) for pid in {pids} if pid not in own}})
"""
    assert across(host, "", look, looker) == ["ESRCH"]


def test_no_variable_of_another_function_or_of_the_host_is_seen(host: Serving) -> None:
    look = """
text = b"".join(open(f"/proc/{name}/environ", "rb").read() for name in os.listdir("/proc")
                if name.isdigit() and name != "1") + repr(dict(os.environ)).encode()
result = [b"of-one" in text, b"HOSTS_SECRET" in text]
"""
    assert across(host, "", look, "other") == [False, False]
    assert across(host, "", look, "one") == [True, False]  # it is found where it belongs


def test_no_file_of_another_environment_is_seen(host: Serving, looker: str) -> None:
    hold = "import os\nopen('/tmp/mine', 'w').write('secret')\nos.chmod('/tmp/mine', 0o777)"
    look = """
found = []
for place, _, names in os.walk("/tmp"):
    found += names
result = [found, tried(lambda: open("/tmp/mine")), tried(lambda: open("/proc/1/root/tmp/mine")),
          tried(lambda: os.listdir("/dev/shm"))]
"""
    assert across(host, hold, look, looker) == [[], "ENOENT", "EACCES", "ENOENT"]


def test_no_shared_memory_queue_or_semaphore_is_shared(host: Serving, looker: str) -> None:
    hold = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
made = [libc.shmget(0x4242, 4096, 0o1666), libc.semget(0x4242, 1, 0o1666), libc.msgget(0x4242, 0o1666),
        ctypes.CDLL(None).mq_open(b"/mine", 0o102, 0o666, None)]
assert min(made) >= 0, made
"""
    look = """
import ctypes
libc = ctypes.CDLL(None)
result = [libc.shmget(0x4242, 4096, 0o666), libc.semget(0x4242, 1, 0o666), libc.msgget(0x4242, 0o666),
          libc.mq_open(b"/mine", 2)]
"""
    assert across(host, hold, look, looker) == [-1, -1, -1, -1]


@pytest.mark.skipif(
    confine.landlock_version() < confine.SOCKETS_SINCE, reason="Landlock here does not know abstract sockets"
)
def test_no_abstract_socket_of_another_environment_can_be_connected_to(host: Serving, looker: str) -> None:
    name = f"\\0crossing-{os.getpid()}"
    hold = f"import socket\nlistener = socket.socket(socket.AF_UNIX)\nlistener.bind('{name}')\nlistener.listen()"
    look = f"import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).connect('{name}'))"
    assert across(host, hold, look, looker) == "EPERM"


def test_no_socket_by_name_is_seen(host: Serving, looker: str) -> None:
    hold = """
import os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"/tmp/sock{os.getpid()}")
os.rename(f"/tmp/sock{os.getpid()}", "/tmp/sock")
listener.listen()
"""
    look = "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).connect('/tmp/sock'))"
    assert across(host, hold, look, looker) == "ENOENT"


def test_no_cgroup_file_is_within_reach(host: Serving, looker: str) -> None:
    look = """
found = []
for place, folders, names in os.walk("/", onerror=lambda fault: None):
    folders[:] = [name for name in folders if place != "/" or name not in ("proc", "usr", "tmp", "root")]
    found += [f"{place}/{name}" for name in names if name in ("cgroup.procs", "memory.limit_in_bytes", "memory.max")]
mounted = [line for line in open("/proc/self/mountinfo") if " - cgroup" in line]
held = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name != "3"]
result = [found, mounted, [one for one in held if "cgroup" in one or "tasks" in one]]
"""
    assert across(host, "", look, looker) == [[], [], []]


def test_no_control_socket_of_a_template_or_the_host_is_held(host: Serving, looker: str) -> None:
    sockets = {os.readlink(f"/proc/{host.pid}/fd/{name}") for name in os.listdir(f"/proc/{host.pid}/fd")}
    look = """
import socket
held = {}
for name in os.listdir("/proc/self/fd"):
    try:
        held[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        pass
(fd,) = [fd for fd, what in held.items() if what.startswith("socket:")]
own = socket.socket(fileno=os.dup(fd))
result = [held[fd], own.getsockname(), own.getpeername()]
"""
    held, *names = across(host, "", look, looker)
    assert held not in sockets  # it is the other end of one of them
    assert names == ["", ""]


def test_a_worker_cannot_attach_to_read_from_or_take_descriptors_of_anything(host: Serving, looker: str) -> None:
    look = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, *arguments):
    ctypes.set_errno(0)
    return errno.errorcode[ctypes.get_errno()] if getattr(libc, name)(*arguments) == -1 else "done"
result = [
    refused("ptrace", 16, 1, 0, 0),
    refused("process_vm_readv", 1, None, 0, None, 0, 0),
    tried(lambda: open("/proc/1/mem", "rb")),
    tried(lambda: os.open("/proc/1/fd/0", os.O_WRONLY)),  # the lifeline: whoever held its end would outlive the host
    tried(lambda: os.open("/proc/1/fd/0", os.O_RDONLY)),
    tried(lambda: open("/proc/kcore", "rb").read(1)),
    tried(lambda: open("/proc/sys/kernel/core_pattern", "w")),
    tried(lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000")),
]
"""
    assert "done" not in across(host, "", look, looker)


def test_the_hosts_own_files_are_out_of_reach_by_every_name(host: Serving, looker: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    secret.chmod(0o644)
    paths = [str(secret), f"/proc/1/root{secret}", f"/proc/self/root/../..{secret}", f"/proc/self/cwd/../../..{secret}"]
    found = across(host, "", f"result = [tried(lambda: open(path)) for path in {paths}]", looker)
    assert set(found) <= {"ENOENT", "EACCES"}


def test_a_descriptor_of_a_directory_leads_nowhere_above_the_sandbox(host: Serving, looker: str) -> None:
    look = """
fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
above = os.open("../../..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
result = [os.fstat(above).st_ino == os.fstat(fd).st_ino, tried(lambda: os.chroot("/tmp")),
          tried(lambda: os.open("/dev/loop0", os.O_RDONLY)), tried(lambda: os.open("/dev/loop-control", os.O_RDWR))]
"""
    assert across(host, "", look, looker) == [True, "EPERM", "ENOENT", "ENOENT"]


def test_the_hosts_own_unix_sockets_are_out_of_reach(host: Serving, looker: str, tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        look = f"import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).connect({path!r}))"
        assert across(host, "", look, looker) == "ENOENT"

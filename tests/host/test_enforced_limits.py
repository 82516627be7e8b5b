"""Lambda's limits, held by the kernel: memory, CPU, processes, files, /tmp."""

from __future__ import annotations

from pathlib import Path

from tests.host.serving import RUNS, needs, needs_root, serving, serving_many

MIB = 1_048_576


@needs("memory")
def test_the_templates_memory_counts_towards_the_functions(tmp_path: Path) -> None:
    source = f"big = bytearray({120 * MIB})\nfor at in range(0, len(big), 4096):\n    big[at] = 1\n" + RUNS
    with serving(tmp_path, source, "--memory", "256", "--timeout", "10") as host:
        fits = host.run(f"more = bytearray({60 * MIB}); result = context.memory_limit_in_mb")
        assert fits.value == "256"
        assert fits.report["Memory Size"] == "256 MB"
        assert 190 <= int(fits.report["Max Memory Used"].removesuffix(" MB")) <= 230
        assert host.run(f"more = bytearray({150 * MIB})").verdict == ("error", "Runtime.OutOfMemory")


@needs("memory")
def test_max_memory_used_is_of_the_invocations_own_environment_and_starts_anew_with_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--memory", "512", "--concurrency", "1") as host:
        high = host.run(f"bytearray({200 * MIB})")
        assert 200 <= int(high.report["Max Memory Used"].removesuffix(" MB")) <= 260
        host.run("import os; os._exit(0)")
        assert int(host.run("").report["Max Memory Used"].removesuffix(" MB")) < 60


@needs("memory")
def test_children_of_the_handler_share_its_memory_limit(tmp_path: Path) -> None:
    code = f"""
import subprocess, sys
child = subprocess.run([sys.executable, "-c", "x = bytearray({200 * MIB})"])
result = child.returncode
"""
    with serving(tmp_path, RUNS, "--memory", "128", "--timeout", "20") as host:
        answer = host.run(code)
        # The kernel kills the largest process of the environment: the child, or on version 2 all of them.
        if "x-amz-function-error" in answer.headers:
            assert answer.verdict == ("error", "Runtime.OutOfMemory")
        else:
            assert answer.value == -9
        assert host.run("result = 'next'").value == "next"


@needs("cpu")
def test_at_128_megabytes_a_function_gets_about_a_fourteenth_of_a_cpu(tmp_path: Path) -> None:
    busy = """
import time
wall, cpu = time.monotonic(), time.process_time()
while time.monotonic() - wall < 1:
    pass
result = (time.process_time() - cpu) / (time.monotonic() - wall)
"""
    with serving(tmp_path, RUNS, "--memory", "128", "--timeout", "10") as host:
        assert 0.04 < host.run(busy).value < 0.11  # 128 / 1,769 = 0.072
        assert 0.04 < host.run(busy).value < 0.11  # and no less, and no more, when it is warm


@needs("cpu")
def test_threads_and_children_share_the_functions_cpu(tmp_path: Path) -> None:
    busy = """
import os, time
wall = time.monotonic()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        while time.monotonic() - wall < 1:
            pass
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
used = os.times()
result = (used.children_user + used.children_system) / (time.monotonic() - wall)
"""
    with serving(tmp_path, RUNS, "--memory", "442", "--timeout", "10") as host:
        assert 0.18 < host.run(busy).value < 0.32  # 442 / 1,769 = 0.25


@needs("pids")
def test_a_fork_bomb_stops_at_1024_and_the_host_serves_others_meanwhile(tmp_path: Path) -> None:
    bomb = """
import os, signal
count = 0
try:
    while count < 5000:
        if os.fork() == 0:
            signal.pause()
            os._exit(0)
        count += 1
except BlockingIOError:
    pass
result = count
"""
    functions: dict[str, dict[str, object]] = {
        "bomb": {"source": RUNS, "memory_mb": 3008, "timeout_s": 60, "concurrency": 1},
        "other": {"source": RUNS, "memory_mb": 512},
    }
    with serving_many(tmp_path, functions) as host:
        count = host.run(bomb, function="bomb").value
        assert 1020 <= count <= 1023  # the worker itself and its namespace's first process count as well
        assert host.run("result = 'unharmed'", function="other").value == "unharmed"
        again = "import os\ntry:\n    os.fork()\nexcept BlockingIOError:\n    result = 'full'"
        assert host.run(again, function="bomb").value == "full"
        host.run("import os; os._exit(0)", function="bomb")
        assert host.run("import os; child = os.fork() or os._exit(0); result = child > 0", function="bomb").value


@needs("pids")
def test_threads_count_as_processes(tmp_path: Path) -> None:
    code = """
import threading
stop, count = threading.Event(), 0
threading.stack_size(65536)
try:
    while count < 5000:
        threading.Thread(target=stop.wait, daemon=True).start()
        count += 1
except RuntimeError:
    pass
stop.set()
result = count
"""
    with serving(tmp_path, RUNS, "--memory", "1769", "--timeout", "60") as host:
        assert 1020 <= host.run(code).value <= 1023


def test_a_process_may_have_1024_descriptors(tmp_path: Path) -> None:
    code = """
import errno, os
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as fault:
    name = errno.errorcode[fault.errno]
highest = max(opened)
for fd in opened:
    os.close(fd)
result = [name, highest]
"""
    with serving(tmp_path, RUNS, "--memory", "1769") as host:
        assert host.run(code).value == ["EMFILE", 1023]
        assert host.run("result = 'still here'").value == "still here"


@needs_root
def test_tmp_has_the_configured_size_and_is_full_at_it(tmp_path: Path) -> None:
    code = f"""
import errno, os
space = os.statvfs("/tmp")
size = space.f_blocks * space.f_frsize
block = bytes({4 * MIB})
written = 0
try:
    with open("/tmp/fill", "wb", buffering=0) as file:
        while written < 2 * size:
            written += file.write(block)
except OSError as fault:
    name = errno.errorcode[fault.errno]
os.unlink("/tmp/fill")
result = [size, name, written]
"""
    options = ("--memory", "1769", "--ephemeral-storage", "600", "--timeout", "30", "--concurrency", "1")
    with serving(tmp_path, RUNS, *options) as host:
        size, name, written = host.run(code).value
        assert size == 600 * MIB
        assert name == "ENOSPC"
        assert 590 * MIB < written <= 600 * MIB
        free = "import os; space = os.statvfs('/tmp'); result = space.f_bavail * space.f_frsize"
        assert host.run(free).value > 590 * MIB


@needs_root
def test_no_other_place_inside_can_be_filled(tmp_path: Path) -> None:
    code = """
import os
found = []
for line in open("/proc/self/mounts"):
    _, where, kind, options, *_ = line.split()
    where = where.encode().decode("unicode_escape")
    if os.path.isdir(where) and os.access(where, os.W_OK):
        found.append(where)
result = found
"""
    with serving(tmp_path, RUNS) as host:
        assert set(host.run(code).value) == {"/tmp"}

"""Functions whose init leaves what a fork would break: named, run by exec, isolated and limited all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, needs, needs_root, serving_many, wait_for

THREAD = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait, name="poller", daemon=True).start()
"""
SOCKET = """
import socket
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
"""
FILE = """
journal = open("/tmp/journal", "w")
"""
CHILD = """
import subprocess
helper = subprocess.Popen(["sleep", "1000"])
"""
MENDED = """
import threading
import snapshot_restore_py
stop = threading.Event()
poller = threading.Thread(target=stop.wait, name="poller", daemon=True)
poller.start()


@snapshot_restore_py.register_before_snapshot
def rest():
    stop.set()
    poller.join()
"""
NUMPY = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "2"
import numpy
product = numpy.ones((300, 300)) @ numpy.ones((300, 300))
"""
UNSAFE = ["thread", "socket", "file", "child"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    functions: dict[str, dict[str, object]] = {
        "thread": {"source": THREAD + RUNS},
        "socket": {"source": SOCKET + RUNS},
        "file": {"source": FILE + RUNS},
        "child": {"source": CHILD + RUNS},
        "mended": {"source": MENDED + RUNS},
        "numpy": {"source": NUMPY + RUNS},
    }
    for fields in functions.values():
        fields |= {"memory_mb": 256, "timeout_s": 5}
    with serving_many(tmp_path_factory.mktemp("unsafe"), functions) as host:
        host.settle("mended")
        host.settle("numpy")
        yield host


@pytest.mark.parametrize(
    ("function", "obstacle"),
    [
        ("thread", r"thread 'poller' is running"),
        ("socket", r"descriptor \d+ is a socket"),
        ("file", r"descriptor \d+ is the file /tmp/journal, open for writing"),
        ("child", r"process \d+, started by init, is running"),
    ],
)
def test_what_makes_a_function_unsafe_to_fork_is_named(host: Serving, function: str, obstacle: str) -> None:
    host.errors.wait(rf"lamplighter\[{function}\]: not safe to fork, so each environment runs its own init: {obstacle}")
    assert host.facts(function)["template"] == "unsafe"
    (found,) = host.facts(function)["obstacles"]
    assert found


def test_a_function_that_lets_go_before_the_snapshot_is_forked(host: Serving) -> None:
    assert host.facts("mended")["template"] == "ready", host.facts("mended")
    answer = host.run("result = poller.is_alive()".replace("poller", "__import__('app').poller"), function="mended")
    assert answer.value is False
    assert "Init Duration" not in answer.report


def test_numpys_threads_are_put_to_rest_and_its_function_is_forked(host: Serving) -> None:
    assert host.facts("numpy")["template"] == "ready", host.facts("numpy")
    draw = "import app; result = [float(app.numpy.random.rand()), float((app.product @ app.product).sum())]"
    first = host.run(draw, function="numpy").value
    host.run("import os; os._exit(0)", function="numpy")
    second = host.run(draw, function="numpy").value
    assert first[0] != second[0], "two workers drew the same number"
    assert first[1] == second[1] == 300.0**5


@pytest.mark.parametrize("function", UNSAFE)
def test_its_environments_run_init_themselves_and_say_so_once(host: Serving, function: str) -> None:
    host.run("import os; os._exit(0)", function=function)
    first = host.run("import os; result = os.getpid()", function=function)
    second = host.run("import os; result = os.getpid()", function=function)
    assert first.value == second.value
    init = float(first.report["Init Duration"].removesuffix(" ms"))
    duration = float(first.report["Duration"].removesuffix(" ms"))
    billed = int(first.report["Billed Duration"].removesuffix(" ms"))
    assert init > 0
    assert duration + init <= billed < duration + init + 1
    assert "Init Duration" not in second.report


def test_each_environment_has_the_thing_to_itself(host: Serving) -> None:
    alive = "import app; result = [t.name for t in __import__('threading').enumerate()]"
    assert "poller" in host.run(alive, function="thread").value
    port = "import app; result = app.listening.getsockname()[1]"
    first = host.run(port, function="socket").value
    host.run("import os; os._exit(0)", function="socket")
    second = host.run(port, function="socket").value
    assert first > 0
    assert second > 0
    write = "import app, os; app.journal.write('x'); app.journal.flush(); result = os.path.getsize('/tmp/journal')"
    assert host.run(write, function="file").value == 1
    host.run("import os; os._exit(0)", function="file")
    assert host.run(write, function="file").value == 1


@needs_root
@pytest.mark.parametrize("function", UNSAFE)
def test_they_are_isolated_like_forked_ones(host: Serving, function: str) -> None:
    code = """
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
result = {
    "uid": os.getuid(),
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(),
    "paths": [path for path in ("/run", "/boot", "/etc/shadow", "/sys") if os.path.exists(path)],
    "writable": [path for path in ("/", "/var/task", "/opt", "/usr", "/etc") if os.access(path, os.W_OK)],
}
"""
    found = host.run(code, function=function).value
    forked = host.run(code, function="mended").value
    assert found == forked
    assert found["uid"] != 0
    assert found["capabilities"] == ["0" * 16] * 4
    assert found["no_new_privs"] == "1"
    assert found["paths"] == found["writable"] == []


@needs("memory")
@pytest.mark.parametrize("function", ["thread", "socket", "file"])
def test_they_are_limited_like_forked_ones(host: Serving, function: str) -> None:
    answer = host.run("hoard = bytearray(400 << 20)", function=function)
    assert answer.verdict == ("error", "Runtime.OutOfMemory")
    timed = host.run("import time; time.sleep(0.2); result = context.memory_limit_in_mb", function=function)
    assert timed.value == "256"
    assert timed.report["Memory Size"] == "256 MB"
    assert 0 < int(timed.report["Max Memory Used"].removesuffix(" MB")) < 256


def test_the_processes_of_one_environment_end_with_it(host: Serving) -> None:
    def sleepers() -> set[int]:
        found = set()
        for process in host.tree():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep"):
                    found.add(process.pid)
        return found

    assert host.run("import app; result = app.helper.poll()", function="child").value is None
    before = wait_for(lambda: sleepers() if host.facts("child")["starting"] == 0 else set(), "its processes")
    host.run("import os; os._exit(0)", function="child")
    wait_for(lambda: len(before & sleepers()) == len(before) - 1, "the end of what the one environment's init started")

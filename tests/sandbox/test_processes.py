"""What is known of a process from outside, and the end of everything below it, on kernels with and without lists."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from lamplighter.sandbox import processes

MIB = 1_048_576

TREE = """
import subprocess, sys, threading, time
hold = bytearray(int(sys.argv[1]) * 2**20)
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
below = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
print(below.pid, flush=True)
time.sleep(1000)
"""
Tree = tuple["subprocess.Popen[str]", int]


@pytest.fixture
def tree() -> Iterator[Tree]:
    """A process of two threads that holds 40 MB, and the pid of its child, which is in a session of its own."""
    with subprocess.Popen([sys.executable, "-c", TREE, "40"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        below = int(process.stdout.readline())
        try:
            yield process, below
        finally:
            process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.kill(below, signal.SIGKILL)


@pytest.fixture(params=[True, False], ids=["listed", "not listed"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not processes._LISTED:
        pytest.skip("this kernel keeps no lists of children")
    monkeypatch.setattr(processes, "_LISTED", request.param)


@pytest.mark.usefixtures("kernel")
def test_descendants_are_found_whatever_session_they_are_in(tree: Tree) -> None:
    process, below = tree
    assert process.pid in processes.children(os.getpid())
    assert processes.descendants([process.pid]) == [below]
    found = processes.descendants([os.getpid()])
    assert found.index(process.pid) < found.index(below), "parents first"
    assert processes.children(below) == []


@pytest.mark.usefixtures("kernel")
def test_what_is_below_is_killed_and_the_root_stopped(
    tree: Tree, eventually: Callable[[Callable[[], object], str], None]
) -> None:
    process, below = tree
    processes.kill_below([process.pid])

    def state(pid: int) -> str:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0]

    eventually(lambda: state(below) == "Z", "the child is dead, and unreaped by a parent that is stopped")
    assert state(process.pid) == "T"


def test_memory_and_threads_are_those_of_the_process(tree: Tree) -> None:
    process, below = tree
    assert 40 * MIB < processes.proportional(process.pid) <= processes.resident(process.pid)
    assert 0 < processes.resident(below) < processes.resident(process.pid) - 30 * MIB
    assert processes.threads(process.pid) > processes.threads(below) >= 1


def test_of_a_process_that_is_gone_there_is_nothing() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    for told in (processes.resident, processes.proportional, processes.threads):
        assert told(process.pid) == 0
    assert processes.children(process.pid) == processes.descendants([process.pid]) == []
    assert not processes.doomed(process.pid)

"""Processes by pidfd, and faults with a verb."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import pytest

from lamplighter.sandbox.native import Exit, Process, SandboxFault, fault, open_leaf, raised


def _started(script: str) -> Process:
    popen = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL)
    popen.returncode = 0  # ours to reap, not Popen's
    return Process(popen.pid, os.pidfd_open(popen.pid))


def _reaped(process: Process) -> Exit:
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    found = process.reap()
    assert found is not None
    return found


def test_an_exit_status_and_a_signal_are_told_apart() -> None:
    exited, killed = _started("exit 3"), _started("kill -TERM $$")
    first, second = _reaped(exited), _reaped(killed)
    assert (first.status, first.signal, repr(first)) == (3, 0, "Exit(status=3)")
    assert (second.status, second.signal, repr(second)) == (0, signal.SIGTERM, "Exit(signal=15)")
    exited.close()
    killed.close()


def test_a_process_that_runs_is_not_reaped() -> None:
    process = _started("exec sleep 1000")
    assert process.reap() is None
    process.kill()
    assert _reaped(process).signal == signal.SIGKILL
    process.close()


def test_a_signal_other_than_the_last_can_be_sent() -> None:
    process = _started("exec sleep 1000")
    process.kill(signal.SIGUSR1)
    assert _reaped(process).signal == signal.SIGUSR1
    process.close()


def test_killing_what_is_gone_or_closed_does_no_harm() -> None:
    process = _started("exit 0")
    _reaped(process)
    process.kill()
    process.close()
    process.close()
    process.kill()
    assert process.pidfd == -1


def test_a_signal_that_does_not_exist_is_refused() -> None:
    process = _started("exec sleep 1000")
    with pytest.raises(SandboxFault, match="cannot send signal 999: Invalid argument") as refused:
        process.kill(999)
    assert refused.value.errno == errno.EINVAL
    process.kill()
    _reaped(process)
    process.close()


def test_a_descriptor_that_is_no_pidfd_is_refused() -> None:
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    process = Process(0, null)
    with pytest.raises(SandboxFault, match="cannot wait for a process: Bad file descriptor"):
        process.reap()
    with pytest.raises(SandboxFault, match="cannot send signal 9: Bad file descriptor"):
        process.kill()
    process.close()


def test_a_child_that_somebody_else_has_reaped_counts_as_killed() -> None:
    process = _started("exit 3")
    os.waitpid(process.pid, 0)
    assert repr(process.reap()) == "Exit(signal=9)"
    process.close()


def test_a_fault_is_an_os_error_with_its_verb() -> None:
    record = fault()
    record.code = errno.EACCES
    record.verb = b"open the door"
    problem = raised(record)
    assert isinstance(problem, OSError)
    assert (problem.errno, str(problem)) == (errno.EACCES, "[Errno 13] cannot open the door: Permission denied")


def test_a_cgroup_that_is_not_there_cannot_be_opened() -> None:
    with pytest.raises(SandboxFault, match="cannot open the cgroup /nowhere"):
        open_leaf("/nowhere")

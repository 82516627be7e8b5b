"""A server's process tree, read from /proc: who belongs to it, what memory it uses, and how to end all of it.

A process is known by its pid and its start time together (proc(5), field 22 of ``stat``), because pids are used again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
IN_NEST, IN_WORKER = 2, 3
"""Depth of a template, and of a worker and its keeper. Where the host cannot make namespaces, everything's is 1."""


class Process(NamedTuple):
    """One process. ``started`` is in clock ticks after boot."""

    pid: int
    started: int


class _Stat(NamedTuple):
    parent: int
    started: int
    state: str


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name (field 2) may hold spaces and parentheses; fields are counted from behind its last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(int(fields[1]), int(fields[19]), fields[0])


def tree(root: int) -> set[Process]:
    """``root`` and its living descendants; zombies are left out. Empty once ``root`` is gone."""
    stats: dict[int, _Stat] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            stats[int(entry)] = stat
            children.setdefault(stat.parent, []).append(int(entry))
    found: set[Process] = set()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        if pid in stats:
            if stats[pid].state not in "ZX":
                found.add(Process(pid, stats[pid].started))
            waiting.extend(children.get(pid, ()))
    return found


def namespace_pids(pid: int) -> list[int]:
    """A process's pids, outermost namespace first (``NSpid`` of /proc/PID/status, proc(5)); empty if it is gone."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return [int(field) for field in line.split()[1:]]
    return []


def depth(pid: int) -> int:
    """In how many pid namespaces a process has a pid: :data:`IN_NEST`, :data:`IN_WORKER`, or 0 once it is gone."""
    return len(namespace_pids(pid))


def alive(process: Process) -> bool:
    """Does this very process (not another with its pid) still run? A zombie does not."""
    stat = _stat(process.pid)
    return stat is not None and stat.started == process.started and stat.state not in "ZX"


def kill(process: Process) -> bool:
    """SIGKILL this very process; False if it was gone already. Safe against a pid used again."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process it was opened for; only now does the comparison prove which one that is.
        if not alive(process):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def pss_bytes(processes: Iterable[Process]) -> int:
    """The proportional set size of all of them together, in bytes (``Pss`` of /proc/PID/smaps_rollup, proc(5)).

    A page shared by n processes counts 1/n in each, so the sum counts every page of the tree once. Raises ``OSError``
    if a process ended meanwhile: a sum that lost a term is no figure.
    """
    total = 0
    for process in processes:
        for line in (PROC / str(process.pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
                break
        else:
            raise OSError(f"process {process.pid} ended while its memory was read")
    return total


def wait_gone(processes: Iterable[Process], seconds: float) -> set[Process]:
    """Wait up to ``seconds`` for all to end; those still alive after it."""
    deadline = time.monotonic() + seconds
    left = {process for process in processes if alive(process)}
    while left and time.monotonic() < deadline:
        process = next(iter(left))
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            fd = -1
        if fd >= 0:
            try:
                if alive(process):
                    select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            finally:
                os.close(fd)
        left = {process for process in left if alive(process)}
    return left


def end(leader: subprocess.Popen[bytes], patience: float = 10.0) -> int:
    """SIGTERM the leader, wait ``patience`` seconds, SIGKILL its group and whatever is left of its tree; its status.

    The leader must be the head of its own process group. Descendants are noted before the first signal: the emulator
    gives its runtime another group, and once the parent is dead nothing leads to the child any more.
    """
    mine = tree(leader.pid)
    if leader.poll() is None:
        leader.terminate()
        try:
            leader.wait(patience)
        except subprocess.TimeoutExpired:
            mine |= tree(leader.pid)
            os.killpg(leader.pid, signal.SIGKILL)
            leader.wait(patience)
    left = wait_gone(mine, 0.5)
    for process in left:
        kill(process)
    stubborn = wait_gone(left, patience)
    if stubborn:
        raise OSError(f"processes {sorted(process.pid for process in stubborn)} survived SIGKILL for {patience:g} s")
    return leader.returncode


def wait_asleep(pid: int, seconds: float = 60.0) -> None:
    """Wait until a process sleeps in the kernel. Raises :class:`TimeoutError` if it does not within ``seconds``.

    For those who then send it a signal: CPython runs a handler between two instructions, so a signal that comes after
    the last of them, and before a system call that blocks has begun, is only seen when that call returns.
    """
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "S":
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} did not fall asleep within {seconds:g} s")
        time.sleep(0.001)

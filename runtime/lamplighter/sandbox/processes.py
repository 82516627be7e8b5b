"""What /proc says of a process: facts that do not depend on what the process itself, or its maker, claims."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterable

import psutil


def resident(pid: int) -> int:
    """The resident set of a process, bytes; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def proportional(pid: int) -> int:
    """The proportional set of a process, bytes: shared pages count by how many share them; its resident set where the
    kernel or its owner does not tell; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_full_info().pss) or resident(pid)
    except psutil.Error:
        return resident(pid)


def threads(pid: int) -> int:
    """Threads of a process; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).num_threads())
    except psutil.Error:
        return 0


_LISTED = os.path.exists("/proc/thread-self/children")
"""Whether the kernel lists the children of a thread."""
_EXITING, _SIGKILL = 0x4, 1 << 8
"""PF_EXITING of the kernel's task flags, and the bit of SIGKILL in a signal mask."""


def doomed(pid: int) -> bool:
    """Whether a process is on its way out, or has a SIGKILL waiting for it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            if int(file.read().rpartition(")")[2].split()[6]) & _EXITING:
                return True
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except OSError:
        return False
    return any(mask & _SIGKILL for mask in pending)


def pid_of(pidfd: int) -> int:
    """The pid behind a pidfd, as seen from here (``Pid:`` of proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line[4:])
    return 0


def child_of_ours(pidfd: int, owner: int) -> int:
    """The pid behind what a template says is its worker.

    It may be anything: another process's pidfd (SO_PEERPIDFD gives a template the host's own), or none at all. Raises
    ``ValueError`` unless it is a child of this process that runs as ``owner``.
    """
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError as fault:
        raise ValueError(f"its worker is not a child of the host ({fault.strerror})") from fault
    if not runs_as(pidfd, owner):
        raise ValueError("its worker runs as somebody else")
    return pid_of(pidfd)  # stays its pid: only we can reap it


def runs_as(pidfd: int, owner: int) -> bool:
    pid = pid_of(pidfd)
    if pid <= 0:
        return False  # no pidfd, or gone already
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        uids = next(line.split()[1:] for line in file if line.startswith("Uid:"))
    return owner < 0 or (set(uids) == {str(owner)} and pid_of(pidfd) == pid)


def children(pid: int) -> list[int]:
    """Children of all threads of a process; none if it is gone.

    Not every kernel keeps a list of them (``CONFIG_PROC_CHILDREN``). Without it every process of the machine is asked
    for its parent, which takes a hundred times longer.
    """
    if not _LISTED:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def descendants(roots: Iterable[int]) -> list[int]:
    """Everything below ``roots``, parents before their children."""
    known: set[int] = set()
    found: list[int] = []
    ahead = deque(roots)
    while ahead:
        for child in children(ahead.popleft()):
            if child not in known:
                known.add(child)
                found.append(child)
                ahead.append(child)
    return found


def kill_below(roots: Iterable[int], passes: int = 64) -> None:
    """Kill all descendants of ``roots``, however fast they fork, and leave the roots themselves stopped.

    Whoever is found is stopped before its children are looked for, so that it makes no more of them, and reaps none:
    their pids stay theirs. For hosts without pid namespaces, where the kernel does this at once and for certain.
    """
    roots = list(roots)
    for pid in roots:
        _signal(pid, signal.SIGSTOP)
    stopped: set[int] = set()
    for _ in range(passes):
        fresh = [pid for pid in descendants(roots) if pid not in stopped]
        if not fresh:
            break
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped.update(fresh)
    for pid in stopped:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)

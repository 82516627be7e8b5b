"""What /proc says of a process: facts that do not depend on what the process itself, or its maker, claims."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """The resident set of a process, bytes (proc(5), statm); 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


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

"""Fork safety: what an initialised process holds that a copy of it cannot have, or would wrongly share.

Threads do not exist in a forked child, and whatever they were doing is left half done. A socket, pipe or queue of the
kernel's is one object after a fork: two workers on one database connection read each other's answers. So is memory
that is mapped to be shared. Files open for reading only are no obstacle, since each worker reopens them
(:mod:`lamplighter.template.restore`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import time
from collections.abc import Collection

_SETTLE_S = 0.05
_LEAVING_S = 0.1
"""Time for a thread that has been joined to leave the kernel; it takes microseconds, unless the machine is busy."""
_QUEUES = {
    "anon_inode:[eventfd]": "an eventfd",
    "anon_inode:[eventpoll]": "an epoll instance",
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:[pidfd]": "a pidfd",
    "anon_inode:[signalfd]": "a signalfd",
    "anon_inode:[timerfd]": "a timerfd",
    "anon_inode:[userfaultfd]": "a userfaultfd",
    "anon_inode:inotify": "an inotify instance",
}


def lasting_obstacles(own: Collection[int], *, alone: bool) -> list[str]:
    """:func:`obstacles` that are still there after :data:`_SETTLE_S`.

    A thread that has been joined leaves /proc a moment after ``join`` returns, and a process that was killed takes a
    moment to die: a before-snapshot hook that ends them just before the check has done its part.
    """
    until = time.monotonic() + _SETTLE_S
    while (found := obstacles(own, alone=alone)) and time.monotonic() < until:
        time.sleep(0.005)
    return found


def obstacles(own: Collection[int], *, alone: bool) -> list[str]:
    """What in this process a fork would break, one line each; empty if it may be forked.

    ``own`` are descriptors that are the runtime's and no obstacle. ``alone`` says that /proc is this sandbox's own, so
    that every process in it but the keeper's and this one is init's doing, daemons included.
    """
    return [*_threads(), *(_others() if alone else _children()), *_shared_memory(), *_descriptors(own)]


def _threads() -> list[str]:
    """Every thread but this one. Python's ``join`` returns a moment before the thread is gone, so one that Python does
    not know (any more) is given a moment to go."""
    until = time.monotonic() + _LEAVING_S
    while (found := _threads_now()) and any(line.startswith("native") for line in found) and time.monotonic() < until:
        time.sleep(0.001)
    return found


def _threads_now() -> list[str]:
    tasks = sorted(int(name) for name in os.listdir("/proc/self/task"))
    if len(tasks) == 1:
        return []
    names: dict[int, str] = {}
    if "threading" in sys.modules:
        names = {thread.native_id: thread.name for thread in sys.modules["threading"].enumerate() if thread.native_id}
    found = []
    for task in tasks:
        if task == os.getpid():
            continue
        if task in names:
            found.append(f"thread {names[task]!r} is running")
        else:
            found.append(f"native thread {_thread_name(task)!r} (not Python's) is running")
    return found


def _thread_name(task: int) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return str(task)


def _others() -> list[str]:
    own = {"1", str(os.getpid())}
    return [
        f"process {name}, started by init, is running"
        for name in os.listdir("/proc")
        if name.isdigit() and name not in own and _lives(name)
    ]


def _lives(pid: str) -> bool:
    """Whether a process still runs, or is dead and this one's to be waited for, which a worker could not do. One that
    somebody outside has yet to reap stands in no fork's way."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state not in "ZX" or int(parent) == os.getpid()


def _children() -> list[str]:
    children: list[str] = []
    with contextlib.suppress(OSError):  # absent without CONFIG_PROC_CHILDREN
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                children += file.read().split()
    return [f"child process {child} is running" for child in children]


def _shared_memory() -> list[str]:
    found = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            area, permissions, _, _, _, *name = line.split(None, 5)
            if permissions[1] == "w" and permissions[3] == "s":
                what = name[0].strip() if name else "anonymous memory"
                found.append(f"{what} is mapped shared and writable at {area}")
    return found


def _descriptors(own: Collection[int]) -> list[str]:
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        fd = int(name)
        if fd in own:
            continue
        try:
            facts = os.fstat(fd)
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the descriptor listdir itself used
            continue
        what = _obstacle(fd, facts.st_mode, target)
        if what:
            found.append(f"descriptor {fd} is {what}")
    return found


def _obstacle(fd: int, mode: int, target: str) -> str:
    if stat.S_ISSOCK(mode):
        return f"a socket{_peer(fd)}"
    if stat.S_ISFIFO(mode):
        return f"a pipe ({target})"
    if stat.S_ISREG(mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return f"the file {target}, open for writing"
    return _QUEUES.get(target, "")


def _peer(fd: int) -> str:
    import socket  # noqa: PLC0415 - only a process that holds one pays for it

    try:
        duplicate = socket.socket(fileno=os.dup(fd))
    except OSError:
        return ""
    with duplicate:
        try:
            peer = duplicate.getpeername()
            return f" connected to {peer}" if peer else ""  # most Unix sockets have no name
        except OSError:
            return ""

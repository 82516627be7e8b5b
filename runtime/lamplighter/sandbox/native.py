"""The C half (``lamplighter._sandbox``) with Python's manners: faults become :class:`SandboxFault`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from lamplighter._sandbox import ffi, lib


class SandboxFault(OSError):
    """The kernel refused a step of building, entering or ending a sandbox. ``str`` says which, and why."""


def fault() -> Any:
    """A fresh ``struct ll_fault``."""
    return ffi.new("struct ll_fault *")


def raised(record: Any) -> SandboxFault:
    """The exception for a filled ``struct ll_fault``."""
    verb = ffi.string(record.verb).decode(errors="replace")
    code = record.code or errno.EIO
    return SandboxFault(code, f"cannot {verb}: {os.strerror(code)}")


def open_leaf(path: str) -> int:
    """A descriptor of a cgroup v2 leaf that can be handed to unprivileged code; see ``ll_open_leaf``."""
    record = fault()
    fd = int(lib.ll_open_leaf(os.fsencode(path), record))
    if fd < 0:
        raise raised(record)
    return fd


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans. Raises :class:`SandboxFault`."""
    record = fault()
    if lib.ll_adopt_orphans(record) < 0:
        raise raised(record)


def watch(path: str) -> int:
    """A descriptor that becomes readable when a cgroup file changes; see ``ll_watch``."""
    record = fault()
    fd = int(lib.ll_watch(os.fsencode(path), record))
    if fd < 0:
        raise raised(record)
    return fd


@contextlib.contextmanager
def seen_as(user: int) -> Iterator[None]:
    """Within it this thread reaches files as ``user`` does, unless that is 0. What /proc tells of a process only to its
    own user and to those with a right to trace it is then told to root without that right, as in a container."""
    before = lib.ll_see_as(user) if user else 0
    try:
        yield
    finally:
        if user:
            lib.ll_see_as(before)


class Process:
    """A process held by its pidfd, so that its pid can never be mistaken for a later one's.

    The owner calls :meth:`reap` (once ``pidfd`` is readable) and :meth:`close`.
    """

    __slots__ = ("pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    def kill(self, number: int = 9) -> None:
        """Send a signal; a process that is gone already is no error."""
        if self.pidfd >= 0:
            record = fault()
            if lib.ll_pidfd_kill(self.pidfd, number, record) < 0:
                raise raised(record)

    def reap(self) -> Exit | None:
        """The exit of this process, which must be a child of ours; ``None`` while it runs."""
        record, code, status = fault(), ffi.new("int *"), ffi.new("int *")
        got = lib.ll_reap(self.pidfd, code, status, record)
        if got < 0:
            if record.code == errno.ECHILD:
                return Exit(os.CLD_KILLED, 9)  # it ended before anybody knew it, and was reaped as a stray
            raise raised(record)
        return Exit(code[0], status[0]) if got else None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Exit:
    """How a process ended: ``status`` if it exited, else ``signal``."""

    __slots__ = ("signal", "status")

    def __init__(self, code: int, status: int) -> None:
        exited = code == os.CLD_EXITED
        self.status = status if exited else 0
        self.signal = 0 if exited else status

    def __repr__(self) -> str:
        return f"Exit(signal={self.signal})" if self.signal else f"Exit(status={self.status})"

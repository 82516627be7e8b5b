"""What code inside may ask of the kernel: the filter of system calls, and Landlock's rules.

Both are laid on a template once and inherited by its workers; a worker then adds what only a template may do. What is
denied, and why, stands in native/sandbox/denied.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lamplighter._sandbox import ffi, lib
from lamplighter.sandbox.native import fault, raised

SOCKETS_SINCE = 6
"""The version of Landlock's interface (Linux 6.12) from which it keeps abstract sockets and signals within."""


class Denied(NamedTuple):
    """A system call that is denied whatever its arguments, and the errno it is told."""

    name: str
    number: int
    code: int
    template_may: bool
    reason: str


class Grant(NamedTuple):
    """A file, or a directory with all below it, that may be read and executed; and perhaps written."""

    path: str
    writable: bool = False


class Confinement(NamedTuple):
    """How the processes of a nest are confined, beside what the nest itself does."""

    filtered: bool = False
    """Whether system calls are filtered."""
    scopes: int = 0
    """What Landlock keeps within: ``LL_SCOPE_SOCKETS``, ``LL_SCOPE_SIGNALS``."""
    grants: tuple[Grant, ...] = ()
    """The files that Landlock leaves; empty where the nest has a root of its own."""

    def layers(self, *, forks: bool) -> int:
        """Layers of the filter for a template, which forks, or for an environment of its own."""
        if not self.filtered:
            return 0
        return int(lib.LL_FILTER_TEMPLATE) | (0 if forks else int(lib.LL_FILTER_TIGHTEN))


def denied_calls() -> Sequence[Denied]:
    calls = ffi.new("struct ll_denied **")
    count = lib.ll_denied_calls(calls)
    return [
        Denied(
            ffi.string(one.name).decode(),
            one.number,
            one.code,
            one.who == lib.LL_FILTER_TIGHTEN,
            ffi.string(one.reason).decode(),
        )
        for one in (calls[0][at] for at in range(count))
    ]


def landlock_version() -> int:
    """The version of the kernel's Landlock interface; 0 without one."""
    return max(0, int(lib.ll_landlock_version()))


def no_filter() -> str:
    """Why system calls cannot be filtered here; empty if they can: a child has tried."""
    record = fault()
    return "" if lib.ll_try(lib.LL_TRY_FILTER, record) == 0 else str(raised(record).strerror)


def no_landlock() -> str:
    """The same for Landlock's rules."""
    record = fault()
    return "" if lib.ll_try(lib.LL_TRY_LANDLOCK, record) == 0 else str(raised(record).strerror)


def scopes(*, isolated: bool) -> int:
    """What Landlock is to keep within: signals only where no pid namespace does."""
    if landlock_version() < SOCKETS_SINCE:
        return 0
    return int(lib.LL_SCOPE_SOCKETS) | (0 if isolated else int(lib.LL_SCOPE_SIGNALS))

"""What one generation knows of the pages that a first invocation writes to; see :mod:`lamplighter.template.pages`.

The first environment that is invoked is asked, once; when it has told, the template passes the pages on to each worker
it forks, and those that are parked already are told themselves.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from lamplighter.sandbox.cgroups import MIB
from lamplighter.template.server import COPY_AHEAD

if TYPE_CHECKING:
    from lamplighter.host.environment import Environment

COPY_BYTES = 256 * MIB
"""Memory that a generation's environments may hold together in pages copied ahead of need."""
_RANGE = struct.Struct("=QQ")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class WorkingSet:
    """``ranges`` are pairs of ``u64``, page number and count; empty until they are known, and if there are none."""

    def __init__(self) -> None:
        self.ranges = b""
        self._bytes = 0
        self._left = COPY_BYTES
        self.wanted = True
        """Whether no environment has been asked yet."""
        self.awaited: Environment | None = None
        """The environment that has been asked and has not told yet."""

    def ask(self, environment: Environment) -> bool:
        """Whether this environment's invocation is the one to tell: it must be its first."""
        if environment.invocations == 0:
            self.awaited = environment
            self.wanted = False
        return self.awaited is environment

    def take(self, environment: Environment, ranges: bytes) -> bool:
        """Take what the environment tells; false if it was not asked, or has told already."""
        if environment is not self.awaited:
            return False
        self.awaited = None
        self.ranges = ranges[: len(ranges) // _RANGE.size * _RANGE.size]
        self._bytes = sum(pages for _, pages in _RANGE.iter_unpack(self.ranges)) * _PAGE
        return True

    def copy_ahead(self, environment: Environment) -> int:
        """``COPY_AHEAD`` if the environment is to copy the pages, as far as the memory for that goes; else 0."""
        if not 0 < self._bytes <= self._left:
            return 0
        self._left -= self._bytes
        environment.prepared = self._bytes
        return COPY_AHEAD

    def forget(self, environment: Environment) -> None:
        """The environment is gone, and what it held is free; if it has not told, another is asked."""
        self._left += environment.prepared
        if environment is self.awaited:
            self.awaited = None
            self.wanted = True

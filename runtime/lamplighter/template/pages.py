"""Which pages a worker has made its own since its fork, and how another can have them before it is asked to work.

A worker shares its template's memory until it writes; then the kernel copies a page, at 3 to 4 microseconds a fault. A
first invocation takes hundreds of such faults, and the next worker's first takes the very same ones, since both run the
same code on the same addresses. So the first invocation of a template is looked at once, and parked workers, which have
time, copy those pages before they are needed.

Facts used, from the kernel's Documentation/admin-guide/mm/pagemap.rst: one ``u64`` a page; bit 63 says present, bit 61
file-backed or shared anonymous, bit 56 (since 4.2) mapped by this process alone.
"""

from __future__ import annotations

import array
import os
from collections.abc import Callable

_PRESENT_AND_EXCLUSIVE = 1 << 63 | 1 << 56
_FILE = 1 << 61
_ENTRY = 8


class Pages:
    """A process's pages. ``populate`` makes ranges private: the caller's way of ``madvise(MADV_POPULATE_WRITE)``."""

    def __init__(self, populate: Callable[[bytes], object]) -> None:
        self.populate = populate

    def private(self) -> bytes:
        """Pages that only this process maps, of mappings it could write to: pairs of ``u64``, page and count."""
        ranges = array.array("Q")
        size = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            areas = [line.split(None, 2)[:2] for line in maps]
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for area, permissions in areas:
                if not permissions.startswith("rw") or permissions[3] != "p":
                    continue
                first, last = (int(address, 16) // size for address in area.split("-"))
                entries = array.array("Q")
                entries.frombytes(os.pread(pagemap.fileno(), (last - first) * _ENTRY, first * _ENTRY))
                _collect(first, entries, ranges)
        return ranges.tobytes()


def _collect(first: int, entries: array.array[int], ranges: array.array[int]) -> None:
    start = -1
    for page, entry in enumerate(entries, first):
        own = entry & _PRESENT_AND_EXCLUSIVE == _PRESENT_AND_EXCLUSIVE and not entry & _FILE
        if own and start < 0:
            start = page
        elif not own and start >= 0:
            ranges.extend((start, page - start))
            start = -1
    if start >= 0:
        ranges.extend((start, first + len(entries) - start))

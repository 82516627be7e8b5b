"""The pages of a process: which a worker has made its own since its fork, and which a template can have in huge ones.

A worker shares its template's memory until it writes; then the kernel copies a page, at 3 to 4 microseconds a fault. A
first invocation takes hundreds of such faults, and the next worker's first takes the very same ones, since both run the
same code on the same addresses. So the first invocation of a template is looked at once, and parked workers, which have
time, copy those pages before they are needed.

A fork copies the page tables, an entry for each page there is, at 0.1 to 0.25 microseconds each: for 50 MB one to three
milliseconds. A huge page has one entry for all of them; page tables are made for those only that somebody writes to.

Facts used, from the kernel's Documentation/admin-guide/mm/pagemap.rst: one ``u64`` a page; bit 63 says present, bit 61
file-backed or shared anonymous, bit 56 (since 4.2) mapped by this process alone.
"""

from __future__ import annotations

import array
import os
from collections.abc import Callable, Iterator

_PRESENT_AND_EXCLUSIVE = 1 << 63 | 1 << 56
_FILE = 1 << 61
_ENTRY = 8
_SIZE = os.sysconf("SC_PAGE_SIZE")
_PER_HUGE = _SIZE // _ENTRY
"""Pages of a huge page: as many as a page has room for entries (2 MiB where pages are of 4 KiB)."""
_LARGEST = 16 << 30
"""Bytes of a mapping that is looked at. A larger one is a reservation, a sanitizer's for example: a function has 10,240
MB at most, and to read eight bytes for each page of a terabyte would take seconds."""
_DENSE = 0.9
"""How much of a huge page must be there already: the rest is memory that the function would be charged for."""


class Pages:
    """A process's pages. ``populate`` makes ranges private: the caller's way of ``madvise(MADV_POPULATE_WRITE)``."""

    def __init__(self, populate: Callable[[bytes], object]) -> None:
        self.populate = populate

    def private(self) -> bytes:
        """Pages that only this process maps, of mappings it could write to: pairs of ``u64``, page and count."""
        ranges = array.array("Q")
        for first, _, entries in areas():
            _collect(first, entries, ranges)
        return ranges.tobytes()


def dense() -> list[tuple[int, int]]:
    """Where this process has nine tenths of a huge page of anonymous memory or more: address and length, bytes."""
    found: list[tuple[int, int]] = []
    for first, of_file, entries in areas():
        if of_file:
            continue
        starts = range(-first % _PER_HUGE, len(entries) - _PER_HUGE + 1, _PER_HUGE)
        found += [
            ((first + page) * _SIZE, _PER_HUGE * _SIZE)
            for page in starts
            if sum(entry >> 63 for entry in entries[page : page + _PER_HUGE]) >= _DENSE * _PER_HUGE
        ]
    return found


def areas() -> Iterator[tuple[int, bool, array.array[int]]]:
    """Each private mapping that this process could write to: first page, whether it is of a file, an entry a page."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        lines = [line.split(None, 5)[:5] for line in maps]
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for area, permissions, _, _, inode in lines:
            if not permissions.startswith("rw") or permissions[3] != "p":
                continue
            first, last = (int(address, 16) // _SIZE for address in area.split("-"))
            if (last - first) * _SIZE > _LARGEST:
                continue
            entries = array.array("Q")
            entries.frombytes(os.pread(pagemap.fileno(), (last - first) * _ENTRY, first * _ENTRY))
            yield first, inode != "0", entries


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

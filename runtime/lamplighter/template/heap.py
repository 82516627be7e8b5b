"""What a template does to its heap, so that its workers write to as few of its pages as possible.

A page is shared until somebody writes to it, and CPython writes to objects it only uses: the garbage collector keeps
its lists and marks in them, and each use is counted in the object itself. What a fork copies of the page tables is an
entry for every page there is, or one for all of a huge page.
"""

from __future__ import annotations

import gc
import os

from lamplighter import _template
from lamplighter.template import pages


def gather() -> bool:
    """Have everything that Python allocates from now on lie together, so that :func:`collapse` finds it so.

    False where it cannot: where the address space is limited (``RLIMIT_AS``), or Python has no GIL.
    """
    return _template.gather_arenas()


def freeze() -> int:
    """Put everything alive out of the collector's reach, and out of reference counting what may be.

    Without a collection: the holes one would leave become pages that every worker copies. ``gc`` has been off since the
    interpreter started. On CPython 3.12 and later what need not tell anybody when it is freed becomes immortal (PEP
    683): text, numbers, code, functions, classes, modules, and tuples of nothing else.

    How many objects became immortal: 0 on an older CPython.
    """
    made = _template.immortalise()
    gc.freeze()
    return made


def collapse() -> int:
    """Back what lies together by huge pages; how many there are then.

    Linux from 6.1 on, whatever the system's setting for huge pages is. Where nine tenths of one are not there yet,
    nothing is done: the rest would be memory that the function is charged for and does not use.
    """
    return sum(_template.collapse(address, length) for address, length in pages.dense())


def resident_bytes() -> int:
    """Memory that workers share with this process: its resident set, bytes (the second field of ``statm``, proc(5))."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

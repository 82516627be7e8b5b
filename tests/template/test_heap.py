"""What the freeze leaves: what is out of reference counting, and that nothing that must tell of its end is."""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from lamplighter.template import heap, pages

PROBE = Path(__file__).with_name("heap_probe.py")
IMMORTALS = sys.version_info >= (3, 12)
"""Whether CPython has immortal objects (PEP 683)."""
_VERSION = re.match(r"([0-9]+)\.([0-9]+)", os.uname().release)
HUGE_PAGES = (
    Path("/sys/kernel/mm/transparent_hugepage").exists()
    and _VERSION is not None
    and (int(_VERSION[1]), int(_VERSION[2])) >= (6, 1)
)
"""Whether the kernel gives huge pages to whoever asks (MADV_COLLAPSE)."""
MADE = {
    "a function",
    "its code",
    "its constants",
    "names",
    "its defaults",
    "a class",
    "its bases",
    "a module",
    "a module's function",
    "text",
    "a key",
    "a number",
}
LEFT = {
    "an instance",
    "a list",
    "a dictionary",
    "a tuple with an instance",
    "a bound method of a list",
    "a generator",
}


def judge(said: dict[str, Any], *, immortals: bool, huge_pages: bool) -> None:
    """What :mod:`tests.template.heap_probe` must say where there are immortal objects or none, huge pages or none."""
    lasting = {name for name, lasts in said["lasting"].items() if lasts}
    assert said["lasting"].keys() == MADE | LEFT | {"a built-in function"}
    assert lasting - {"a built-in function"} == (MADE if immortals else set())
    assert said["gathered"] == [True, True]
    assert said["together"] > 0.8
    assert said["collapsed"][0] == said["collapsed"][1]
    assert said["collapsed"][0] >= 3 or not huge_pages
    resident, writable, total = said["child"]
    assert resident > 4 << 20
    assert writable > 4 << 20
    assert total == said["sum"]
    assert said["made"] > 10_000 if immortals else said["made"] == 0
    assert said["frozen"] > 1000
    assert said["gone"] == ["alone", "bound", "in a dict", "in a list", "in a tuple"]
    assert said["watched"] is True
    assert said["works"] == [["a default", 2.5], 3, "later"]


def test_what_tells_nobody_of_its_end_is_immortal_and_everything_else_is_freed_as_ever() -> None:
    done = subprocess.run([sys.executable, str(PROBE)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    judge(json.loads(done.stdout), immortals=IMMORTALS, huge_pages=HUGE_PAGES)


def test_the_resident_set_is_the_kernels_figure() -> None:
    before = heap.resident_bytes()
    kept = b"x" * (32 << 20)
    assert heap.resident_bytes() - before > 30 << 20
    del kept


def test_what_limits_the_address_space_leaves_pythons_own_arenas() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY));"
        "from lamplighter.template import heap; print(heap.gather(), len([[n] for n in range(300_000)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("False 300000\n", "")


def test_a_mapping_larger_than_any_functions_memory_is_not_read_page_by_page() -> None:
    no_reserve = 0x4000  # MAP_NORESERVE of asm-generic/mman.h; the mmap module has it from Python 3.13 on
    with mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve) as reserved:
        reserved[0] = 1
        looked_at = sum(len(entries) for _, _, entries in pages.areas())
    assert 0 < looked_at < (1 << 40) // mmap.PAGESIZE

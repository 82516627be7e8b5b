"""Instructions, counted by callgrind: the same on a busy machine as on a quiet one, to within a percent.

Only what runs between two marks is counted, so neither the interpreter's start nor the making of inputs is in a figure.
The marks are valgrind's client requests, which need its header and a C compiler.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.coding import EMPTY, counted

ROOT = Path(__file__).resolve().parents[1]

_SHIM = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop(const char *label) { CALLGRIND_DUMP_STATS_AT(label); CALLGRIND_STOP_INSTRUMENTATION; }
"""


def missing() -> str:
    """Why nothing can be counted here; empty where it can."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (Debian: apt install valgrind): no instruction counts"
    if shutil.which("cc") is None:
        return "there is no C compiler: no instruction counts"
    if not any(Path(place, "valgrind/callgrind.h").exists() for place in ("/usr/include", "/usr/local/include")):
        return "valgrind's header callgrind.h is not installed: no instruction counts"
    return ""


def build_shim(directory: Path) -> Path:
    """The two marks as a shared library."""
    library = directory / "marks.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=_SHIM, text=True, check=True, timeout=60)
    return library


def counts(shim: Path, what: str, name: str, directory: Path) -> dict[str, int]:
    """Run :mod:`bench.coding` under callgrind; the instructions of each labelled loop."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={directory}/out",
        sys.executable,
        "-m",
        "bench.coding",
        str(shim),
        what,
        name,
    ]
    # The same hashes in every run, and so the same collisions.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the counted process ended with status {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, int] = {}
    for path in sorted(directory.glob("out.*")):
        text = path.read_text()
        label = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if label is not None and total is not None:
            found[label[1]] = int(total[1])
        path.unlink()
    return found


def per_call(shim: Path, what: str, name: str, directory: Path) -> dict[str, float]:
    """The same for one input, without the loop around the call."""
    found = counts(shim, what, name, directory)
    loop = found.pop(EMPTY)
    return {label: (count - loop) / counted(name) for label, count in found.items()}

"""``make bench``: run the suites, and write ``results/MACHINE-DATE.json`` with its table and charts beside it.

Words are passed on to pytest: ``python -m bench -k warm``.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import bars, report

HERE = Path(__file__).resolve().parent


def machine() -> str:
    """A file name's word for this machine: architecture, processor, cores."""
    facts = bars.machine_facts()
    words = f"{facts['machine']} {facts['cpu']} {facts['cores']}-cores"
    return re.sub("[^a-z0-9_]+", "-", words.lower()).strip("-")


def main(words: list[str]) -> int:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{machine()}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    status = pytest.main([str(HERE), f"--benchmark-json={path}", *words])
    if path.exists() and path.stat().st_size:
        report.main([str(path)])
        print(f"written to {path} and {path.with_suffix('')}/")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

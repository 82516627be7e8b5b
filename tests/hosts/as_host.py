"""Hosts of the kinds that :mod:`tests.hosts.container` makes, for the tests: served from, or asked what they hold."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.host.serving import COMMAND, wait_for
from tests.hosts.container import USER

CONTAINER = Path(__file__).with_name("container.py")


def _may_make_containers() -> bool:
    status = Path("/proc/self/status").read_text()
    (capabilities,) = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return os.geteuid() == 0 and bool(int(capabilities, 16) >> 21 & 1)


needs_root = pytest.mark.skipif(
    not _may_make_containers(), reason="making a container of this process needs root and CAP_SYS_ADMIN"
)


def command(kind: str) -> tuple[str, ...]:
    """What runs ``lamplighter`` on a host of that kind."""
    return (sys.executable, "-P", str(CONTAINER), kind, *COMMAND)


def shown(directory: Path) -> dict[str, str]:
    """Let everybody read a directory of a test's; the variables with which everybody finds the way to it there."""
    directory.chmod(0o755)
    return {"SHOW": str(directory)}


def owned(directory: Path) -> dict[str, str]:
    """Hand a directory of a test's to the ordinary user; the variables with which a host of theirs finds it."""
    os.chown(directory, USER, USER)
    return {"SHOW": str(directory), "TMPDIR": str(directory)}


def run(kind: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``lamplighter`` to its end there."""
    return subprocess.run(
        [*command(kind), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **variables},
    )


def doctor(kind: str, **variables: str) -> dict[str, dict[str, Any]]:
    """The rows that ``lamplighter doctor --json`` prints there, by limit."""
    done = run(kind, "doctor", "--json", **variables)
    assert done.returncode == 0, done.stderr
    return {row["limit"]: row for row in json.loads(done.stdout)["limits"]}


def running(marker: str) -> list[int]:
    """Processes that have ``marker`` on their command line."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and marker.encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                found.append(int(entry))
    return found


def gone(marker: str) -> None:
    """Wait until no process bears ``marker``."""
    wait_for(lambda: not running(marker), lambda: f"{running(marker)} are gone", 15)

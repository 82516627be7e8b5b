"""No test is skipped for what this machine has: a run in which one is, fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import skips

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("everything", "status"), [("1", 1), ("0", 0)])
def test_a_skip_for_no_known_reason_fails_a_run_of_everything(tmp_path: Path, everything: str, status: int) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_passes(): pass\ndef test_skips(): pytest.skip('I do not feel like it')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", "-p", "no:cacheprovider", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "LAMPLIGHTER_EVERY_TEST": everything},
    )
    assert done.returncode == status, done.stdout
    assert ("skipped, though this machine has what it takes" in done.stdout) == bool(status)
    assert "test_it.py::test_skips: Skipped: I do not feel like it" in done.stdout or not status


def test_a_reason_counts_only_where_this_machine_lacks_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert skips.unexpected("Skipped: namespaces and uid ranges need root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not skips.unexpected("Skipped: namespaces and uid ranges need root")
    monkeypatch.setattr(skips, "own_cgroups", lambda: {"memory": "/m"})
    assert skips.unexpected("no writable cgroup for memory")
    assert not skips.unexpected("no writable cgroup for memory, pids")
    assert skips.unexpected("")

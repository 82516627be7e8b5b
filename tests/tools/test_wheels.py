"""Wheels: this machine's, as a user installs it, and which ones are built for other machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_the_wheel_installs_into_an_empty_environment_and_serves(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "try_wheel.py"), "--dist", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.iterdir()
    assert done.stdout.startswith(f"{wheel}: lamplighter ")
    assert done.stdout.endswith(", installed into an empty environment, serves\n")


def test_the_wheel_script_says_what_failed_and_ends_with_status_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "try_wheel.py"), "--dist", str(tmp_path)],
        env={"PATH": "/nowhere", "HOME": str(tmp_path), "CC": "/no/such/compiler", "PIP_NO_INDEX": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("try_wheel: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_wheels_are_configured_for_both_machines_both_libcs_and_four_pythons(machine: str) -> None:
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", "linux"]
    done = subprocess.run(
        [*command, "--archs", machine, str(ROOT)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = {f"cp3{minor}-{libc}_{machine}" for minor in (11, 12, 13, 14) for libc in ("manylinux", "musllinux")}
    assert set(done.stdout.split()) == expected

"""The sandbox's C under AddressSanitizer and UndefinedBehaviorSanitizer, and with warnings as errors."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native" / "sandbox"
WITHOUT_PYTHON = (
    "fault.c",
    "root.c",
    "nest.c",
    "spawn.c",
    "process.c",
    "disk.c",
    "network.c",
    "seccomp.c",
    "landlock.c",
    "try.c",
)
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
# As setup.py builds the keeper.
FREESTANDING = (
    "-Os",
    "-nostdlib",
    "-static",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
)

compiler = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(compiler is None, reason="no C compiler")


def _compile(arguments: list[str]) -> None:
    assert compiler is not None
    done = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _image(directory: Path) -> Path:
    """An empty ext4; an empty file where none can be made or mounted: the program leaves disks out then."""
    image = directory / "image"
    with image.open("wb") as file:
        if os.path.exists("/dev/loop-control") and shutil.which("mke2fs"):
            file.truncate(16 << 20)
            subprocess.run(
                ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", str(image)],
                check=True,
                timeout=60,
            )
    return image


@pytest.mark.skipif(os.geteuid() != 0, reason="nests need root")
def test_nests_and_programs_under_the_sanitizers_leave_nothing_and_name_every_fault(tmp_path: Path) -> None:
    keeper, program, staging = tmp_path / "keeper", tmp_path / "test_sandbox", tmp_path / "staging"
    staging.mkdir()
    _compile([*FREESTANDING, "-o", str(keeper), str(NATIVE / "keeper.c")])
    sources = [str(NATIVE / name) for name in WITHOUT_PYTHON]
    test = str(Path(__file__).with_name("test_sandbox.c"))
    _compile([*WARNINGS, *SANITIZERS, f"-I{NATIVE}", "-o", str(program), test, *sources])
    done = subprocess.run(
        [str(program), str(keeper), str(staging), str(_image(tmp_path))],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", done.stderr
    assert "0 failures" in done.stdout
    assert int(done.stdout.split()[-4]) > 100
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("source", [*WITHOUT_PYTHON, "keeper.c"])
def test_each_source_compiles_without_a_warning(source: str, tmp_path: Path) -> None:
    # -O2, because some warnings come from the optimiser's analysis.
    extra = ["-ffreestanding"] if source == "keeper.c" else []
    _compile([*WARNINGS, *extra, "-O2", "-c", "-o", str(tmp_path / "object.o"), str(NATIVE / source)])

"""The decoder's C compiled in other ways than it is shipped: a wrong dict layout, no SIMD, sanitizers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(map(str, (ROOT / "native" / "events").glob("*.c")))
FLAGS = (
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wstrict-prototypes",
    "-fvisibility=hidden",
    "-shared",
    "-fPIC",
    f"-I{sysconfig.get_paths()['include']}",
)
EXERCISE = Path(__file__).with_name("exercise_decoder.py")

compiler = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(compiler is None, reason="no C compiler")


def _build(directory: Path, *flags: str) -> Path:
    assert compiler is not None
    extension = directory / f"_events{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = [compiler, *FLAGS, *flags, "-o", str(extension), *SOURCES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return extension


def _exercise(extension: Path, **variables: str) -> tuple[str, str]:
    """Decode by it all that the script has; which layout it found, and which scanner it chose."""
    done = subprocess.run(
        [sys.executable, str(EXERCISE), str(extension)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    layout, scanner = done.stdout.splitlines()
    return layout, scanner


WRONG = {
    1: "a field more in the head of a key table",
    2: "two counts exchanged",
    3: "key and value exchanged",
    4: "entries of three words",
    5: "another number for tables of strings",
    6: "another probe sequence",
    7: "another fill limit",
    8: "another width of the index",
}


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="there is no layout to be wrong about")
@pytest.mark.parametrize("fault", range(1, 9), ids=[WRONG[number] for number in range(1, 9)])
def test_a_wrong_dict_layout_is_found_out_at_import_and_decoding_does_without(fault: int, tmp_path: Path) -> None:
    layout, _ = _exercise(_build(tmp_path, "-O0", f"-DLL_LAYOUT_FAULT={fault}"))
    assert layout not in {"direct", "unknown"}


def test_without_a_known_layout_decoding_is_the_same(tmp_path: Path) -> None:
    layout, _ = _exercise(_build(tmp_path, "-O0", "-DLL_LAYOUT_KNOWN=0"))
    assert layout == "unknown"


@pytest.mark.parametrize("macro", ["-DLL_NO_SIMD", "-DLL_NO_WORDS"])
def test_without_simd_decoding_is_the_same(macro: str, tmp_path: Path) -> None:
    _, scanner = _exercise(_build(tmp_path, "-O0", "-DLL_NO_SIMD", macro))
    assert scanner == ("bytes" if macro == "-DLL_NO_WORDS" else "words")


def test_the_allocators_agree_on_whose_each_table_is(tmp_path: Path) -> None:
    # The debug allocator ends the process when memory of one family is freed to another, or written past its end.
    _exercise(_build(tmp_path, "-O0"), PYTHONMALLOC="debug")


@pytest.mark.skipif(platform.system() != "Linux", reason="the sanitizers are preloaded as on Linux")
def test_decoding_is_clean_under_the_sanitizers(tmp_path: Path) -> None:
    assert compiler is not None
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        libraries.append(found.stdout.strip())
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("this compiler has no shared sanitizer libraries")
    extension = _build(
        tmp_path, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"
    )
    # The interpreter's own objects outlive it; what the decoder leaks is counted in tests/events. malloc: so that every
    # object has its own guarded block.
    _exercise(extension, LD_PRELOAD=" ".join(libraries), ASAN_OPTIONS="detect_leaks=0", PYTHONMALLOC="malloc")


@pytest.mark.parametrize("machine", ["aarch64-linux-gnu-gcc"])
def test_it_compiles_for_other_machines(machine: str) -> None:
    other = shutil.which(machine)
    if other is None:
        pytest.skip(f"{machine} is not installed")
    command = [other, *FLAGS, "-O2", "-fsyntax-only", *SOURCES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr

"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer, and with warnings as errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
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


HEADS = """
import importlib.util, random, sys
spec = importlib.util.spec_from_file_location("lamplighter._http", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
HEAD = (
    b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nLambda-Runtime-Aws-Request-Id: id-1\\r\\n"
    b"Lambda-Runtime-Deadline-Ms: 4102444800000\\r\\nLambda-Runtime-Client-Context: \\xc3\\xa9\\r\\n"
    b"Content-Length: 2\\r\\n\\r\\n{}"
)
rng = random.Random(6)
read = 0
for cut in range(len(HEAD) + 1):
    module.parse_head(HEAD[:cut])
for _ in range(20000):
    data = bytearray(HEAD)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    read += module.parse_head(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data)) is not None
print(read)
"""


def _sanitized(directory: str, extension: Path) -> dict[str, str]:
    """Build an extension module of ``native/`` with the sanitizers; the variables that load it into this Python."""
    assert compiler is not None
    include = f"-I{sysconfig.get_path('include')}"
    sources = sorted(str(path) for path in (ROOT / "native" / directory).glob("*.c"))
    _compile([*WARNINGS, *SANITIZERS, "-shared", "-fPIC", include, "-o", str(extension), *sources])
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(os.path.isabs(library) for library in libraries):
        pytest.skip("the compiler's sanitizers cannot be loaded into a program that was built without them")
    # What the interpreter itself never frees is not looked for.
    return {"LD_PRELOAD": ":".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}


def test_heads_of_any_bytes_are_read_under_the_sanitizers_without_a_fault(tmp_path: Path) -> None:
    extension = tmp_path / "_http.so"
    variables = _sanitized("http", extension)
    done = subprocess.run(
        [sys.executable, "-S", "-c", HEADS, str(extension)],
        # Python's own allocator would hide reads past the end.
        env={**variables, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


HEAP = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("lamplighter._template", sys.argv[1])
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def test_a_heap_is_gathered_frozen_and_collapsed_under_the_sanitizers_without_a_fault(tmp_path: Path) -> None:
    extension = tmp_path / "_template.so"
    variables = _sanitized("template", extension)
    probe = ROOT / "tests" / "template" / "heap_probe.py"
    done = subprocess.run(
        [sys.executable, "-c", HEAP, str(extension), str(probe)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["gathered"] == [True, True]

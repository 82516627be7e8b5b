"""Build the Lambda layer: ``dist/lamplighter-layer-x86_64.zip`` and ``-arm64.zip``, the same bytes at every build.

    python tools/build_layer.py [--machine x86_64|arm64]... [--python INTERPRETER]... [--out DIRECTORY]

Unpacked at ``/opt`` the layer holds ``bootstrap`` (for provided.al2023), ``lamplighter`` (for AWS_LAMBDA_EXEC_WRAPPER)
and ``python/lamplighter``: the rooms that run on AWS, their bytecode, since nobody can write it there, and the
extension modules, for each CPython named. By default these are 3.11 to 3.14 as far as they are found on PATH or in
pyenv. What is for the other machine is compiled with gcc's cross compiler against the same headers: all that differs in
them for a 64-bit little-endian Linux is in no structure that these modules use.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runtime" / "lamplighter"
ROOMS = ("bootstrap", "worker", "template", "events")
EXTENSIONS = {"_events": "events", "_http": "http", "_template": "template"}
"""Extension modules that run on AWS, and where their C is below ``native/``."""
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
OLDEST_GLIBC = (2, 26)
"""Amazon Linux 2's, on which AWS runs Python 3.11; later Pythons have Amazon Linux 2023's, 2.34."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Machine(NamedTuple):
    """A processor, as Lambda, the compiler and ELF (``e_machine``) name it."""

    name: str
    gnu: str
    elf: int


MACHINES = {"x86_64": Machine("x86_64", "x86_64", 62), "arm64": Machine("arm64", "aarch64", 183)}


class Python(NamedTuple):
    """One interpreter of the build machine."""

    path: str
    version: str
    tag: str
    include: str


class BuildFault(Exception):
    """The layer cannot be built; the text says why."""


_FACTS = """
import json, sys, sysconfig
print(json.dumps([f"{sys.version_info.major}.{sys.version_info.minor}", sys.implementation.cache_tag,
                  sysconfig.get_path("include"), sys.implementation.name]))
"""
_COMPILE = """
import py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for source in sys.stdin.read().splitlines():
    name = source.rpartition("/")[2].removesuffix(".py")
    target = f"{source.rpartition('/')[0]}/__pycache__/{name}.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(source, target, f"/opt/{source}", True, invalidation_mode=mode)
"""


def _run(command: Sequence[str], what: str, *, text: str = "", cwd: Path = ROOT) -> str:
    done = subprocess.run(
        command, input=text, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env=_environment()
    )
    if done.returncode != 0:
        raise BuildFault(f"{what} failed (status {done.returncode}):\n{done.stderr[-3000:]}")
    return done.stdout


def _environment() -> dict[str, str]:
    # Hash randomisation would show in bytecode: sets of constants are written in their order.
    return {**os.environ, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}


def describe(path: str) -> Python | None:
    """The interpreter at ``path``, if it is a CPython that is supported and has its headers."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _FACTS],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        version, tag, include, name = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if name != "cpython" or version not in SUPPORTED or not (Path(include) / "Python.h").is_file():
        return None
    return Python(path, version, tag, include)


def found_pythons() -> list[Python]:
    """One interpreter for each supported version that there is: this one, those on PATH, pyenv's."""
    candidates = [sys.executable]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in SUPPORTED:
        candidates += [path for path in [shutil.which(f"python{version}")] if path]
        candidates += sorted(str(path) for path in versions.glob(f"{version}.*/bin/python{version}"))
    found: dict[str, Python] = {}
    for path in candidates:
        python = describe(path)
        if python is not None:
            found.setdefault(python.version, python)
    return [found[version] for version in sorted(found)]


def compiler_for(machine: Machine) -> list[str]:
    """The command that compiles for ``machine``: $CC where that does, else gcc by its full name."""
    own = os.environ.get("CC", "cc").split()
    for command in (own, [f"{machine.gnu}-linux-gnu-gcc"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, timeout=60, check=False)
            if done.stdout.startswith(f"{machine.gnu}-"):
                return command
    raise BuildFault(f"no compiler for {machine.name}: install gcc-{machine.gnu}-linux-gnu")


def compile_extension(machine: Machine, python: Python, sources: Path, target: Path) -> None:
    """Compile one extension module and see that it runs on the oldest system that AWS has."""
    flags = ["-std=gnu11", "-O2", "-DNDEBUG", "-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes"]
    flags += ["-fvisibility=hidden", "-fPIC", "-shared", "-s", "-Wl,--build-id=none", f"-ffile-prefix-map={ROOT}=."]
    command = [*compiler_for(machine), *flags, "-isystem", python.include, "-o", str(target)]
    command += [*sorted(str(path) for path in sources.glob("*.c")), "-lm"]
    _run(command, f"compiling {sources} for {machine.name} and Python {python.version}")
    needed = _run(["readelf", "--version-info", "--wide", str(target)], "readelf")
    for major, minor in re.findall(r"GLIBC_(\d+)\.(\d+)", needed):
        if (int(major), int(minor)) > OLDEST_GLIBC:
            raise BuildFault(f"{target.name} needs glibc {major}.{minor}, and Amazon Linux 2 has 2.26")


def sources() -> list[Path]:
    """The package as far as it runs on AWS."""
    files = [PACKAGE / "py.typed", *PACKAGE.glob("*.py")]
    for room in ROOMS:
        files += (PACKAGE / room).rglob("*.py")
    return sorted(path for path in files if path.name != "__main__.py" or path.parent != PACKAGE)


def stage(directory: Path, machine: Machine, pythons: Iterable[Python]) -> None:
    """Fill ``directory`` with what ``/opt`` is to hold."""
    for script in sorted((ROOT / "tools" / "layer").iterdir()):
        shutil.copy(script, directory / script.name)
        (directory / script.name).chmod(0o755)
    names = []
    for source in sources():
        name = f"python/lamplighter/{source.relative_to(PACKAGE)}"
        names.append(name)
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, directory / name)
    modules = "\n".join(name for name in names if name.endswith(".py"))
    for python in pythons:
        _run([python.path, "-I", "-c", _COMPILE], f"bytecode of {python.version}", text=modules, cwd=directory)
        for name, folder in EXTENSIONS.items():
            target = directory / "python" / "lamplighter" / f"{name}.{python.tag}-{machine.gnu}-linux-gnu.so"
            compile_extension(machine, python, ROOT / "native" / folder, target)


def pack(directory: Path, target: Path) -> None:
    """Write the archive: names in order, one time for all, permissions and nothing else of the build machine."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(directory)), _EPOCH)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = os.access(path, os.X_OK) and path.parent == directory
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, path.read_bytes())


def build(machine: Machine, pythons: Sequence[Python], out: Path) -> Path:
    """One layer; its file."""
    target = out / f"lamplighter-layer-{machine.name}.zip"
    with tempfile.TemporaryDirectory(prefix="lamplighter-layer-") as directory:
        stage(Path(directory), machine, pythons)
        pack(Path(directory), target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build_layer.py", description="Build the Lambda layer.")
    parser.add_argument("--machine", action="append", choices=sorted(MACHINES), help="default: both")
    parser.add_argument("--python", action="append", help="an interpreter to compile for; default: all that are found")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args(arguments)
    try:
        pythons = found_pythons()
        if options.python:
            chosen = [(path, describe(path)) for path in options.python]
            for path, python in chosen:
                if python is None:
                    raise BuildFault(f"{path} is no CPython {' or '.join(SUPPORTED)} with its headers")
            pythons = [python for _, python in chosen if python is not None]
        for name in options.machine or sorted(MACHINES):
            target = build(MACHINES[name], pythons, options.out)
            print(f"{target}: {target.stat().st_size:,} bytes, Python {', '.join(one.version for one in pythons)}")
    except BuildFault as fault:
        print(f"build_layer.py: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

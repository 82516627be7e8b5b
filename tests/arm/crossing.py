"""An arm64 Python on this machine, and this package built for it: no emulation while building, and no second machine.

The packages of Debian's arm64 port are fetched by ``apt-get download`` with settings of its own and unpacked, not
installed; the wheel is cross-compiled against the headers among them; and qemu-user runs the Python. What it opens is
looked for in the unpacked tree first and on this machine next, so the tests themselves need no copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "arm64"
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
PYTHON = "3.11"
"""Debian bookworm's. The interpreter that builds has to be of that version too: it is asked for the wheel's tags."""

PACKAGES = [
    "libc6",
    "libgcc-s1",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libcrypt1",
    "libnsl2",
    "libtirpc3",
    "libuuid1",
    "libsqlite3-0",
    "libreadline8",
    "libtinfo6",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libpython3.11-dev",
]
"""A whole Python, what it is linked with, and its headers."""

WHEELS = [
    "cffi",
    "pycparser",
    "pytest",
    "pytest-timeout",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "hypothesis",
    "sortedcontainers",
    "psutil",
    "orjson",
    "snapshot_restore_py",
    "click",
    "httptools",
    "markdown-it-py",
    "mdurl",
    "msgspec",
    "rich",
    "uvloop",
]
"""What the unit tests import, built for arm64 by their own projects."""

_SETTINGS = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
Dir::Etc::sourcelist "{here}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{here}/state";
Dir::State::status "{here}/status";
Dir::Cache "{here}/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
"""


def missing() -> str:
    """Why nothing can be built or run for arm64 here; empty if it can."""
    absent = [tool for tool in (COMPILER, EMULATOR, "apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        return (
            f"the arm64 Python at hand is {PYTHON}, and this one is {sys.version_info.major}.{sys.version_info.minor}"
        )
    return ""


def run(command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run to the end; what it wrote. Fails with the end of that."""
    done = subprocess.run(
        ["nice", *command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        name = Path(command[0]).name
        raise AssertionError(f"{name} {command[1]} … ended with status {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def unpacked_tree() -> Path:
    """The unpacked packages, in ``tree``, and the wheels, in ``site``; made once and kept in the checkout's cache."""
    wanted = f"{PACKAGES} {WHEELS}"
    if (CACHE / "complete").exists() and (CACHE / "complete").read_text() == wanted:
        return CACHE
    if CACHE.exists():
        shutil.rmtree(CACHE)
    for name in ("state/lists/partial", "cache/archives/partial", "packages", "tree", "wheels", "site"):
        (CACHE / name).mkdir(parents=True)
    (CACHE / "status").touch()
    (CACHE / "apt.conf").write_text(_SETTINGS.format(here=CACHE))
    # The mirrors that this machine itself installs from.
    lines = run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "deb [arch=arm64] $(REPO_URI) $(CODENAME) main",
            "Identifier: Packages",
            "Origin: Debian",
        ],
        60,
    )
    (CACHE / "sources.list").write_text("\n".join(sorted(set(lines.splitlines()))) + "\n")
    settings = {"APT_CONFIG": str(CACHE / "apt.conf")}
    run(["apt-get", "update", "-q"], 120, settings)
    run(["apt-get", "download", "-q", *PACKAGES], 120, settings, CACHE / "packages")
    for package in sorted((CACHE / "packages").glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(CACHE / "tree")], 60)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", PYTHON, "--dest", str(CACHE / "wheels")]
    for tag in ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_28_aarch64"):
        command += ["--platform", tag]
    run([*command, *WHEELS], 120)
    for wheel in (CACHE / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(CACHE / "site")
    shutil.rmtree(CACHE / "cache")
    (CACHE / "complete").write_text(wanted)
    return CACHE


def built_wheel(cache: Path, directory: Path) -> Path:
    """This source tree's wheel for arm64, built in ``directory`` from a copy, so that the checkout's build stays."""
    source = directory / "source"
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    built = shutil.ignore_patterns("*.so", "_keeper", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "native", source / "native", ignore=built)
    shutil.copytree(ROOT / "runtime", source / "runtime", ignore=built)
    headers = cache / "tree" / "usr" / "include"
    # How a Python describes its own build: here the arm64 one's words, for setuptools to take as those of this one.
    described = cache / "tree" / "usr" / "lib" / f"python{PYTHON}" / "_sysconfigdata__aarch64-linux-gnu.py"
    (directory / "described").mkdir()
    shutil.copy(described, directory / "described")
    environment = {
        "CC": COMPILER,
        "LDSHARED": f"{COMPILER} -shared",
        "CFLAGS": f"-I{headers}/python{PYTHON} -I{headers}",
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "_PYTHON_SYSCONFIGDATA_NAME": described.stem,
        "PYTHONPATH": str(directory / "described"),
    }
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", str(directory / "dist")]
    run(command, 180, environment, source)
    (wheel,) = (directory / "dist").glob("*.whl")
    return wheel


def interpreter(cache: Path, directory: Path, library: Path) -> Path:
    """A program that is the arm64 Python with ``library`` and the wheels importable; its children too, by its name."""
    program = directory / "python"
    tree = cache / "tree"
    program.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH={library}:{cache / 'site'} PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1\n"
        f'exec {shutil.which(EMULATOR)} -L {tree} -0 {program} {tree}/usr/bin/python{PYTHON} "$@"\n'
    )
    program.chmod(0o755)
    return program

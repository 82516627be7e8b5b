"""Names the system package that is missing, before pip or the compiler fail with something obscure.

``python3 tools/check_environment.py`` is silent with exit status 0 when Lamplighter can be set up with this Python, and
otherwise prints one line for each thing that is missing and ends with exit status 1. It uses only the standard library
and must run on any Python 3, however old: no f-strings, no annotations of variables.
"""

# ruff: noqa: UP021, UP032 - `text=` and f-strings are errors on the Pythons that this must still be able to refuse

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

OLDEST = (3, 11)  # requires-python in pyproject.toml
PROBE = "#include <Python.h>\n#include <linux/sched.h>\n#include <sys/mount.h>\nint probe(void) { return 0; }\n"


def missing():
    # type: () -> list[str]
    """One sentence for each thing that is missing: what it is, and the packages that have it."""
    if sys.version_info[:2] < OLDEST:
        return [
            "Python {}.{} or newer is needed; {} is {}. Debian 12, Ubuntu 24.04 and newer: apt install python3 "
            "python3-venv python3-dev; Fedora: dnf install python3 python3-devel; or name a newer one that is already "
            "here, for example: make PYTHON=python3.12 run".format(
                OLDEST[0], OLDEST[1], sys.executable, sys.version.split()[0]
            )
        ]
    return modules() + headers_and_compiler() + make()


def modules():
    # type: () -> list[str]
    # Debian ships venv without ensurepip, which is in a package of its own; then `python3 -m venv` fails half-way.
    lacking = []
    for name in ("venv", "ensurepip"):
        try:
            __import__(name)
        except ImportError:
            lacking.append(name)
    if not lacking:
        return []
    return [
        "{} has no {}. Debian, Ubuntu: apt install {}-venv; Fedora: dnf install python3-libs".format(
            sys.executable, " and no ".join(lacking), versioned()
        )
    ]


def headers_and_compiler():
    # type: () -> list[str]
    faults = []
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").exists():
        faults.append(
            "the headers of {} are missing ({}/Python.h). Debian, Ubuntu: apt install python3-dev (or {}-dev); "
            "Fedora: dnf install python3-devel".format(sys.executable, include, versioned())
        )
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        faults.append(
            "there is no C compiler ({}). Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; "
            "or name another: CC=clang make ...".format(compiler[0])
        )
    return faults or trial(compiler, include)


def trial(compiler, include):
    # type: (list[str], str) -> list[str]
    """Compiles and links an extension of one line: finds a compiler that is there but lacks the C library's headers."""
    with tempfile.TemporaryDirectory(prefix="lamplighter-check-") as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        command = [*compiler, "-I" + include, "-fPIC", "-shared", str(source), "-o", str(source.with_suffix(".so"))]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode == 0:
        return []
    said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [done.stderr.strip()]
    return [
        "the C compiler cannot build a Python extension ({}). Debian, Ubuntu: apt install libc6-dev linux-libc-dev; "
        "Fedora: dnf install glibc-devel kernel-headers".format(said[0])
    ]


def make():
    # type: () -> list[str]
    if shutil.which("make"):
        return []
    return ["there is no make. Debian, Ubuntu: apt install make; Fedora: dnf install make"]


def versioned():
    # type: () -> str
    return "python{}.{}".format(*sys.version_info[:2])


if __name__ == "__main__":
    faults = missing()
    for fault in faults:
        sys.stderr.write("lamplighter: " + fault + "\n")
    sys.exit(1 if faults else 0)

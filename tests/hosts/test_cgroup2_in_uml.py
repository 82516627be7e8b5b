"""Cgroup version 2, whatever this machine has: the checks run in a kernel of their own, which boots in two seconds.

Each test here stands for one of :data:`MODULES` and passes if that one did.
"""

from __future__ import annotations

import ast
import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODULES = (
    "tests/sandbox/test_cgroups.py",
    "tests/sandbox/test_survey.py",
    "tests/hosts/cgroup2_checks.py",
    "tests/hosts/delegated_checks.py",
)
BOOT_AND_RUN_S = 600
"""At most: it takes a minute on two idle processors, and has taken four beside twenty other busy processes."""

pytestmark = [
    pytest.mark.skipif(shutil.which("linux.uml") is None, reason="user-mode Linux is not installed (linux.uml)"),
    pytest.mark.timeout(BOOT_AND_RUN_S + 30),
]


def _tests(module: str) -> list[str]:
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [f"{module}::{name}" for name in functions if name.startswith("test_")]


CHECKS = [name for module in MODULES for name in _tests(module)]


def _preload(directory: Path) -> dict[str, str]:
    """The library that lets the kernel run on processors with more state than it knows; only x86 has that trouble."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if platform.machine() != "x86_64" or compiler is None:
        return {}
    library = directory / "uml_xstate.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(library), str(HERE / "uml_xstate.c")], check=True)
    return {"UML_PRELOAD": str(library)}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that the machine wrote to its console."""
    # Not the path of a shell's shim, and not sys.executable resolved: that would leave the virtual environment.
    inside = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-rA", "-q", "--tb=short"]
    # In a pid namespace of its own, where one can be had: all that the machine consists of then ends with it.
    apart = (
        ["unshare", "--pid", "--fork", "--kill-child", "--"] if os.geteuid() == 0 and shutil.which("unshare") else []
    )
    directory = tmp_path_factory.mktemp("uml")
    process = subprocess.Popen(
        [*apart, str(HERE / "uml.sh"), "/usr/bin/env", "-C", str(ROOT), *inside, *MODULES],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            **_preload(directory),
            "HOME": str(directory),
            "UML_KEEP": f"{sys.prefix}:{sys.base_prefix}",
        },
        start_new_session=True,
    )
    said = b""
    try:
        said, _ = process.communicate(timeout=BOOT_AND_RUN_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            rest, _ = process.communicate(timeout=20)
            said = said or rest
    text = said.decode(errors="replace")
    assert re.search(r"^uml: exit status \d+\s*$", text, re.MULTILINE), (
        f"the machine did not come to its end:\n{text[-8000:]}"
    )
    return text


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rpartition("::")[2])
def test_on_cgroup_version_2(console: str, check: str) -> None:
    # A test with parameters has a line for each, with the parameters in brackets.
    outcomes = re.findall(rf"^(PASSED|FAILED|ERROR) {re.escape(check)}(?:\[.*\])?(?: - .*)?\s*$", console, re.MULTILINE)
    assert outcomes, f"it did not run there:\n{console[-8000:]}"
    assert set(outcomes) == {"PASSED"}, console[-16000:]

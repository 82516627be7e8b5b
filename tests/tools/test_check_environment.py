"""The check that names a missing system package before anything else fails."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check_environment.py"
Version = namedtuple("Version", "major minor micro releaselevel serial")


@pytest.fixture
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_environment", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


needs_compiler = pytest.mark.skipif(
    shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None
    or not Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    reason="this machine has no C compiler or no Python.h",
)


def test_it_has_no_syntax_that_an_old_python_3_refuses() -> None:
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match, ast.TryStar)
    tree = ast.parse(SCRIPT.read_text())
    assert len(list(ast.walk(tree))) > 300
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, newer)] == []


@needs_compiler
def test_it_is_silent_when_all_is_there(check: ModuleType) -> None:
    if shutil.which("make") is None:
        pytest.skip("this machine has no make")
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_old_python_is_the_only_thing_it_speaks_of(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, 10, 9, "final", 0))
    [fault] = check.missing()
    assert fault.startswith("Python 3.11 or newer is needed")
    assert "apt install python3 python3-venv python3-dev" in fault
    assert "dnf install python3 python3-devel" in fault


def test_missing_ensurepip_names_the_venv_package(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    [fault] = check.modules()
    assert "has no ensurepip" in fault
    assert f"apt install python{sys.version_info.major}.{sys.version_info.minor}-venv" in fault


def test_missing_headers_name_the_development_package(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setenv("CC", sys.executable)  # any command that exists
    [fault] = check.headers_and_compiler()
    assert f"({tmp_path}/Python.h)" in fault
    assert "apt install python3-dev" in fault and "dnf install python3-devel" in fault


def test_a_missing_compiler_is_named_with_its_package(check: ModuleType, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "CC": "no-such-compiler -O2"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no C compiler (no-such-compiler)" in done.stderr and "apt install gcc libc6-dev" in done.stderr
    assert "there is no make" in done.stderr and "dnf install make" in done.stderr


@needs_compiler
def test_a_compiler_that_cannot_build_an_extension_says_why(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "PROBE", "#include <no/such/header.h>\n")
    monkeypatch.delenv("CC", raising=False)
    [fault] = check.headers_and_compiler()
    assert "no/such/header.h" in fault and "apt install libc6-dev" in fault

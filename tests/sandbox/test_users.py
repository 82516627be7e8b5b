"""Other users for functions where there are no namespaces: found by running Python as one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from lamplighter.sandbox import users


def test_only_root_can_give_functions_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert users.available() == (0, "only root can give them others")


@pytest.mark.skipif(os.geteuid() != 0, reason="this process is not root")
def test_where_nobody_else_can_run_this_python_the_reason_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    shutil.copy("/bin/true", private / "python")
    monkeypatch.setattr(sys, "executable", str(private / "python"))
    first, problem = users.available()
    assert first == 0
    assert problem == f"uid 40000 cannot run {private}/python: Permission denied"


@pytest.mark.skipif(os.geteuid() != 0, reason="this process is not root")
def test_where_anybody_can_the_first_is_far_above_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert users.available() == (0x4C00_0000, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="this process is not root")
def test_what_it_says_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/cat")
    assert users.available()[1].startswith("uid 40000 cannot run /bin/cat: ")

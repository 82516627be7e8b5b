"""The hooks of snapshot_restore_py around a fork: their order, their arguments, and whose their exceptions are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import snapshot_restore_py

from lamplighter.template import hooks


@pytest.fixture
def said() -> Iterator[list[str]]:
    registries = (snapshot_restore_py.get_before_snapshot(), snapshot_restore_py.get_after_restore())
    for registry in registries:
        registry.clear()
    yield []
    for registry in registries:
        registry.clear()


def test_hooks_before_a_snapshot_run_last_registered_first(said: list[str]) -> None:
    for name in ("first", "second", "third"):
        snapshot_restore_py.register_before_snapshot(said.append, name)
    snapshot_restore_py.register_after_restore(said.append, "not now")
    hooks.run_before_snapshot()
    assert said == ["third", "second", "first"]


def test_hooks_after_a_restore_run_first_registered_first(said: list[str]) -> None:
    for name in ("first", "second", "third"):
        snapshot_restore_py.register_after_restore(said.append, name)
    snapshot_restore_py.register_before_snapshot(said.append, "not now")
    hooks.run_after_restore()
    assert said == ["first", "second", "third"]


def test_a_hook_gets_the_arguments_it_was_registered_with(said: list[str]) -> None:
    @snapshot_restore_py.register_after_restore  # type: ignore[untyped-decorator]
    def plain() -> None:
        said.append("plain")

    def named(what: str, *, how: str) -> None:
        said.append(f"{what} {how}")

    snapshot_restore_py.register_after_restore(named, "done", how="well")
    hooks.run_after_restore()
    assert said == ["plain", "done well"]


@pytest.mark.parametrize("run", [hooks.run_before_snapshot, hooks.run_after_restore])
def test_an_exception_of_a_hook_is_the_callers_and_ends_the_round(said: list[str], run: object) -> None:
    def fail() -> None:
        raise ValueError("no")

    for register in (snapshot_restore_py.register_before_snapshot, snapshot_restore_py.register_after_restore):
        register(fail)
        register(fail)
    assert callable(run)
    with pytest.raises(ValueError, match=r"^no$"):
        run()


def test_code_that_never_imported_the_library_does_not_pay_for_it() -> None:
    code = """
import sys
from lamplighter.template import hooks
hooks.run_before_snapshot()
hooks.run_after_restore()
print("snapshot_restore_py" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

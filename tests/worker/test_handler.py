"""From a handler's name to the callable."""

import sys
from pathlib import Path

import pytest

from lamplighter.worker.handler import InitFault, resolve


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "orders.py").write_text("def place(event, context):\n    return 'placed'\n\nnumber = 5\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["shop.orders.place", "shop/orders.place"])
def test_the_last_dot_splits_and_slashes_are_dots(name: str) -> None:
    assert resolve(name)(None, None) == "placed"  # type: ignore[arg-type]


def test_whether_the_handler_can_be_called_is_not_asked_at_init() -> None:
    assert resolve("shop.orders.number") == 5  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("name", "error_type", "message"),
    [
        (
            "nodot",
            "Runtime.MalformedHandlerName",
            "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)",
        ),
        ("", "Runtime.MalformedHandlerName", "Bad handler '': not enough values to unpack (expected 2, got 1)"),
        ("sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
        ("sys.a.b", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys.a as a handler module"),
        (
            "no/such.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'no/such': No module named 'no'",
        ),
        ("shop.orders.cancel", "Runtime.HandlerNotFound", "Handler 'cancel' missing on module 'shop.orders'"),
    ],
)
def test_a_bad_handler_name_is_refused_with_awss_message(name: str, error_type: str, message: str) -> None:
    with pytest.raises(InitFault) as caught:
        resolve(name)
    assert (caught.value.error_type, caught.value.message) == (error_type, message)
    assert caught.value.stack_trace == []


def test_a_syntax_error_is_refused_with_its_place(code: Path) -> None:
    (code / "broken.py").write_text("x = 1\ny = = 2\n")
    with pytest.raises(InitFault) as caught:
        resolve("broken.handler")
    assert caught.value.error_type == "Runtime.UserCodeSyntaxError"
    assert caught.value.message == "Syntax error in module 'broken': invalid syntax (broken.py, line 2)"
    assert caught.value.stack_trace == [f'  File "{code}/broken.py" Line 2\n    y = = 2\n']


def test_the_fault_says_both_what_and_why() -> None:
    assert str(InitFault("Runtime.HandlerNotFound", "no such")) == "Runtime.HandlerNotFound: no such"


def test_an_exit_at_import_passes_through(code: Path) -> None:
    (code / "leaving.py").write_text("raise SystemExit(5)\n")
    with pytest.raises(SystemExit) as caught:
        resolve("leaving.handler")
    assert caught.value.code == 5

"""Import by import: what is seen of a function's init, and which imports its events used."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamplighter.measure.hosting import Function, HostFault
from lamplighter.measure.profile import Import, Profile, profile

HANDLER = """
import time
import wanted
import idle_package.inner
from _decimal import Decimal


def handler(event, context):
    Decimal(1).sqrt()
    if event.get("fail"):
        raise ValueError("asked to")
    return wanted.answer()
"""


@pytest.fixture
def function(tmp_path: Path) -> Function:
    """A function with imports that it uses and imports that it does not; one takes 60 ms and 8 MB."""
    (tmp_path / "app.py").write_text(HANDLER)
    (tmp_path / "wanted.py").write_text("import wanted_below\n\ndef answer():\n    return 42\n")
    (tmp_path / "wanted_below.py").write_text("CONSTANT = 1\n")
    (tmp_path / "idle_package").mkdir()
    (tmp_path / "idle_package" / "__init__.py").write_text("def never():\n    pass\n")
    slow = "import time\ntime.sleep(0.06)\nheld = bytearray(b'x') * (8 << 20)\nimport idle_below\n"
    (tmp_path / "idle_package" / "inner.py").write_text(slow)
    (tmp_path / "idle_below.py").write_text("")
    return Function("app.handler", str(tmp_path))


def _named(found: Profile) -> dict[str, Import]:
    return {one.name: one for one in found.imports()}


def test_each_import_has_its_own_time_and_memory_and_those_of_what_it_brought_in(function: Function) -> None:
    found = profile(function, [])
    one = _named(found)
    assert [root.name for root in found.roots] == ["app"]
    assert one["idle_package.inner"].own_ms >= 60
    assert one["idle_package.inner"].own_mb >= 7
    assert one["app"].ms >= one["idle_package.inner"].ms + one["wanted"].ms
    assert one["app"].own_ms < one["idle_package.inner"].own_ms
    assert one["idle_below"].parent is one["idle_package.inner"]
    assert one["wanted_below"].parent is one["wanted"]
    assert found.total_ms >= one["app"].ms


def test_without_events_nothing_is_said_of_use(function: Function) -> None:
    found = profile(function, [])
    assert {one.used for one in found.imports()} == {None}
    assert found.unused() == []


def test_what_no_event_used_is_marked_from_the_topmost_down(function: Function) -> None:
    found = profile(function, [b"{}"])
    one = _named(found)
    assert one["app"].used and one["wanted"].used, "their Python code ran"
    assert one["_decimal"].used, "its C code ran"
    assert one["idle_package.inner"].used is False and one["idle_below"].needed is False
    unused = [item.name for item in found.unused()]
    assert "idle_below" not in unused, "it is below one that is named already"
    assert unused[0] == "idle_package.inner"
    assert found.faults == []


def test_a_module_without_code_below_a_used_one_is_marked_alone(function: Function) -> None:
    assert "wanted_below" in [one.name for one in profile(function, [b"{}"]).unused()]


def test_an_event_that_fails_is_told_and_what_ran_before_counts(function: Function) -> None:
    found = profile(function, [b'{"fail": true}'])
    assert found.faults == ["event 1: ValueError: asked to"]
    assert _named(found)["_decimal"].used
    assert not _named(found)["wanted"].used


def test_an_init_that_fails_is_told_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import no_such_module\n")
    with pytest.raises(HostFault, match="init failed: ModuleNotFoundError: No module named 'no_such_module'"):
        profile(Function("app.handler", str(tmp_path)), [])
    (tmp_path / "app.py").write_text("import os\nprint('last words', flush=True)\nos._exit(3)\n")
    with pytest.raises(HostFault, match=r"ended before it had imported app\.handler:\s+last words"):
        profile(Function("app.handler", str(tmp_path)), [])
    (tmp_path / "app.py").write_text("")
    with pytest.raises(HostFault, match="the module app has no function handler"):
        profile(Function("app.handler", str(tmp_path)), [])


def test_the_plain_form_names_every_import_once(function: Function) -> None:
    plain = profile(function, [b"{}"]).plain()
    names = [one["name"] for one in plain["imports"]]
    assert len(names) == len(set(names))
    assert "idle_package.inner" in plain["unused"]
    assert plain["init_ms"] > 60

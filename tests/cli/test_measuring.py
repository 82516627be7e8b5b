"""``lamplighter bench`` and ``lamplighter profile`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lamplighter.cli import main

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A directory with a function, one that fails, and an event."""
    directory = tmp_path / "code"
    directory.mkdir()
    tmp_path.chmod(0o755)
    (directory / "app.py").write_text(
        "import colorsys, json\n"
        "def handler(event, context):\n    return json.dumps(event)\n"
        "def broken(event, context):\n    raise ValueError('no luck')\n"
    )
    (directory / "event.json").write_text('{"a": 1}')
    return directory


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_profile_prints_the_imports_and_writes_what_it_is_told_to(code: Path) -> None:
    files = ("--json", str(code / "out.json"), "--html", str(code / "out.html"))
    done = typed("profile", "app.handler", "--code", str(code), "--event", str(code / "event.json"), *files)
    assert done.exit_code == 0, done.output
    assert "unused: colorsys: " in done.stdout
    assert "│ app " in done.stdout
    assert "colorsys" in json.loads((code / "out.json").read_text())["unused"]
    assert (code / "out.html").read_text().startswith("<!doctype html>")
    assert done.stderr.count("lamplighter: wrote ") == 2


def test_bench_prints_its_tables_and_writes_what_it_is_told_to(code: Path) -> None:
    files = ("--json", str(code / "out.json"), "--html", str(code / "out.html"))
    done = typed(
        "bench", "app.handler", "--code", str(code), "--event", str(code / "event.json"), "--rounds", "1", *files
    )
    assert done.exit_code == 0, done.output
    for word in ("cold", "fork", "parked", "warm", "A million calls on Lambda"):
        assert word in done.stdout
    written = json.loads((code / "out.json").read_text())
    assert written["starts_ms"]["warm"]["p50"] > 0
    assert "colorsys" in written["init"]["unused"]
    assert "Init, import by import" in (code / "out.html").read_text()


def test_a_function_that_fails_ends_bench_with_its_own_words_and_status_1(code: Path) -> None:
    done = typed("bench", "app.broken", "--code", str(code), "--rounds", "1")
    assert done.exit_code == 1
    assert "no luck" in done.stderr
    assert done.stdout == ""


def test_an_init_that_fails_ends_profile_with_its_own_words_and_status_1(code: Path) -> None:
    done = typed("profile", "missing.handler", "--code", str(code))
    assert done.exit_code == 1
    assert "No module named 'missing'" in done.stderr


@pytest.mark.parametrize("command", ["bench", "profile"])
def test_what_cannot_be_measured_is_refused_with_status_2(command: str, code: Path) -> None:
    (code / "bad.json").write_text("{")
    for words, said in (
        (("app.handler", "--code", str(code / "none")), "code"),
        (("app.handler", "--code", str(code), "--event", str(code / "bad.json")), "bad.json"),
        (("app.handler", "--code", str(code), "--event", str(code / "none.json")), "none.json"),
        (("app.handler", "--code", str(code), "--env", "AWS_REGION=x"), "AWS_REGION"),
    ):
        done = typed(command, *words)
        assert done.exit_code == 2
        assert said in done.stderr


def test_a_page_that_cannot_be_written_is_told_with_status_2(code: Path) -> None:
    done = typed("profile", "app.handler", "--code", str(code), "--html", str(code / "none" / "page.html"))
    assert done.exit_code == 2
    assert "cannot be written: No such file or directory" in done.stderr

"""The root logger as Lambda sets it up. Formats are compared byte by byte in tests/conformance."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from lamplighter.worker import logs
from lamplighter.worker.context import current
from lamplighter.worker.output import output


def ours(root: logging.Logger) -> list[logging.Handler]:
    """The handlers that are the worker's, not pytest's."""
    return [handler for handler in root.handlers if hasattr(handler, "log_sink")]


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    level, converter = root.level, logging.Formatter.converter
    yield root
    for handler in ours(root):
        root.removeHandler(handler)
    root.setLevel(level)
    logging.Formatter.converter = converter
    output.configure({})
    current.request_id, current.tenant_id = "", None


@pytest.mark.parametrize(
    ("variable", "level"),
    [
        (None, logging.WARNING),
        ("DEBUG", logging.DEBUG),
        ("info", logging.INFO),
        ("TRACE", logging.DEBUG),
        ("FATAL", logging.CRITICAL),
        ("trace", logging.WARNING),
        ("loud", logging.WARNING),
    ],
)
def test_the_level_variable_sets_the_root_level_if_it_is_known(
    root: logging.Logger, variable: str | None, level: int
) -> None:
    root.setLevel(logging.WARNING)
    logs.configure({} if variable is None else {"AWS_LAMBDA_LOG_LEVEL": variable})
    assert root.level == level
    assert len(ours(root)) == 1


def test_a_text_record_has_level_time_request_id_and_message(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure({})
    current.request_id = "id-1"
    root.warning("m\u00e9 %s", 1)
    level, stamp, request_id, message = capsys.readouterr().out.split("\t")
    assert (level, request_id, message) == ("[WARNING]", "id-1", "m\u00e9 1\n")
    assert len(stamp) == len("2026-01-01T00:00:00.000Z")
    assert stamp.endswith("Z")


def test_a_json_record_is_one_object_and_leaves_out_what_is_none(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure({"AWS_LAMBDA_LOG_FORMAT": "JSON"})
    current.request_id, current.tenant_id = "id-1", "blue"
    root.error({"a": 1}, extra={"order": 5, "nothing": None})
    record = json.loads(capsys.readouterr().out)
    del record["timestamp"]
    assert record == {
        "level": "ERROR",
        "message": {"a": 1},
        "logger": "root",
        "requestId": "id-1",
        "tenantId": "blue",
        "order": 5,
    }


def test_exc_info_without_an_exception_is_no_fault(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure({"AWS_LAMBDA_LOG_FORMAT": "JSON"})
    root.exception("nothing was raised")
    record = json.loads(capsys.readouterr().out)
    assert "errorType" not in record
    assert record["message"] == "nothing was raised"


def test_a_record_goes_to_whatever_stdout_is_then(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    logs.configure({})
    later = io.StringIO()
    monkeypatch.setattr(sys, "stdout", later)
    root.error("moved")
    assert later.getvalue().endswith("\tmoved\n")


def test_the_handlers_classes_have_the_names_libraries_look_for(root: logging.Logger) -> None:
    logs.configure({})
    logs.configure({"AWS_LAMBDA_LOG_FORMAT": "JSON"})
    assert [type(handler).__name__ for handler in ours(root)] == [
        "LambdaLoggerHandler",
        "LambdaLoggerHandlerWithFrameType",
    ]

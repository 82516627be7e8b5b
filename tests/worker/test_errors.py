"""The shape of a fault."""

import json
from pathlib import Path

import pytest

from lamplighter.worker import errors
from lamplighter.worker.handler import resolve
from lamplighter.worker.output import Output


class Heard:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[tuple[list[str], int]] = []

    def log(self, message: str, frame: int = 0) -> None:
        self.records.append(([message], frame))

    def log_error(self, lines: list[str], frame: int) -> None:
        self.records.append((lines, frame))


def raised() -> ValueError:
    try:
        raise ValueError("no")
    except ValueError as fault:
        return fault


def test_the_payloads_keys_have_awss_order() -> None:
    payload = errors.payload("m", "T", ["frame\n"], "id")
    assert (
        json.dumps(payload) == '{"errorMessage": "m", "errorType": "T", "requestId": "id", "stackTrace": ["frame\\n"]}'
    )


def test_a_stack_trace_has_one_string_a_frame_and_no_carets() -> None:
    (entry,) = errors.stack_trace_of(errors.frames_of(raised()))
    assert entry.startswith(f'  File "{__file__}", line ')
    assert entry.endswith(', in raised\n    raise ValueError("no")\n')


def test_leading_frames_of_our_own_are_dropped_and_later_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calls_back.py").write_text("from lamplighter.worker.handler import resolve\nresolve('nodot')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match="nodot") as caught:
        resolve("calls_back.handler")
    caught.value.__traceback__ = caught.tb.tb_next  # as the loop sees it, without this test's own frame
    files = [frame[0] for frame in errors.frames_of(caught.value)]
    assert "importlib" in files[0]
    assert str(tmp_path / "calls_back.py") in files
    assert files[-1].endswith("worker/handler.py")


def test_where_all_frames_are_our_own_they_stay() -> None:
    with pytest.raises(Exception, match="nodot") as caught:
        resolve("nodot")
    caught.value.__traceback__ = caught.tb.tb_next
    assert [frame[2] for frame in errors.frames_of(caught.value)] == ["resolve"]


def test_an_exception_that_cannot_be_printed_still_gets_a_message() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert errors.message_of(Mute()) == "<Mute whose __str__ raised RuntimeError>"


@pytest.mark.parametrize(
    ("message", "error_type", "head"),
    [("m", "T", "[ERROR] T: m"), ("", "T", "[ERROR] T"), ("m", "", "[ERROR] m"), ("", "", "[ERROR]")],
)
def test_the_text_forms_first_line_names_what_there_is(message: str, error_type: str, head: str) -> None:
    lines = errors.text_lines(errors.payload(message, error_type, []))
    assert lines == [head, "Traceback (most recent call last):"]


def test_in_the_text_form_indentation_is_no_break_spaces() -> None:
    lines = errors.text_lines(errors.payload("m", "T", ['  File "f", line 1, in g\n    a  b\n', ""]))
    assert lines[2:] == ['\u00a0\u00a0File "f", line 1, in g', "\u00a0\u00a0\u00a0\u00a0a  b", ""]


def test_a_fault_is_logged_in_the_configured_form() -> None:
    output, heard = Output(), Heard()
    output.sink = heard
    payload = errors.payload("é", "T", [], "id")
    errors.log_fault(payload, output)
    output.as_json, output.ascii_only = True, False
    errors.log_fault(payload, output)
    (text, text_frame), ((record,), json_frame) = heard.records
    assert (text, text_frame) == (errors.text_lines(payload), 0xA55A0017)
    assert list(json.loads(record)) == ["timestamp", "level", "errorMessage", "errorType", "requestId", "stackTrace"]
    assert '"level": "ERROR", "errorMessage": "é"' in record
    assert json_frame == 0xA55A0016


def test_the_xray_cause_names_files_once() -> None:
    frames: list[errors.Frame] = [("a.py", 1, "f", "x"), ("a.py", 2, "g", "y"), ("b.py", 3, "h", None)]
    cause = json.loads(errors.xray_cause("T", "m", frames, ascii_only=True))
    assert list(cause) == ["working_directory", "exceptions", "paths"]
    assert cause["paths"] == ["a.py", "b.py"]
    assert cause["exceptions"][0]["stack"][1] == {"label": "g", "path": "a.py", "line": 2}

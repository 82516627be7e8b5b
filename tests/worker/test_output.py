"""The sinks, and what the environment makes of them."""

import io
import os
import sys
import time

import pytest

from lamplighter.worker.output import CRITICAL, DEBUG, JSON, TEXT, FramedSink, Output, StandardSink, frame_type


def test_the_frame_types_are_awss() -> None:
    assert [frame_type(level, TEXT) & 0xFF for level in (0, *range(DEBUG, CRITICAL + 1))] == [3, 11, 15, 19, 23, 27]
    assert [frame_type(level, JSON) & 0xFF for level in (0, *range(DEBUG, CRITICAL + 1))] == [2, 10, 14, 18, 22, 26]
    assert frame_type(0, TEXT) == 0xA55A0003


def test_a_framed_record_has_type_length_and_time_before_its_message() -> None:
    reader, writer = os.pipe()
    try:
        before = time.time_ns() // 1000
        FramedSink(writer).log_error(["é", "\ud800"], 0xA55A0017)
        frame = os.read(reader, 1000)
    finally:
        os.close(reader)
        os.close(writer)
    message = "é\n\\ud800".encode()
    assert frame[:4].hex() == "a55a0017"
    assert int.from_bytes(frame[4:8], "big") == len(message)
    assert before <= int.from_bytes(frame[8:16], "big") <= time.time_ns() // 1000
    assert frame[16:] == message


def test_on_stdout_an_errors_lines_are_one_line_joined_by_carriage_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    StandardSink().log_error(["a", "b"], 0)
    assert out.getvalue() == "a\rb\n"


def test_what_stdout_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    StandardSink().log("a\u00a0b\n")
    assert raw.getvalue() == b"a\\xa0b\n"


@pytest.mark.parametrize(
    ("environ", "as_json", "ascii_only"),
    [
        ({}, False, True),
        ({"AWS_LAMBDA_LOG_FORMAT": "Json"}, True, True),
        ({"AWS_LAMBDA_LOG_FORMAT": "yaml", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"}, False, True),
        ({"AWS_EXECUTION_ENV": "AWS_Lambda_python3.14"}, False, False),
    ],
)
def test_the_environment_decides_the_forms(environ: dict[str, str], as_json: bool, ascii_only: bool) -> None:
    output = Output()
    output.configure(environ)
    assert (output.as_json, output.ascii_only) == (as_json, ascii_only)
    assert isinstance(output.sink, StandardSink)


def test_the_telemetry_descriptors_variable_is_used_up() -> None:
    environ = {"_LAMBDA_TELEMETRY_LOG_FD": "62"}
    output = Output()
    output.configure(environ)
    assert isinstance(output.sink, FramedSink)
    assert environ == {}

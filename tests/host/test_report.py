"""The log of an invocation, line by line as Lambda writes it; its last 4 KiB; and lines that never mix."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import cast

import pytest

from lamplighter.host.logs import Sink
from lamplighter.host.report import BLOCK_BYTES, TAIL_BYTES, Facts, InvocationLog, report_line

ID = "8286a188-ba32-4475-8077-530cd35c09a9"
FACTS = Facts(12.345, 128, 40)
REPORT = (
    f"REPORT RequestId: {ID}\tDuration: 12.35 ms\tBilled Duration: 13 ms"
    "\tMemory Size: 128 MB\tMax Memory Used: 40 MB\t\n"
)


class _Collected:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.reserved: list[bool] = []

    def write(self, block: bytes, *, reserved: bool = False) -> None:
        self.blocks.append(block)
        self.reserved.append(reserved)

    @property
    def text(self) -> str:
        return b"".join(self.blocks).decode()


@pytest.fixture
def sink() -> _Collected:
    return _Collected()


@pytest.fixture
def log(sink: _Collected) -> InvocationLog:
    return InvocationLog(cast(Sink, sink), "hello", "a-stream", "text")


def _tail(log: InvocationLog) -> str:
    return base64.b64decode(log.tail()).decode()


# --- the REPORT line --------------------------------------------------------------------------------------------------


def test_a_warm_invocation_is_reported_with_five_fields_and_a_tab_before_the_newline() -> None:
    assert report_line(ID, FACTS) == REPORT


def test_init_is_billed_with_the_invocation_it_ran_in() -> None:
    line = report_line(ID, FACTS._replace(init_ms=100.5))
    assert line == REPORT.replace("13 ms", "113 ms").removesuffix("\n") + "Init Duration: 100.50 ms\t\n"


def test_a_restore_is_billed_by_itself_rounded_up() -> None:
    line = report_line(ID, FACTS._replace(restore_ms=2.01))
    assert line == REPORT.removesuffix("\n") + "Restore Duration: 2.01 ms\tBilled Restore Duration: 3 ms\t\n"


def test_a_failed_invocation_is_reported_with_its_status_and_its_error_type() -> None:
    line = report_line(ID, FACTS._replace(status="timeout"))
    assert line == REPORT.removesuffix("\n") + "Status: timeout\t\n"
    line = report_line(ID, FACTS._replace(status="error", error_type="Runtime.ExitError"))
    assert line == REPORT.removesuffix("\n") + "Status: error\tError Type: Runtime.ExitError\t\n"


def test_what_a_full_report_adds_comes_last() -> None:
    line = report_line(ID, FACTS._replace(init_ms=1.0, full={"CPU Time": "1.00 ms", "Page Faults": 7}))
    assert line.endswith("Max Memory Used: 40 MB\tInit Duration: 1.00 ms\tCPU Time: 1.00 ms\tPage Faults: 7\t\n")


def test_a_whole_number_of_milliseconds_is_billed_as_such() -> None:
    assert "Duration: 3000.00 ms\tBilled Duration: 3000 ms" in report_line(ID, Facts(3000.0, 128, 1))


# --- the lines of an invocation ---------------------------------------------------------------------------------------


def test_an_invocations_lines_stand_between_start_and_report(log: InvocationLog, sink: _Collected) -> None:
    log.start(ID)
    log.write(b"one\ntw")
    log.write(b"o\n")
    assert sink.blocks == [], "kept together until it ends"
    log.end(FACTS)
    assert sink.text == f"START RequestId: {ID} Version: $LATEST\none\ntwo\nEND RequestId: {ID}\n{REPORT}"
    assert len(sink.blocks) == 1
    assert sink.reserved == [True], "a full queue must not lose it"
    assert _tail(log) == sink.text


def test_a_line_that_was_left_open_ends_with_the_invocation(log: InvocationLog, sink: _Collected) -> None:
    log.start(ID)
    log.write(b"open")
    log.end(FACTS)
    assert f"$LATEST\nopen\nEND RequestId: {ID}\n" in sink.text


def test_what_is_written_between_two_invocations_belongs_to_the_next(log: InvocationLog, sink: _Collected) -> None:
    log.start("first")
    log.end(FACTS)
    first = len(sink.text)
    log.write(b"late\n")
    log.start("second")
    log.end(FACTS)
    assert sink.text[first:].startswith("late\nSTART RequestId: second ")


def test_the_tail_is_the_last_4_kib_of_this_invocation(log: InvocationLog) -> None:
    log.start("first")
    log.write(b"of the first\n")
    log.end(FACTS)
    log.start("second")
    for number in range(1000):
        log.write(b"line %d\n" % number)
    log.end(FACTS)
    tail = _tail(log)
    assert len(tail) == TAIL_BYTES
    assert "line 999\nEND RequestId: second\n" in tail
    assert "line 1\n" not in tail
    log.start("third")
    assert _tail(log) == "START RequestId: third Version: $LATEST\n"


def test_much_output_does_not_wait_for_the_end(log: InvocationLog, sink: _Collected) -> None:
    log.start(ID)
    line = b"x" * 1023 + b"\n"
    for _ in range(3 * BLOCK_BYTES // len(line)):
        log.write(line)
    assert len(sink.blocks) >= 2
    assert all(block.endswith(b"\n") for block in sink.blocks)
    log.end(FACTS)
    assert sink.text.count("x" * 1023) == 3 * BLOCK_BYTES // len(line)
    assert sink.text.endswith(REPORT)
    assert sink.reserved[-1]
    assert len(sink.blocks[-1]) < BLOCK_BYTES, "what a slow reader may lose goes before what it may not"


def test_a_line_without_an_end_does_not_fill_the_memory(log: InvocationLog, sink: _Collected) -> None:
    log.start(ID)
    for _ in range(20):
        log.write(b"#" * (BLOCK_BYTES // 8))
    assert sink.text.count("#") >= BLOCK_BYTES
    log.end(FACTS)
    assert sink.text.count("#") == 20 * (BLOCK_BYTES // 8)


def test_flushing_writes_what_waits_once(log: InvocationLog, sink: _Collected) -> None:
    log.start(ID)
    assert log.pending
    log.flush()
    assert not log.pending
    log.flush()
    assert len(sink.blocks) == 1


def test_what_an_environment_still_had_to_say_is_written_when_it_goes(log: InvocationLog, sink: _Collected) -> None:
    log.write(b"whole\nhalf")
    log.close()
    assert sink.text == "whole\nhalf\n"
    log.close()
    assert len(sink.blocks) == 1


# --- JSON -------------------------------------------------------------------------------------------------------------


def _records(sink: _Collected) -> list[dict[str, str]]:
    return [json.loads(line) for line in sink.text.splitlines()]


@pytest.fixture
def make_json(sink: _Collected) -> Callable[[], InvocationLog]:
    return lambda: InvocationLog(cast(Sink, sink), "hello", "a-stream", "json")


def test_in_json_each_line_is_a_record_with_its_origin(
    make_json: Callable[[], InvocationLog], sink: _Collected
) -> None:
    log = make_json()
    log.start(ID)
    log.write("größer\n".encode() + b"\xff\n")
    log.end(FACTS)
    records = _records(sink)
    assert {(one["function"], one["logStream"], one["requestId"]) for one in records} == {("hello", "a-stream", ID)}
    assert [one["type"] for one in records] == [
        "platform.start",
        "function",
        "function",
        "platform.report",
        "platform.report",
    ]
    assert [one["record"] for one in records[1:3]] == ["größer", "\ufffd"]
    assert records[4]["record"].startswith(f"REPORT RequestId: {ID}\tDuration: 12.35 ms")


def test_in_json_the_tail_is_text_as_ever(make_json: Callable[[], InvocationLog]) -> None:
    log = make_json()
    log.start(ID)
    log.write(b"said\n")
    log.end(FACTS)
    assert _tail(log) == f"START RequestId: {ID} Version: $LATEST\nsaid\nEND RequestId: {ID}\n{REPORT}"


# --- START, which waits for something to stand before -----------------------------------------------------------------


def test_the_start_of_a_silent_invocation_is_written_with_its_end_and_shows_in_its_tail(
    log: InvocationLog, sink: _Collected
) -> None:
    log.start(ID)
    assert sink.blocks == []
    log.end(FACTS)
    assert sink.text == f"START RequestId: {ID} Version: $LATEST\nEND RequestId: {ID}\n{REPORT}"
    assert (len(sink.blocks), sink.reserved) == (1, [True])
    assert _tail(log) == sink.text


def test_of_a_silent_invocation_with_a_long_report_the_tail_is_the_last_4_kib(log: InvocationLog) -> None:
    log.start(ID)
    log.end(FACTS._replace(full={"Stages": "x" * 2 * TAIL_BYTES}))
    assert len(_tail(log)) == TAIL_BYTES


def test_the_start_of_an_invocation_that_only_began_a_line_is_written_when_its_output_is(
    log: InvocationLog, sink: _Collected
) -> None:
    log.start(ID)
    log.write(b"open")
    assert log.pending
    log.flush()
    assert sink.text == f"START RequestId: {ID} Version: $LATEST\n"
    assert not log.pending
    log.end(FACTS)
    assert sink.text == f"START RequestId: {ID} Version: $LATEST\nopen\nEND RequestId: {ID}\n{REPORT}"


def test_an_environment_that_goes_has_said_what_it_started(log: InvocationLog, sink: _Collected) -> None:
    log.start(ID)
    log.close()
    assert sink.text == f"START RequestId: {ID} Version: $LATEST\n"


def test_in_json_a_silent_invocation_has_the_same_three_records(sink: _Collected) -> None:
    log = InvocationLog(cast(Sink, sink), "hello", "a-stream", "json")
    log.start(ID)
    log.end(FACTS)
    records = [json.loads(line) for line in sink.text.splitlines()]
    assert [record["type"] for record in records] == ["platform.start", "platform.report", "platform.report"]
    assert [record["record"].split(" ")[0] for record in records] == ["START", "END", "REPORT"]
    assert {record["requestId"] for record in records} == {ID}

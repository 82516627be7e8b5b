"""Writing to standard streams that somebody else reads at their pace: in order, without blocking, within bounds."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lamplighter.host.logs import QUEUE_BYTES, RESERVE_BYTES, HostLog, Sink


class _Pipe(NamedTuple):
    read: int
    write: int


@pytest.fixture
def pipe() -> Iterator[_Pipe]:
    ends = _Pipe(*os.pipe())
    yield ends
    for fd in ends:
        os.close(fd)


def _read_all(pipe: _Pipe, sink: Sink, seconds: float = 20.0) -> bytes:
    """What the sink writes until it is closed."""
    data = bytearray()
    finished = threading.Event()

    def read() -> None:
        while not data.endswith(b"<end>\n"):
            data.extend(os.read(pipe.read, 1 << 20))
        finished.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    until = time.monotonic() + seconds
    while not finished.is_set():
        # Refused while the queue is full: the reader makes room, and there will be some.
        sink.write(b"<end>\n", reserved=True)
        finished.wait(0.05)
        assert time.monotonic() < until, "the end did not come"
    sink.close()
    return bytes(data)


def test_blocks_come_out_in_their_order_and_whole(pipe: _Pipe) -> None:
    sink = Sink(pipe.write)
    for number in range(1000):
        sink.write(b"block %d\n" % number)
    expected = b"".join(b"block %d\n" % number for number in range(1000))
    assert _read_all(pipe, sink).startswith(expected + b"<end>\n")


def test_closing_writes_what_is_queued(pipe: _Pipe) -> None:
    sink = Sink(pipe.write)
    sink.write(b"last words\n")
    sink.close(wait_s=20)
    assert os.read(pipe.read, 100) == b"last words\n"
    assert not sink._thread.is_alive()


def test_a_reader_that_has_stopped_blocks_nobody_and_costs_a_bounded_queue(pipe: _Pipe) -> None:
    sink = Sink(pipe.write)
    block = b"z" * 65_535 + b"\n"
    for _ in range(4 * QUEUE_BYTES // len(block)):
        sink.write(block)
    sink.write(b"REPORT of the last\n", reserved=True)
    said = _read_all(pipe, sink)
    whole = said.count(block)
    assert QUEUE_BYTES // 2 < whole * len(block) <= QUEUE_BYTES + 2 * len(block)
    assert b"REPORT of the last\n" in said, "there is room kept for it"
    dropped = sum(int(found) for found in re.findall(rb"bytes of log in (\d+) records were dropped", said))
    assert whole + dropped >= 4 * QUEUE_BYTES // len(block)


def test_room_for_the_platforms_own_lines_is_bounded_as_well(pipe: _Pipe) -> None:
    sink = Sink(pipe.write)
    block = b"r" * 65_535 + b"\n"
    for _ in range(2 * (QUEUE_BYTES + RESERVE_BYTES) // len(block)):
        sink.write(block, reserved=True)
    said = _read_all(pipe, sink)
    assert said.count(block) * len(block) <= QUEUE_BYTES + RESERVE_BYTES + 2 * len(block)
    assert b"records were dropped: the reader was too slow\n" in said


def test_a_reader_that_has_gone_ends_the_writing_and_nothing_else() -> None:
    read, write = os.pipe()
    os.close(read)
    sink = Sink(write)
    sink.write(b"to nobody\n")
    sink._thread.join(20)
    assert not sink._thread.is_alive()
    for _ in range(3):
        sink.write(b"x" * QUEUE_BYTES)
    sink.close()
    os.close(write)


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: _Pipe) -> None:
    os.set_blocking(pipe.write, False)
    sink = Sink(pipe.write)
    text = b"".join(b"%06d\n" % number for number in range(40_000))  # more than a pipe holds
    sink.write(text)
    assert _read_all(pipe, sink).startswith(text + b"<end>\n")


def test_writers_of_several_threads_do_not_cut_each_others_blocks(pipe: _Pipe) -> None:
    sink = Sink(pipe.write)

    def write(letter: bytes) -> None:
        for _ in range(200):
            sink.write(letter * 99 + b"\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = _read_all(pipe, sink).partition(b"<end>\n")[0].splitlines()
    assert len(lines) == 600
    assert set(lines) == {letter * 99 for letter in (b"a", b"b", b"c")}


# --- the host's own lines ---------------------------------------------------------------------------------------------

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def _line(pipe: _Pipe, form: str, *arguments: str) -> str:
    sink = Sink(pipe.write)
    HostLog(sink, form).line(*arguments)
    sink.close(wait_s=20)
    return os.read(pipe.read, 65_536).decode()


def test_a_line_of_the_host_has_its_time_and_the_functions_name(pipe: _Pipe) -> None:
    assert re.fullmatch(rf"{STAMP} lamplighter: listening\n", _line(pipe, "text", "listening"))
    assert re.fullmatch(rf"{STAMP} lamplighter\[hello\]: it died\n", _line(pipe, "text", "it died", "hello", "WARN"))


def test_in_json_a_line_of_the_host_is_one_object(pipe: _Pipe) -> None:
    record = json.loads(_line(pipe, "json", 'it said "no"\nand left', "hello", "ERROR"))
    assert re.fullmatch(STAMP, record.pop("time"))
    assert record == {"type": "host", "level": "ERROR", "message": 'it said "no"\nand left', "function": "hello"}
    assert "function" not in json.loads(_line(pipe, "json", "listening"))


def test_a_path_that_is_no_text_can_be_logged(pipe: _Pipe) -> None:
    assert "?" in _line(pipe, "text", os.fsdecode(b"/srv/caf\xe9"))

"""The pipe of a function's output, as it is emptied before an answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import cast

import pytest

from lamplighter.host.log_pipe import LogPipe
from lamplighter.host.report import InvocationLog


class _Heard:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


@pytest.fixture
def heard() -> _Heard:
    return _Heard()


@pytest.fixture
def writer(heard: _Heard) -> Iterator[tuple[LogPipe, int]]:
    loop = asyncio.new_event_loop()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pipe = LogPipe(loop, reader, cast(InvocationLog, heard), 1.0)
    yield pipe, writer
    pipe.close()
    loop.close()


def test_draining_takes_what_is_there_and_waits_for_nothing(writer: tuple[LogPipe, int], heard: _Heard) -> None:
    pipe, fd = writer
    pipe.drain()
    assert heard.data == b""
    os.write(fd, b"one\n")
    os.write(fd, b"two\n")
    pipe.drain()
    assert heard.data == b"one\ntwo\n"
    pipe.drain()
    assert heard.data == b"one\ntwo\n"
    os.close(fd)
    pipe.drain()


def test_a_full_pipe_is_drained_to_its_last_byte(writer: tuple[LogPipe, int], heard: _Heard) -> None:
    pipe, fd = writer
    os.set_blocking(fd, False)
    written = 0
    with pytest.raises(BlockingIOError):
        while True:
            written += os.write(fd, b"x" * 4_096)
    pipe.drain()
    assert len(heard.data) == written
    os.close(fd)


def test_draining_a_closed_pipe_does_no_harm(writer: tuple[LogPipe, int], heard: _Heard) -> None:
    pipe, fd = writer
    os.write(fd, b"lost")
    pipe.close()
    pipe.drain()
    assert heard.data == b""
    os.close(fd)

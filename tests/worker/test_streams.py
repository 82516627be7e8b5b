"""Results in pieces over the channel, which carries whole results; and what a stream may be made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lamplighter import streaming
from lamplighter.worker import channel, streams
from lamplighter.worker.loop import invoke_once
from worker_answers import answers, event

FAIL = channel.ERROR
OK = channel.RESPONSE


def pieces(*parts: Any) -> Iterator[Any]:
    yield from parts


def test_a_generators_pieces_are_one_result() -> None:
    (reply,) = answers(lambda event, context: pieces("é", b"\xff", bytearray(b"z")), event())
    assert (reply.kind, reply.flags, reply.body) == (OK, channel.RAW, b"\xc3\xa9\xffz")


def test_an_http_response_is_the_object_that_a_function_without_streaming_returns() -> None:
    (reply,) = answers(
        lambda event, context: streaming.HTTPStream(["a", "b"], status=201, headers={"x": "y"}, cookies=["c=1"]),
        event(),
    )
    assert (reply.kind, reply.flags) == (OK, 0)
    assert json.loads(reply.body) == {
        "statusCode": 201,
        "headers": {"x": "y"},
        "cookies": ["c=1"],
        "body": "ab",
        "isBase64Encoded": False,
    }


def test_an_exception_in_the_middle_is_an_ordinary_error_and_the_next_event_is_served() -> None:
    def failing() -> Iterator[str]:
        yield "begun"
        raise ValueError("late")

    def handler(event: Any, context: Any) -> Any:
        return failing() if event == 1 else "fine"

    failed, fine = answers(handler, event(b"1", 1), event(b"2", 2))
    assert (failed.kind, failed.error_type) == (FAIL, "ValueError")
    assert len(json.loads(failed.body)["stackTrace"]) == 1
    assert fine.body == b'"fine"'


def test_pieces_beyond_the_limit_are_an_error_and_their_generator_is_closed() -> None:
    closed: list[bool] = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            closed.append(True)

    (reply,) = answers(lambda event, context: endless(), event())
    assert (reply.kind, reply.error_type) == (FAIL, "Function.ResponseSizeTooLarge")
    assert closed == [True]


def test_a_result_of_exactly_the_limit_passes() -> None:
    (reply,) = answers(lambda event, context: pieces(b"x" * streams.COLLECTED_LIMIT), event())
    assert (reply.kind, reply.length) == (OK, streams.COLLECTED_LIMIT)


def test_a_warm_up_event_runs_a_stream_to_its_end() -> None:
    ran: list[int] = []

    def body() -> Iterator[str]:
        yield "a"
        ran.append(1)

    assert invoke_once(lambda event, context: body(), b"1", request_id="warm") == (b"a", False)
    assert ran == [1]


def test_what_only_looks_like_a_stream_is_still_refused() -> None:
    (reply,) = answers(lambda event, context: iter(["a"]), event())
    assert (reply.kind, reply.error_type) == (FAIL, "Runtime.MarshalError")


@pytest.mark.parametrize("body", ["text", b"bytes", 5, None])
def test_a_stream_of_what_has_no_pieces_is_refused_where_it_is_made(body: Any) -> None:
    with pytest.raises(TypeError, match="body must be an iterable of bytes or str"):
        streaming.Stream(body)


def test_a_head_that_no_http_response_can_have_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="status must be between 100 and 599, got 99"):
        streaming.HTTPStream([], status=99)
    with pytest.raises(ValueError, match="content_type must be printable ASCII"):
        streaming.Stream([], content_type="a\r\nb: c")

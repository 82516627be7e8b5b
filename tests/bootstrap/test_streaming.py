"""Responses in pieces, as they reach the Runtime API."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bootstrap.running import OURS, running
from bootstrap.scripted import Answering, Reply, Request, ScriptedAPI, event, events, refusal

MODE = "lambda-runtime-function-response-mode"
NULS = b"\0" * 8


def posts(
    tmp_path: Path,
    code: str,
    count: int = 2,
    environment: Mapping[str, str] | None = None,
    answering: Answering | None = None,
) -> tuple[list[Request], str]:
    """What a function posts for two events, ``1`` and ``2``; and what it wrote."""
    (tmp_path / "app.py").write_text(f"import time\nfrom lamplighter import streaming\n{code}\n")
    with (
        ScriptedAPI(answering or events(event(b"1"), event(b"2", "id-2"))) as api,
        running(OURS, api.address, "app.handler", code=tmp_path, environment=environment) as process,
    ):
        return api.answers(count), process.output()


def test_a_generators_pieces_leave_one_by_one_and_the_next_event_is_served(tmp_path: Path) -> None:
    code = (
        "def handler(event, context):\n    yield 'é'\n    yield b''\n    yield b'\\xff' * 3\n    yield bytearray(b'z')"
    )
    (first, second), output = posts(tmp_path, code)
    assert first.path == "/2018-06-01/runtime/invocation/id-1/response"
    assert first.chunks == second.chunks == ["é".encode(), b"\xff\xff\xff", b"z"]
    assert first.headers[MODE] == "streaming"
    assert first.headers["content-type"] == "application/octet-stream"
    assert first.headers["trailer"] == "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
    assert "content-length" not in first.headers
    assert first.trailers == {}
    assert output == ""


def test_a_piece_leaves_before_the_next_one_is_made(tmp_path: Path) -> None:
    # The second piece is made once the server holds the first: a file says so.
    code = (
        "import os\n"
        "def handler(event, context):\n"
        "    yield 'first'\n"
        "    deadline = time.monotonic() + 20\n"
        "    while not os.path.exists('seen') and time.monotonic() < deadline:\n        time.sleep(0.005)\n"
        "    yield str(os.path.exists('seen'))\n"
    )
    with ScriptedAPI(events(event())) as api:
        api.on_chunk = lambda chunk: (tmp_path / "seen").touch() if chunk == b"first" else None
        (tmp_path / "app.py").write_text("import time\n" + code)
        with running(OURS, api.address, "app.handler", code=tmp_path):
            (request,) = api.answers(1)
    assert request.chunks == [b"first", b"True"]


def test_status_headers_and_cookies_go_before_the_first_piece(tmp_path: Path) -> None:
    code = (
        "def handler(event, context):\n"
        "    return streaming.HTTPStream(['a', 'b'], status=201, headers={'x-é': '1'}, cookies=['c=1; Secure'])"
    )
    (request,), _ = posts(tmp_path, code, 1)
    assert request.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    prelude, _, body = request.body.partition(NULS)
    assert json.loads(prelude) == {"statusCode": 201, "headers": {"x-é": "1"}, "cookies": ["c=1; Secure"]}
    assert body == b"ab"


def test_the_body_may_be_a_function_that_writes(tmp_path: Path) -> None:
    code = (
        "def handler(event, context):\n"
        "    def body(write):\n        for number in range(3):\n            write(f'{event}.{number} ')\n"
        "    return streaming.Stream(body, content_type='text/plain')"
    )
    (first, second), _ = posts(tmp_path, code)
    assert (first.body, second.body) == (b"1.0 1.1 1.2 ", b"2.0 2.1 2.2 ")
    assert first.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("def handler(event, context):\n    return\n    yield", b""),
        ("def handler(event, context):\n    return streaming.Stream([])", b""),
        ("def handler(event, context):\n    return streaming.Stream(lambda write: None)", b""),
        (
            "def handler(event, context):\n    return streaming.HTTPStream([], status=204)",
            b'{"statusCode": 204, "headers": {}}' + NULS,
        ),
    ],
)
def test_a_response_may_have_no_pieces(tmp_path: Path, code: str, body: bytes) -> None:
    (first, second), _ = posts(tmp_path, code)
    assert (first.body, second.body) == (body, body)
    assert first.headers[MODE] == "streaming"


@pytest.mark.parametrize(
    "body",
    [
        "def handler(event, context):\n    raise ValueError('early')\n    yield",
        (
            "def handler(event, context):\n"
            "    def body(write):\n        raise ValueError('early')\n    return streaming.Stream(body)"
        ),
    ],
)
def test_an_exception_before_the_first_piece_is_an_ordinary_error(tmp_path: Path, body: str) -> None:
    (first, _), output = posts(tmp_path, body)
    assert first.path.endswith("/id-1/error")
    assert first.headers["lambda-runtime-function-error-type"] == "ValueError"
    payload = json.loads(first.body)
    assert (payload["errorMessage"], len(payload["stackTrace"])) == ("early", 1)
    assert output.startswith("[ERROR] ValueError: early\rTraceback")


@pytest.mark.parametrize(
    "code",
    [
        "def handler(event, context):\n    yield 'begun'\n    raise ValueError('läte')",
        (
            "def handler(event, context):\n"
            "    def body(write):\n        write('begun')\n        raise ValueError('läte')\n"
            "    return streaming.Stream(body)"
        ),
    ],
)
def test_an_exception_after_it_cuts_the_response_short_and_is_told_in_trailers(tmp_path: Path, code: str) -> None:
    (first, second), output = posts(tmp_path, code)
    assert first.path.endswith("/id-1/response")
    assert first.chunks == [b"begun"]
    assert first.trailers["lambda-runtime-function-error-type"] == "ValueError"
    payload = json.loads(base64.b64decode(first.trailers["lambda-runtime-function-error-body"], validate=True))
    assert list(payload) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (payload["errorMessage"], payload["requestId"]) == ("läte", "id-1")
    assert second.path.endswith("/id-2/response")
    assert output.startswith("[ERROR] ValueError: läte\rTraceback")


def test_a_piece_that_is_neither_bytes_nor_text_is_an_error_of_the_functions(tmp_path: Path) -> None:
    (first, second), _ = posts(
        tmp_path, "def handler(event, context):\n    yield from (['x'] if event == 2 else [])\n    yield 5"
    )
    assert json.loads(first.body)["errorMessage"] == "a stream's pieces must be bytes or str, not int"
    assert second.trailers["lambda-runtime-function-error-type"] == "TypeError"


@pytest.mark.parametrize("status", [400, 413])
def test_a_stream_that_the_platform_refuses_at_its_end_does_not_end_the_process(tmp_path: Path, status: int) -> None:
    def refusing() -> Answering:
        answering = events(event(b"1"), event(b"2", "id-2"))
        return lambda request: refusal(status) if "/id-1/" in request.path else answering(request)

    code = "def handler(event, context):\n    yield 'a'"
    (*_, last), output = posts(tmp_path, code, 3 if status == 413 else 2, answering=refusing())
    assert last.path.endswith("/id-2/response")
    assert f"answered {status} to a response" in output


def test_a_stream_whose_connection_dies_ends_the_process_with_a_line_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "def handler(event, context):\n    for _ in range(100_000):\n        yield b'x' * 65_536\n"
    )

    with ScriptedAPI(events(event())) as api:
        api.on_chunk = lambda chunk: api.stop()
        with running(OURS, api.address, "app.handler", code=tmp_path) as process:
            assert process.status() == 1
            assert process.output().startswith("lamplighter: ")
            assert process.output().count("\n") == 1


def test_a_stream_that_the_platform_refuses_in_the_middle_is_stopped_and_its_generator_closed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "def handler(event, context):\n"
        "    if event == 2:\n        return 'next'\n"
        "    return pieces()\n"
        "def pieces():\n"
        "    try:\n        for _ in range(100_000):\n            yield b'x' * 65_536\n"
        "    finally:\n        print('closed', flush=True)\n"
    )
    answering = events(event(b"1"), event(b"2", "id-2"))
    with ScriptedAPI(answering) as api:
        api.refuse_chunk = refusal(410, b"over")
        with running(OURS, api.address, "app.handler", code=tmp_path) as process:
            (request,) = api.answers(1)
            output = process.output()
    assert (request.path, request.body) == ("/2018-06-01/runtime/invocation/id-2/response", b'"next"')
    assert "closed" in output
    assert "answered 410 to a response: over" in output


BUFFERED = {"LAMPLIGHTER_RESPONSE_MODE": "buffered"}


@pytest.mark.parametrize(
    ("code", "content_type", "body"),
    [
        ("yield 'é'\n    yield b'\\xff'", "application/unknown", b"\xc3\xa9\xff"),
        (
            "return streaming.HTTPStream(['a', 'é'], status=201, headers={'x': 'y'}, cookies=['c'])",
            "application/json",
            {
                "statusCode": 201,
                "headers": {"x": "y"},
                "cookies": ["c"],
                "body": "aé",
                "isBase64Encoded": False,
            },
        ),
        (
            "return streaming.HTTPStream([b'\\xff'])",
            "application/json",
            {"statusCode": 200, "headers": {}, "body": "/w==", "isBase64Encoded": True},
        ),
    ],
)
def test_where_responses_are_buffered_the_pieces_are_sent_whole(
    tmp_path: Path, code: str, content_type: str, body: object
) -> None:
    (request, _), _ = posts(tmp_path, f"def handler(event, context):\n    {code}", environment=BUFFERED)
    assert MODE not in request.headers
    assert request.headers["content-type"] == content_type
    assert (request.body if isinstance(body, bytes) else json.loads(request.body)) == body


def test_buffered_pieces_that_are_too_many_are_the_functions_error(tmp_path: Path) -> None:
    code = "def handler(event, context):\n    while True:\n        yield b'x' * 1_000_000"
    (request,), _ = posts(tmp_path, code, 1, environment=BUFFERED)
    assert request.headers["lambda-runtime-function-error-type"] == "Function.ResponseSizeTooLarge"
    assert json.loads(request.body)["stackTrace"] == []


def test_an_exception_after_buffered_pieces_is_an_ordinary_error(tmp_path: Path) -> None:
    code = "def handler(event, context):\n    yield 'begun'\n    raise ValueError('late')"
    (request, _), _ = posts(tmp_path, code, environment=BUFFERED)
    assert request.path.endswith("/id-1/error")
    assert json.loads(request.body)["errorMessage"] == "late"


def test_a_stream_begins_on_a_new_connection_where_the_kept_one_has_died(tmp_path: Path) -> None:
    answering = events(event(b"1"), event(b"2", "id-2"))

    def closing(request: Request) -> Reply | bytes:
        reply = answering(request)
        return Reply(reply, close=True) if request.is_next and isinstance(reply, bytes) else reply

    code = (
        "import os, time\n"
        "def handler(event, context):\n"
        "    deadline = time.monotonic() + 20\n"
        "    while not os.path.exists('closed') and time.monotonic() < deadline:\n        time.sleep(0.005)\n"
        "    os.unlink('closed')\n"
        "    yield 'a'\n"
    )
    (tmp_path / "app.py").write_text(code)
    with ScriptedAPI(closing) as api:
        api.on_close = (tmp_path / "closed").touch
        with running(OURS, api.address, "app.handler", code=tmp_path):
            first, second = api.answers(2)
    assert (first.chunks, second.chunks) == ([b"a"], [b"a"])

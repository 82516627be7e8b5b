"""The HTTP front on real sockets: framing, limits, order, slow and vanishing clients, draining."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gc
import json
import logging
import socket
import threading
import time
import uuid
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamplighter.host import invoke_api
from lamplighter.host.http import Limits, http_front
from lamplighter.host.operations import Fixed, Route, Routes

PATH = "/2015-03-31/functions/hello/invocations"
OK = ((b"Content-Type", b"application/json"),)


def request(body: bytes = b"{}", *headers: str, method: str = "POST", path: str = PATH, version: str = "1.1") -> bytes:
    fields = [f"{method} {path} HTTP/{version}", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(fields).encode("latin-1") + b"\r\n\r\n" + body


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


CHUNKED = head(f"POST {PATH} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked")


def error(answer: Any) -> tuple[int, str, str]:
    status, headers, body = answer
    message = json.loads(body)
    return status, headers["x-amzn-errortype"], message.get("message") or message["Message"]


# --- answers


def test_an_invocation_is_answered_with_what_the_application_says(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b'{"a": 1}'))
    status, headers, body = client.answer()
    assert (status, body) == (200, b'{"a": 1}')
    assert headers["content-type"] == "application/json"
    assert headers["x-amz-executed-version"] == "$LATEST"
    assert "connection" not in headers
    (invocation,) = front_server.application.wait_for(1)
    assert (invocation.function, invocation.qualifier, invocation.body) == ("hello", "", b'{"a": 1}')
    assert not invocation.dry_run
    assert not invocation.tail
    assert invocation.trace_id.startswith("Root=1-")
    assert 0 < invocation.received <= time.monotonic()
    assert headers["x-amzn-requestid"] == invocation.request_id
    assert uuid.UUID(invocation.request_id).version == 4


def test_every_answer_has_a_current_date_and_its_own_request_id(front_server: Any) -> None:
    client = front_server.client()
    seen = set()
    for _ in range(5):
        client.send(request())
        _, headers, _ = client.answer()
        seen.add(headers["x-amzn-requestid"])
        date = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
        assert abs(time.time() - date) < 5
    assert len(seen) == 5


def test_header_names_are_read_in_any_case(front_server: Any) -> None:
    client = front_server.client()
    context = base64.b64encode(b'{"custom":{}}').decode()
    client.send(
        request(
            b"{}",
            "X-AMZ-LOG-TYPE: Tail",
            "x-amz-invocation-type: DryRun",
            f"X-Amz-Client-CONTEXT: {context}",
            "x-Amz-Tenant-Id: blue",
            "x-amzn-trace-id: Root=1-2-3",
        )
    )
    client.answer()
    (invocation,) = front_server.application.wait_for(1)
    assert invocation.tail
    assert invocation.dry_run
    assert invocation.client_context == '{"custom":{}}'
    assert invocation.tenant_id == "blue"
    assert invocation.trace_id == "Root=1-2-3"


def test_a_request_does_not_inherit_the_options_of_the_one_before(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b"{}", "X-Amz-Tenant-Id: blue", "X-Amz-Log-Type: Tail") + request())
    client.answer()
    client.answer()
    first, second = front_server.application.wait_for(2)
    assert (first.tenant_id, first.tail) == ("blue", True)
    assert (second.tenant_id, second.tail) == ("", False)


def test_an_empty_body_reaches_the_function_as_an_empty_object(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b""))
    assert client.answer()[2] == b"{}"


def test_a_body_that_is_not_json_is_refused_and_the_connection_lives_on(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b"{'a'}") + request(b"1"))
    status, name, message = error(client.answer())
    assert (status, name) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: Could not parse payload into json: ")
    assert client.answer()[2] == b"1"


def test_an_answer_without_content_has_no_length_and_no_body(front_server: Any) -> None:
    front_server.application.on_invoke = lambda invocation: invocation.reply(204, (), b"ignored")
    client = front_server.client()
    client.send(request() * 2)
    for _ in range(2):
        status, headers, body = client.answer()
        assert (status, body) == (204, b"")
        assert "content-length" not in headers


@pytest.mark.parametrize(
    "answer",
    [
        (200, ((b"X-Amz-Log-Result", b"a\r\nSet-Cookie: b"),), b"1"),
        (200, ((b"X\n", b"a"),), b"1"),
        (200, (("X", "a"),), b"1"),
        (999, (), b"1"),
        (100, (), b"1"),
    ],
)
def test_an_answer_that_http_cannot_carry_becomes_a_service_exception(
    front_server: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    front_server.application.on_invoke = lambda invocation: invocation.reply(*answer)
    client = front_server.client()
    with caplog.at_level(logging.ERROR):
        client.send(request())
        status, headers, _ = client.answer()
    assert (status, headers["x-amzn-errortype"]) == (500, "ServiceException")
    assert "set-cookie" not in headers
    assert "HTTP cannot carry" in caplog.text


def test_a_second_reply_is_logged_and_ignored(front_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    def twice(invocation: Any) -> None:
        invocation.reply(200, OK, b"1")
        invocation.reply(200, OK, b"2")

    front_server.application.on_invoke = twice
    client = front_server.client()
    with caplog.at_level(logging.ERROR):
        client.send(request() * 2)
        assert [client.answer()[2] for _ in range(2)] == [b"1", b"1"]
        front_server.application.wait_for(2)
    assert caplog.text.count("answered a second time") == 2


def test_an_application_that_raises_costs_the_caller_a_500_and_no_more(
    front_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(invocation: Any) -> None:
        raise ZeroDivisionError

    front_server.application.on_invoke = fail
    client = front_server.client()
    client.send(request() + request())
    assert [client.answer()[0] for _ in range(2)] == [500, 500]
    assert "InvokeFunction failed" in caplog.text


# --- routes


def test_the_probes_answer_200_or_503_with_the_applications_details(front_server: Any) -> None:
    client = front_server.client()
    client.send(head("GET /healthz HTTP/1.1", "Host: a") + head("GET /readyz HTTP/1.1", "Host: a"))
    status, headers, body = client.answer()
    assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"status": "ok"})
    status, _, body = client.answer()
    assert (status, json.loads(body)) == (200, {"functions": {"hello": "frozen"}})
    front_server.application.is_ready = False
    client.send(head("GET /readyz HTTP/1.1", "Host: a"))
    status, _, body = client.answer()
    assert (status, json.loads(body)) == (503, {"functions": {"hello": "starting"}})


@pytest.mark.parametrize("extra", [(), ("Content-Length: 0",)])
def test_head_gets_the_headers_of_get_and_no_body(front_server: Any, extra: tuple[str, ...]) -> None:
    client = front_server.client()
    client.send(head("HEAD /healthz HTTP/1.1", "Host: a", *extra))
    status, headers, _ = client.answer(headless=True)
    assert (status, headers["content-length"]) == (200, str(len(b'{"status":"ok"}')))
    client.send(head("HEAD /nowhere HTTP/1.1", "Host: a"))
    assert client.answer(headless=True)[0] == 404
    client.send(request(b"7"))
    assert client.answer()[2] == b"7"


def test_options_tells_the_methods(front_server: Any) -> None:
    client = front_server.client()
    client.send(head(f"OPTIONS {PATH} HTTP/1.1", "Host: a") + head("OPTIONS * HTTP/1.1", "Host: a"))
    assert client.answer()[1]["allow"] == "POST, OPTIONS"
    status, headers, _ = client.answer()
    assert status == 204
    assert "POST" in headers["allow"]


@pytest.mark.parametrize("path", ["/", "/2015-03-31/functions", PATH + "/", "/2015-03-31/functions/a/b/invocations"])
def test_an_unknown_path_is_an_unknown_operation(front_server: Any, path: str) -> None:
    client = front_server.client()
    client.send(request(path=path) + request(b"1"))
    status, name, message = error(client.answer())
    assert (status, name) == (404, "UnknownOperationException")
    assert path in message
    assert client.answer()[2] == b"1"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_wrong_method_is_told_the_right_one(front_server: Any, method: str) -> None:
    client = front_server.client()
    client.send(request(method=method))
    status, headers, body = client.answer()
    assert (status, headers["x-amzn-errortype"], headers["allow"]) == (
        405,
        "MethodNotAllowedException",
        "POST, OPTIONS",
    )
    assert method in json.loads(body)["message"]


def test_response_streaming_is_refused_in_so_many_words(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(path="/2021-11-15/functions/hello/response-streaming-invocations"))
    status, name, message = error(client.answer())
    assert (status, name) == (501, "NotImplementedException")
    assert "not supported by this host yet" in message


def test_an_absolute_request_target_is_served_like_its_path(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b"3", path=f"http://localhost:1{PATH}"))
    assert client.answer()[2] == b"3"


@pytest.mark.parametrize(
    ("path", "function", "qualifier"),
    [
        ("/2015-03-31/functions/hello%3Alive/invocations", "hello:live", ""),
        ("/2015-03-31/functions/hello:live/invocations?Qualifier=live", "hello:live", "live"),
        ("/2015-03-31/functions/hello/invocations?Qualifier=%24LATEST&x=1", "hello", "$LATEST"),
        ("/2015-03-31/functions/hello/invocations?Qualifier=", "hello", ""),
        ("/2015-03-31/functions/function/invocations", "function", ""),
    ],
)
def test_function_and_qualifier_are_percent_decoded(
    front_server: Any, path: str, function: str, qualifier: str
) -> None:
    client = front_server.client()
    client.send(request(path=path))
    assert client.answer()[0] == 200
    (invocation,) = front_server.application.wait_for(1)
    assert (invocation.function, invocation.qualifier) == (function, qualifier)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/2015-03-31/functions/hel%20lo/invocations", "ValidationException"),
        ("/2015-03-31/functions//invocations", "ValidationException"),
        ("/2015-03-31/functions/hello/invocations?Qualifier=a*", "ValidationException"),
        ("/2015-03-31/functions/hello:one/invocations?Qualifier=two", "InvalidParameterValueException"),
        ("/2015-03-31/functions/%ff/invocations", "BadRequestException"),
        ("/2015-03-31/functions/hello/invocations?Qualifier=%ff", "BadRequestException"),
        ("/2015-03-31/functions/hello/invocations?" + "&".join(f"a{n}=1" for n in range(65)), "BadRequestException"),
    ],
)
def test_a_bad_name_or_qualifier_never_reaches_the_application(front_server: Any, path: str, name: str) -> None:
    client = front_server.client()
    for _ in range(2):  # a target is remembered with its refusal
        client.send(request(path=path))
        status, got, _ = error(client.answer())
        assert (status, got) == (400, name)
    assert front_server.application.invocations == []


def test_the_memory_of_targets_is_bounded() -> None:
    routes = Routes([Route("/a/{x}", {"GET": lambda _: Fixed(invoke_api.service_exception())})])
    for n in range(5_000):
        routes.resolve(b"/a/%d" % n)
    assert routes.find(b"/a/4999") is not None
    assert routes.find(b"/a/0") is None
    routes.resolve(b"/a/" + b"x" * 10_000)
    assert routes.find(b"/a/" + b"x" * 10_000) is None


def test_another_room_can_add_routes(front_server: Any) -> None:
    class Hello:
        name = "Hello"
        body_limit = 10

        def __init__(self, parameters: Any) -> None:
            self.parameters = parameters

        def accept(self, headers: Any) -> None:
            return None

        def perform(self, exchange: Any, options: Any, body: bytes) -> None:
            exchange.reply(200, (), json.dumps(dict(self.parameters)).encode() + body)

    front = http_front(front_server.application, routes=[Route("/hello/{who}", {"PUT": Hello})])
    front.routes.resolve(b"/hello/me?x=1")
    answers = []

    class Recorder:
        request_id = "r"

        def reply(self, status: int, headers: Any, body: bytes) -> None:
            answers.append((status, body))

    target: Any = front.routes.find(b"/hello/me?x=1")
    target.get(b"PUT").perform(Recorder(), None, b"!")
    assert answers == [(200, b'{"who": "me", "?x": "1"}!')]


# --- framing


@pytest.mark.parametrize(
    "data",
    [
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 2", "Content-Length: 2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 2", "Content-Length: 3") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 2, 2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: +2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 0x2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length:") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 2") + b"0\r\n\r\n",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding : chunked") + b"0\r\n\r\n",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding: identity", "Transfer-Encoding: chunked")
        + b"0\r\n\r\n",
        head(f"POST {PATH} HTTP/1.0", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "X: a", " folded", "Content-Length: 2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "Host: b", "Content-Length: 2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Content-Length: 2") + b"{}",
        head(f"POST {PATH} HTTP/1.1", "Host: a", "X-Amz-Tenant-Id: a", "x-amz-tenant-id: b", "Content-Length: 2"),
        head(f"POST {PATH} HTTP/1.2", "Host: a"),
        head(f"BREW {PATH} HTTP/1.1", "Host: a"),
        head("GET /healthz HTTP/1.1", "Host: a", "X: a\0b"),
        b"GET /healthz HTTP/1.1\nHost: a\n\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_malformed_and_smuggling_requests_get_400_and_the_end_of_the_connection(front_server: Any, data: bytes) -> None:
    client = front_server.client()
    client.send(data + request())
    status, headers, body = client.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body)["message"]
    assert client.ended()
    assert front_server.application.invocations == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("GET /healthz HTTP/2.0", "Host: a"), 505),
        (head("GET /healthz HTTP/0.9"), 505),
        (head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
        (head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding: identity") + b"0\r\n\r\n", 501),
        (head(f"POST {PATH} HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked") + b"0\r\n\r\n", 501),
        (head(f"POST {PATH} HTTP/1.1", "Host: a", "Expect: tea", "Content-Length: 2") + b"{}", 417),
        (head("CONNECT localhost:80 HTTP/1.1", "Host: a"), 404),
        (head("GET /healthz HTTP/1.1", "Host: a", *(f"X{n}: 1" for n in range(128))), 431),
        (head("GET /healthz HTTP/1.1", "Host: a", "X: " + "x" * 70_000), 431),
        (head("GET /" + "x" * 70_000 + " HTTP/1.1", "Host: a"), 431),
        (head("GET /healthz HTTP/1.1", "Host: a", *(f"X{n}: " + "x" * 20_000 for n in range(4))), 431),
    ],
)
def test_what_this_server_does_not_speak_is_refused_with_its_status(
    front_server: Any, data: bytes, status: int
) -> None:
    client = front_server.client()
    client.send(data + request())
    got, headers, _ = client.answer()
    assert (got, headers["connection"]) == (status, "close")
    assert client.ended()
    assert front_server.application.invocations == []


def test_a_giant_head_behind_other_requests_in_one_read_is_still_refused(front_server: Any) -> None:
    client = front_server.client()
    giant = head("GET /healthz HTTP/1.1", "Host: a", "X: " + "x" * 100_000)
    client.send(request(b"1" * 50_000) + request(b"2") + giant)
    assert [client.answer()[0] for _ in range(3)] == [200, 200, 431]
    assert client.ended()


def test_a_head_just_under_the_limit_passes(front_server: Any) -> None:
    client = front_server.client()
    client.send(head("GET /healthz HTTP/1.1", "Host: a", "X: " + "x" * 65_000))
    assert client.answer()[0] == 200


def test_many_pipelined_requests_in_one_read_are_no_long_head(front_server: Any) -> None:
    client = front_server.client()
    sender = threading.Thread(target=client.send, args=(request(b"5") * 2_000,))
    sender.start()
    assert {client.answer()[2] for _ in range(2_000)} == {b"5"}
    sender.join()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_connection_close_is_honoured(front_server: Any, version: str) -> None:
    client = front_server.client()
    client.send(request(b"1", "Connection: close", version=version))
    _, headers, body = client.answer()
    assert (headers["connection"], body) == ("close", b"1")
    assert client.ended()


def test_http_1_0_closes_unless_asked_to_keep_alive(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b"1", "Connection: Keep-Alive", version="1.0"))
    assert client.answer()[1]["connection"] == "keep-alive"
    client.send(head("GET /healthz HTTP/1.0"))
    assert client.answer()[1]["connection"] == "close"
    assert client.ended()


def test_a_wish_to_upgrade_is_ignored_and_the_body_is_still_the_requests(front_server: Any) -> None:
    client = front_server.client()
    wish = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA", "X-Amz-Tenant-Id: blue")
    client.send(request(b'{"a":1}', *wish) + request(b"2"))
    assert [client.answer()[2] for _ in range(2)] == [b'{"a":1}', b"2"]
    first, second = front_server.application.wait_for(2)
    assert (first.tenant_id, second.tenant_id) == ("blue", "")


def test_chunked_bodies_are_joined_and_trailers_do_not_leak_into_the_next_request(front_server: Any) -> None:
    client = front_server.client()
    body = b"1\r\n[\r\n2;ext=1\r\n1,\r\n2\r\n2]\r\n0\r\nX-Amz-Tenant-Id: red\r\nHost: b\r\n\r\n"
    client.send(CHUNKED + body + request(b"3"))
    assert [client.answer()[2] for _ in range(2)] == [b"[1,2]", b"3"]
    first, second = front_server.application.wait_for(2)
    assert (first.tenant_id, second.tenant_id) == ("", "")


def test_a_body_of_one_byte_chunks_comes_out_whole(front_server: Any) -> None:
    client = front_server.client()
    text = json.dumps(list(range(20_000))).encode()
    framed = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
    client.send(CHUNKED + framed + b"0\r\n\r\n")
    assert client.answer()[2] == text


def test_endless_trailers_are_cut_off(front_server: Any) -> None:
    client = front_server.client()
    client.send(CHUNKED + b"2\r\n{}\r\n0\r\nX: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(600):
            client.send(b"x" * 1_024)
    assert client.answer()[0] == 431


ONE = request(b'{"first": 1}', "X-Amz-Tenant-Id: blue")
TWO = CHUNKED + b'7\r\n{"secon\r\n7\r\nd": 22}\r\n0\r\n\r\n'


class _Wire:
    """A transport in memory."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        raise AssertionError("closed")

    pause_reading = resume_reading = write_eof = close


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(ONE + TWO)), max_size=40).map(sorted))
def test_any_split_of_two_pipelined_requests_gives_the_same_two_answers(cuts: list[int]) -> None:
    class Echo:
        def invoke(self, invocation: Any) -> None:
            invocation.reply(200, ((b"X-Tenant", invocation.tenant_id.encode()),), invocation.body)

        def health(self) -> tuple[bool, dict[str, object]]:
            return True, {}

        ready = health

    front: Any = http_front(Echo())
    front.opened = lambda connection: None
    connection: Any = front()
    wire = _Wire()
    connection.connection_made(wire)
    data = ONE + TWO
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start != end:
            connection.data_received(data[start:end])
    blue, none = (part for part in wire.written.split(b"HTTP/1.1 200 OK\r\n")[1:])
    assert b"X-Tenant: blue\r\n" in blue
    assert blue.endswith(b'\r\n\r\n{"first": 1}')
    assert b"X-Tenant: \r\n" in none
    assert none.endswith(b'\r\n\r\n{"second": 22}')


def test_requests_arriving_byte_by_byte_over_tcp_are_answered(front_server: Any) -> None:
    client = front_server.client()
    for byte in ONE + TWO:
        client.send(bytes((byte,)))
    assert [client.answer()[2] for _ in range(2)] == [b'{"first": 1}', b'{"second": 22}']


# --- sizes


def test_a_body_of_exactly_the_limit_passes(front_server: Any) -> None:
    client = front_server.client()
    body = b'"' + b"x" * (6_291_556 - 2) + b'"'
    client.send(request(body))
    assert client.answer()[2] == body


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_a_body_over_the_limit_is_refused_by_its_length_before_it_is_sent(
    front_server: Any, expect: tuple[str, ...]
) -> None:
    client = front_server.client()
    client.send(head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 6291557", *expect))
    answer = client.answer()
    assert error(answer) == (
        413,
        "RequestTooLargeException",
        "Request must be smaller than 6291556 bytes for the InvokeFunction operation",
    )
    assert answer[1]["connection"] == "close"


def test_a_client_that_sends_its_too_large_body_first_still_reads_the_refusal(front_server: Any) -> None:
    client = front_server.client()
    client.send(request(b"1" * 9_000_000))
    assert client.answer()[0] == 413
    assert client.ended()


def test_a_chunked_body_is_refused_once_it_passes_the_limit(front_server: Any) -> None:
    client = front_server.client()
    client.send(CHUNKED)
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            client.send(b"10000\r\n" + b"1" * 65_536 + b"\r\n")
    assert error(client.answer())[:2] == (413, "RequestTooLargeException")
    assert front_server.application.invocations == []


def test_a_chunked_body_that_ends_over_the_limit_in_its_last_read_is_refused(serve_front: Any) -> None:
    server = serve_front()
    route = Route("/small", {"POST": lambda _: _Small()})
    server.call(lambda: setattr(server.front, "routes", Routes([route])))
    client = server.client()
    client.send(CHUNKED.replace(PATH.encode(), b"/small") + b"b\r\n12345678901\r\n0\r\n\r\n")
    assert error(client.answer()) == (
        413,
        "RequestTooLargeException",
        "Request must be smaller than 10 bytes for the Small operation",
    )


class _Small:
    name = "Small"
    body_limit = 10

    def accept(self, headers: Any) -> None:
        return None

    def perform(self, exchange: Any, options: Any, body: bytes) -> None:
        exchange.reply(200, (), body)


def test_a_client_that_expects_100_continue_gets_it_then_the_answer(front_server: Any) -> None:
    client = front_server.client()
    client.send(head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 2", "Expect: 100-Continue"))
    assert client.answer()[0] == 100
    client.send(b"{}")
    assert client.answer()[2] == b"{}"
    client.send(request(b"1"))
    assert client.answer()[2] == b"1"


@pytest.mark.parametrize(
    ("path", "extra", "status"),
    [
        ("/nowhere", (), 404),
        (PATH, ("X-Amz-Invocation-Type: Event",), 400),
        (PATH + "?Qualifier=a*", (), 400),
    ],
)
def test_a_request_that_will_be_refused_is_never_told_to_continue(
    front_server: Any, path: str, extra: tuple[str, ...], status: int
) -> None:
    client = front_server.client()
    client.send(head(f"POST {path} HTTP/1.1", "Host: a", "Content-Length: 2", "Expect: 100-continue", *extra))
    got, headers, _ = client.answer()
    assert (got, headers["connection"]) == (status, "close")


def test_100_continue_waits_for_the_answers_before_it(front_server: Any) -> None:
    application = front_server.application
    application.on_invoke = application.keep
    client = front_server.client()
    client.send(request(b"1") + head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 1", "Expect: 100-continue"))
    (first,) = application.wait_for(1)
    front_server.reply(first, 200, (), b"first")
    assert client.answer()[2] == b"first"
    assert client.answer()[0] == 100
    client.send(b"2")
    front_server.reply(application.wait_for(2)[1], 200, (), b"second")
    assert client.answer()[2] == b"second"


# --- order and flow


def test_answers_come_in_the_order_of_requests_whatever_order_they_are_made_in(front_server: Any) -> None:
    application = front_server.application
    application.on_invoke = application.keep
    client = front_server.client()
    client.send(b"".join(request(b"%d" % n) for n in range(10)))
    for invocation in reversed(application.wait_for(10)):
        front_server.reply(invocation, 200, (), invocation.body)
    assert [client.answer()[2] for _ in range(10)] == [b"%d" % n for n in range(10)]


def test_no_more_than_the_pipeline_limit_run_at_once_and_none_is_lost(serve_front: Any) -> None:
    server = serve_front(pipeline=4)
    application = server.application
    application.on_invoke = application.keep
    client = server.client()
    client.send(b"".join(request(b"%d" % n) for n in range(50)))
    for done in range(50):
        running = application.wait_for(min(done + 4, 50))
        assert len(application.invocations) <= done + 4
        server.reply(running[done], 200, (), running[done].body)
        assert client.answer()[2] == b"%d" % done


def test_a_deep_pipeline_of_immediate_answers_does_not_recurse(serve_front: Any) -> None:
    server = serve_front(pipeline=1)
    application = server.application
    application.on_invoke = application.keep
    client = server.client()
    client.send(request(b"0") + request(b"1") * 1_500)
    (first,) = application.wait_for(1)
    server.call(setattr, application, "on_invoke", None)
    server.reply(first, 200, (), b"0")
    assert client.answer()[2] == b"0"
    assert {client.answer()[2] for _ in range(1_500)} == {b"1"}


def test_a_client_that_does_not_read_is_not_read_from_either(serve_front: Any) -> None:
    server = serve_front()
    megabyte = b"x" * 1_000_000
    server.application.on_invoke = lambda invocation: invocation.reply(200, (), megabyte)
    client = server.client(receive_buffer=65_536)
    total = 200
    sender = threading.Thread(target=client.send, args=(request(b"1", "X: " + "y" * 4_000) * total,))
    sender.start()
    server.application.wait_for(1)
    (connection,) = server.call(list, server.front.connections)
    deadline = time.monotonic() + 10
    while not server.call(lambda: connection._paused and connection._write_paused):
        assert time.monotonic() < deadline
    # Some answers fit the kernel's buffers; the front itself holds no more than what it was writing.
    assert server.call(connection.transport.get_write_buffer_size) <= 2 * len(megabyte)
    assert len(server.application.invocations) < total // 4
    for _ in range(total):
        assert len(client.answer()[2]) == len(megabyte)
    sender.join()
    assert len(server.application.invocations) == total


def test_a_client_that_never_reads_its_answer_is_dropped(serve_front: Any) -> None:
    server = serve_front(write_seconds=0.1, sweep_seconds=0.02)
    server.application.on_invoke = lambda invocation: invocation.reply(200, (), b"x" * 30_000_000)
    client = server.client(receive_buffer=4_096)
    client.send(request())
    server.application.wait_for(1)
    _await_no_connections(server)


def _await_no_connections(server: Any, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while server.call(len, server.front.connections):
        assert time.monotonic() < deadline, "a connection is still there"
        time.sleep(0.01)


# --- clients that go


def test_a_client_that_shuts_down_its_side_still_gets_its_answers(front_server: Any) -> None:
    application = front_server.application
    application.on_invoke = application.keep
    client = front_server.client()
    client.send(request(b"1") + request(b"2"))
    client.socket.shutdown(socket.SHUT_WR)
    first, second = application.wait_for(2)
    front_server.reply(second, 200, (), b"b")
    front_server.reply(first, 200, (), b"a")
    assert [client.answer()[2] for _ in range(2)] == [b"a", b"b"]
    assert client.ended()


@pytest.mark.parametrize("part", [request(b'{"a": 1}')[:-3], request()[:30], CHUNKED + b"5\r\n{"])
def test_a_request_that_ends_too_soon_is_refused(front_server: Any, part: bytes) -> None:
    client = front_server.client()
    client.send(part)
    client.socket.shutdown(socket.SHUT_WR)
    status, _, message = error(client.answer())
    assert (status, message) == (400, "The request ended before it was complete")
    assert client.ended()
    assert front_server.application.invocations == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_when_the_client_goes_the_invocation_goes_on_and_nothing_leaks(
    front_server: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    application = front_server.application
    application.on_invoke = application.keep
    client = front_server.client()
    client.send(request(b"1") + request(b"2"))
    first, second = application.wait_for(2)
    connections = [weakref.ref(c) for c in front_server.call(list, front_server.front.connections)]
    assert len(connections) == 1
    if how == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    if how == "reset":
        _await_no_connections(front_server)
    front_server.reply(first, 200, (), b"x" * 1_000_000)
    front_server.reply(second, 200, (), b"x" * 1_000_000)
    _await_no_connections(front_server)
    application.invocations.clear()
    del first, second
    gc.collect()
    assert connections[0]() is None
    assert "Traceback" not in caplog.text


def test_a_connection_without_requests_is_freed_without_the_cycle_collector(front_server: Any) -> None:
    client = front_server.client()
    client.send(request())
    client.answer()
    (connection,) = (weakref.ref(c) for c in front_server.call(list, front_server.front.connections))
    front_server.application.wait_for(1)
    front_server.application.invocations.clear()
    gc.disable()
    try:
        client.close()
        _await_no_connections(front_server)
        front_server.call(lambda: None)
        assert connection() is None
    finally:
        gc.enable()


# --- slow clients


@pytest.mark.parametrize(
    ("part", "limits", "says"),
    [
        (request()[:20], {"head_seconds": 0.1}, "headers were not complete within 0.1 seconds"),
        (request(b'{"a": 1}')[:-3], {"body_seconds": 0.1}, "No byte of the body came for 0.1 seconds"),
        (CHUNKED + b"5\r\n", {"body_seconds": 0.1}, "No byte of the body came for 0.1 seconds"),
    ],
)
def test_a_request_that_does_not_go_on_times_out_with_408(
    serve_front: Any, part: bytes, limits: dict[str, Any], says: str
) -> None:
    server = serve_front(sweep_seconds=0.02, **limits)
    client = server.client()
    client.send(request(b"1") + part[:10])
    assert client.answer()[0] == 200
    client.send(part[10:])
    answer = client.answer()
    assert error(answer)[0] == 408
    assert says in error(answer)[2]
    assert answer[1]["connection"] == "close"
    assert client.ended()


def test_a_head_that_trickles_is_not_saved_by_each_byte(serve_front: Any) -> None:
    server = serve_front(sweep_seconds=0.02, head_seconds=0.3)
    client = server.client()
    client.socket.settimeout(0.02)
    client.send(request()[:20])
    deadline = time.monotonic() + 15
    while True:
        assert time.monotonic() < deadline
        try:
            assert client.answer()[0] == 408
            break
        except TimeoutError:
            client.send(b"P")


def test_an_idle_connection_is_closed_without_a_word(serve_front: Any) -> None:
    server = serve_front(sweep_seconds=0.02, idle_seconds=0.1)
    fresh, used = server.client(), server.client()
    used.send(request(b"1"))
    assert used.answer()[2] == b"1"
    assert fresh.ended()
    assert used.ended()


def test_a_running_invocation_is_no_idle_connection(serve_front: Any) -> None:
    server = serve_front(sweep_seconds=0.01, idle_seconds=0.05, head_seconds=0.05, body_seconds=0.05)
    application = server.application
    application.on_invoke = application.keep
    client, idle = server.client(), server.client()
    client.send(request())
    (invocation,) = application.wait_for(1)
    assert idle.ended()  # so idle time did pass
    server.reply(invocation, 200, (), b"1")
    assert client.answer()[2] == b"1"


def test_a_client_that_ignores_the_end_after_a_refusal_is_dropped(serve_front: Any) -> None:
    server = serve_front(sweep_seconds=0.02, linger_seconds=0.1)
    client = server.client()
    client.send(b"nonsense\r\n\r\n")
    assert client.answer()[0] == 400
    _await_no_connections(server)


def test_no_timer_runs_while_there_is_no_connection(serve_front: Any) -> None:
    server = serve_front(sweep_seconds=0.01)
    client = server.client()
    client.send(request())
    client.answer()
    client.close()
    _await_no_connections(server)
    deadline = time.monotonic() + 10
    while server.front._timer is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    again = server.client()
    again.send(request(b"2"))
    assert again.answer()[2] == b"2"


# --- draining


def test_draining_closes_idle_connections_and_lets_busy_ones_finish(front_server: Any) -> None:
    application = front_server.application
    application.on_invoke = application.keep
    idle, busy, sending = front_server.client(), front_server.client(), front_server.client()
    idle.send(head("GET /healthz HTTP/1.1", "Host: a"))
    assert idle.answer()[0] == 200
    busy.send(request(b"1") + request(b"2"))
    first, second = application.wait_for(2)
    sending.send(
        head("GET /healthz HTTP/1.1", "Host: a") + head(f"POST {PATH} HTTP/1.1", "Host: a", "Content-Length: 1")
    )
    assert sending.answer()[0] == 200
    result: list[int] = []
    drainer = threading.Thread(target=lambda: result.append(front_server.run(front_server.listener.drain(20))))
    drainer.start()
    assert idle.ended()
    with pytest.raises(ConnectionRefusedError):
        front_server.client()
    front_server.reply(first, 200, (), b"1")
    assert "connection" not in busy.answer()[1]
    front_server.reply(second, 200, (), b"2")
    assert busy.answer()[1]["connection"] == "close"
    assert busy.ended()
    sending.send(b"3")
    front_server.reply(application.wait_for(3)[2], 200, (), b"3")
    assert sending.answer()[1]["connection"] == "close"
    assert sending.ended()
    drainer.join(20)
    assert result == [0]


def test_draining_gives_up_after_its_time(front_server: Any) -> None:
    application = front_server.application
    application.on_invoke = application.keep
    client = front_server.client()
    client.send(request())
    (invocation,) = application.wait_for(1)
    assert front_server.run(front_server.listener.drain(0.05)) == 1
    assert not front_server.front.connections
    with pytest.raises((EOFError, ConnectionResetError)):
        client.answer()
    front_server.reply(invocation, 200, (), b"late")


def test_pipelined_requests_behind_the_last_answer_of_a_draining_connection_are_dropped(front_server: Any) -> None:
    front_server.call(setattr, front_server.front, "draining", False)
    client = front_server.client()
    client.send(head("GET /healthz HTTP/1.1", "Host: a"))
    client.answer()
    front_server.call(setattr, front_server.front, "draining", True)
    client.send(request(b"1") + request(b"2"))
    _, headers, body = client.answer()
    assert (headers["connection"], body) == ("close", b"1")
    with pytest.raises((EOFError, ConnectionResetError)):
        client.answer()
    assert len(front_server.application.wait_for(1)) == 1


def test_the_listener_says_where_it_listens_and_refuses_to_start_twice(front_server: Any) -> None:
    assert front_server.listener.host == "127.0.0.1"
    assert front_server.listener.port == front_server.port > 0
    with pytest.raises(RuntimeError, match="already listening on"):
        front_server.run(front_server.listener.start("127.0.0.1", 0))


def test_limits_are_what_the_documentation_says() -> None:
    limits = Limits()
    assert (limits.head_bytes, limits.pipeline) == (65_536, 32)
    assert (limits.head_seconds, limits.body_seconds, limits.idle_seconds) == (30.0, 30.0, 75.0)

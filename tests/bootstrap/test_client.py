"""The client against a Runtime API that answers as each test says."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from bootstrap.scripted import ACCEPTED, HOLD, NEXT, PONG, Reply, Request, ScriptedAPI, event, events, refusal
from lamplighter.bootstrap import VERSION
from lamplighter.bootstrap.answer import ClientFault, Gone, Malformed
from lamplighter.bootstrap.client import CAUSE_LIMIT, AddressFault, Refused, RuntimeClient, split_address
from lamplighter.worker.event import Event

ROOT = Path(__file__).parents[2]


def posted(request: Request) -> tuple[str, bytes]:
    return request.path.removeprefix("/2018-06-01/runtime/"), request.body


def test_the_version_it_gives_is_the_packages() -> None:
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()


def test_an_event_brings_all_its_headers() -> None:
    one = event(
        b"[1]",
        "id-7",
        Lambda_Runtime_Trace_Id="Root=1-a;Parent=b;Sampled=1",
        Lambda_Runtime_Client_Context='{"custom": {"é": 1}}',
        Lambda_Runtime_Cognito_Identity='{"cognitoIdentityId":"i"}',
        Lambda_Runtime_Aws_Tenant_Id="blue",
        Lambda_Runtime_Invocation_Id="inv-1",
    )
    with ScriptedAPI(events(one)) as api:
        got = RuntimeClient(api.address).next()
        request = api.wait()
    assert {name: getattr(got, name) for name in Event.__slots__} == {
        "body": b"[1]",
        "request_id": "id-7",
        "function_arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        "deadline_ms": 4102444800000,
        "trace_id": "Root=1-a;Parent=b;Sampled=1",
        "client_context": '{"custom": {"é": 1}}',
        "cognito_identity": '{"cognitoIdentityId":"i"}',
        "tenant_id": "blue",
        "invocation_id": "inv-1",
        "content_type": "application/json",
        "sequence": 0,
        "learn": False,
        "more": False,
    }
    python = ".".join(map(str, sys.version_info[:3]))
    assert (request.method, request.path) == ("GET", NEXT)
    assert request.headers == {"host": api.address, "user-agent": f"lamplighter/{VERSION} python/{python}"}


def test_what_an_event_does_not_bring_is_empty() -> None:
    bare = b"HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id:x\r\ncontent-length:0\r\n\r\n"
    with ScriptedAPI(events(bare)) as api:
        got = RuntimeClient(api.address).next()
    assert (got.body, got.request_id, got.deadline_ms, got.content_type, got.trace_id) == (b"", "x", 0, "", "")


@pytest.mark.parametrize("deadline", ["soon", "-5", "1.5", "9" * 30, "\u00b2"])
def test_a_deadline_that_is_no_number_counts_as_none(deadline: str) -> None:
    with ScriptedAPI(events(event(Lambda_Runtime_Deadline_Ms=deadline))) as api:
        assert RuntimeClient(api.address).next().deadline_ms == 0


@pytest.mark.parametrize("request_id", ["", "two words", "a\tb", "\u00e9"])
def test_an_event_without_a_usable_request_id_is_a_fault(request_id: str) -> None:
    with (
        ScriptedAPI(events(event(Lambda_Runtime_Aws_Request_Id=request_id))) as api,
        pytest.raises(Malformed, match=r"request id|Request-Id"),
    ):
        RuntimeClient(api.address).next()


def test_a_result_goes_to_its_invocation_with_its_type_and_the_invocation_id_comes_back() -> None:
    with ScriptedAPI(events(event(Lambda_Runtime_Invocation_Id="inv-1"), event(request_id="id-2"))) as api:
        client = RuntimeClient(api.address)
        client.respond(client.next(), b'"x"', "application/json")
        client.respond(client.next(), b"\xff", "application/unknown")
        first, second = api.answers(2)
    assert posted(first) == ("invocation/id-1/response", b'"x"')
    assert (first.headers["content-type"], first.headers["content-length"]) == ("application/json", "3")
    assert first.headers["lambda-runtime-invocation-id"] == "inv-1"
    assert posted(second) == ("invocation/id-2/response", b"\xff")
    assert second.headers["content-type"] == "application/unknown"
    assert "lambda-runtime-invocation-id" not in second.headers


def test_an_error_brings_its_type_and_the_cause_for_xray() -> None:
    cause = '{"message": "é"}'.encode()
    with ScriptedAPI(events(event(Lambda_Runtime_Invocation_Id="inv-1"))) as api:
        client = RuntimeClient(api.address)
        client.fail(client.next(), b"{}", "ValueError", cause)
        (request,) = api.answers(1)
    assert posted(request) == ("invocation/id-1/error", b"{}")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["lambda-runtime-function-error-type"] == "ValueError"
    assert request.headers["lambda-runtime-function-xray-error-cause"] == '{"message": "é"}'
    assert request.headers["lambda-runtime-invocation-id"] == "inv-1"


def test_a_cause_that_a_head_need_not_hold_is_left_out() -> None:
    with ScriptedAPI(events(event(), event())) as api:
        client = RuntimeClient(api.address)
        client.fail(client.next(), b"{}", "E", b"x" * (CAUSE_LIMIT - 1))
        client.fail(client.next(), b"{}", "E", b"x" * CAUSE_LIMIT)
        first, second = api.answers(2)
    assert len(first.headers["lambda-runtime-function-xray-error-cause"]) == CAUSE_LIMIT - 1
    assert "lambda-runtime-function-xray-error-cause" not in second.headers


@pytest.mark.parametrize("error_type", ["a\r\nX-Injected: 1", "a\nb", "a\0b", "\ud800"])
def test_the_name_of_an_exception_cannot_break_out_of_its_header(error_type: str) -> None:
    with ScriptedAPI(events(event())) as api:
        client = RuntimeClient(api.address)
        client.fail(client.next(), b"{}", error_type)
        (request,) = api.answers(1)
    assert "x-injected" not in request.headers
    assert request.headers["lambda-runtime-function-error-type"]


def test_init_and_restore_have_paths_of_their_own() -> None:
    with ScriptedAPI(lambda request: ACCEPTED if request.method == "POST" else PONG) as api:
        client = RuntimeClient(api.address)
        client.init_error(b"{}", "Runtime.ImportModuleError")
        client.restore_next()
        client.restore_error(b"{}", "Runtime.AfterRestoreError", b"{}")
        got = [api.wait() for _ in range(3)]
    assert [(one.method, posted(one)[0]) for one in got] == [
        ("POST", "init/error"),
        ("GET", "restore/next"),
        ("POST", "restore/error"),
    ]
    assert got[0].headers["lambda-runtime-function-error-type"] == "Runtime.ImportModuleError"
    assert got[2].headers["lambda-runtime-function-error-type"] == "Runtime.AfterRestoreError"
    assert [one.connection for one in got] == [0, 0, 1], "no connection is carried over a restore"


def test_one_connection_serves_all_requests() -> None:
    with ScriptedAPI(events(event(), event(), event())) as api:
        client = RuntimeClient(api.address)
        for _ in range(3):
            client.respond(client.next(), b"1", "application/json")
        api.answers(3)
    assert {one.connection for one in api.requests} == {0}


@pytest.mark.parametrize("then_next", [False, True])
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 6_291_556])
def test_bodies_of_any_size_go_both_ways(size: int, then_next: bool) -> None:
    body = os.urandom(size)
    with ScriptedAPI(events(event(body), event())) as api:
        client = RuntimeClient(api.address)
        got = client.next()
        client.respond(got, got.body, "application/unknown", then_next=then_next)
        client.next()
        (request,) = api.answers(1)
    assert got.body == body
    assert request.body == body


def test_a_result_and_the_request_for_the_next_event_can_go_in_one_send() -> None:
    with ScriptedAPI(events(event(), event(request_id="id-2"))) as api:
        client = RuntimeClient(api.address)
        client.respond(client.next(), b"1", "application/json", then_next=True)
        assert client.next().request_id == "id-2"
        (request,) = api.answers(1)
    assert request.with_more
    assert [one.path for one in api.requests].count(NEXT) == 2


def test_a_refusal_tells_what_was_refused_and_why() -> None:
    with ScriptedAPI(events(event(), to_posts=refusal(400, b'{"errorType":"InvalidRequestID"}'))) as api:
        client = RuntimeClient(api.address)
        one = client.next()
        with pytest.raises(Refused, match=r"400 to a response.*InvalidRequestID") as fault:
            client.respond(one, b"1", "application/json")
    assert (fault.value.status, fault.value.event) == (400, one)


def test_a_refusal_of_what_went_with_a_request_for_the_next_event_is_told_there_and_the_event_still_comes() -> None:
    with ScriptedAPI(events(event(), event(request_id="id-2"), to_posts=refusal(413))) as api:
        client = RuntimeClient(api.address)
        one = client.next()
        client.respond(one, b"1", "application/json", then_next=True)
        with pytest.raises(Refused) as fault:
            client.next()
        assert (fault.value.status, fault.value.event) == (413, one)
        # The way is not free: a request for the next event is on it.
        with pytest.raises(Refused):
            client.fail(one, b"{}", "Function.ResponseSizeTooLarge")
        assert client.next().request_id == "id-2"
        assert [one.connection for one in api.answers(2)] == [0, 1]


@pytest.mark.parametrize("status", [204, 400, 403, 404, 410, 500, 503])
def test_anything_but_an_event_is_no_event(status: int) -> None:
    with (
        ScriptedAPI(lambda _: refusal(status) if status != 204 else b"HTTP/1.1 204 No\r\n\r\n") as api,
        pytest.raises(Refused, match=str(status)) as fault,
    ):
        RuntimeClient(api.address).next()
    assert fault.value.event is None


def test_when_the_server_closed_a_kept_connection_the_request_goes_over_a_new_one() -> None:
    answering = events(event(), event(request_id="id-2"))

    def closing(request: Request) -> Reply:
        reply = answering(request)
        # No "Connection: close": the client finds out by itself.
        return Reply(reply if isinstance(reply, bytes) else reply.data, close=True)

    with ScriptedAPI(closing) as api:
        client = RuntimeClient(api.address)
        client.respond(client.next(), b"1", "application/json")
        assert client.next().request_id == "id-2"
        got = [api.wait() for _ in range(3)]
    assert [(one.path == NEXT, one.connection) for one in got] == [(True, 0), (False, 1), (True, 2)]


def test_when_the_server_says_that_it_closes_the_connection_it_is_not_used_again() -> None:
    closing = Reply(ACCEPTED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), close=True)
    with ScriptedAPI(events(event(), event(request_id="id-2"), to_posts=closing)) as api:
        client = RuntimeClient(api.address)
        # The server answers the one and never reads the other.
        client.respond(client.next(), b"1", "application/json", then_next=True)
        assert client.next().request_id == "id-2"
        assert [one.connection for one in api.requests if one.is_next][-1] == 1


def test_a_connection_that_dies_with_both_requests_on_it_loses_neither() -> None:
    answering = events(event(), event(request_id="id-2"))
    died: list[Request] = []

    def dying(request: Request) -> Reply | bytes:
        if request.method == "POST" and not died:
            died.append(request)
            return Reply(close=True)
        return answering(request)

    with ScriptedAPI(dying) as api:
        client = RuntimeClient(api.address)
        client.respond(client.next(), b"1", "application/json", then_next=True)
        assert client.next().request_id == "id-2"
    assert [(one.is_next, one.connection) for one in api.requests] == [(True, 0), (False, 0), (False, 1), (True, 1)]


def test_an_answer_that_had_arrived_before_its_connection_died_is_no_fault() -> None:
    answering = events(event(), event(request_id="id-2"))
    posts: list[Request] = []

    def dying(request: Request) -> Reply | bytes:
        if request.method == "POST":
            posts.append(request)
            # The first time it is taken, and nobody hears of it; so the second time it is out of order.
            return Reply(close=True) if len(posts) == 1 else refusal(403)
        return answering(request)

    with ScriptedAPI(dying) as api:
        client = RuntimeClient(api.address)
        client.respond(client.next(), b"1", "application/json", then_next=True)
        assert client.next().request_id == "id-2"


def test_a_connection_that_dies_before_the_next_event_is_replaced() -> None:
    answering = events(event(), event(request_id="id-2"))
    asked: list[Request] = []

    def dying(request: Request) -> Reply | bytes:
        if request.is_next:
            asked.append(request)
            if len(asked) == 2:
                return Reply(close=True)
        return answering(request)

    with ScriptedAPI(dying) as api:
        client = RuntimeClient(api.address)
        client.respond(client.next(), b"1", "application/json", then_next=True)
        assert client.next().request_id == "id-2"


def test_a_server_that_hangs_up_on_a_new_connection_is_gone() -> None:
    with ScriptedAPI(lambda _: Reply(close=True)) as api:
        with pytest.raises(Gone, match="closed the connection without an answer"):
            RuntimeClient(api.address).next()
        assert len(api.requests) == 1


def test_a_refusal_that_comes_before_the_whole_body_was_read_is_heard() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(refusal(413, b"too large"))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):  # what is left unread would reset the connection
                pass

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    with listener:
        client = RuntimeClient(f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(Refused, match="413"):
            client.respond(Event(b"", "id"), b"x" * 6_000_000, "application/json")
        client.close()
        server.join(20)


def test_nobody_there_is_a_fault_that_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(Gone, match=f"cannot connect to the Runtime API at {address}: Connection refused"):
        RuntimeClient(address).next()
    nowhere = "n" * 64  # longer than a name may be, so that no name server is asked
    with pytest.raises(Gone, match=f"cannot find the Runtime API at {nowhere}:1"):
        RuntimeClient(f"{nowhere}:1").next()


def test_the_address_may_be_a_name_or_of_version_6() -> None:
    with ScriptedAPI(events(event())) as api:
        assert RuntimeClient(f"localhost:{api.port}").next().request_id == "id-1"
        assert api.wait().headers["host"] == f"localhost:{api.port}"
    try:
        version_6 = ScriptedAPI(events(event()), socket.AF_INET6)
    except OSError:
        pytest.skip("this host has no ::1")
    with version_6 as api:
        assert RuntimeClient(f"::1:{api.port}").next().request_id == "id-1"
        assert api.wait().headers["host"] == f"[::1]:{api.port}"
    assert split_address("::1:9001") == split_address("[::1]:9001") == ("::1", 9001)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":9001",
        "host:",
        "host:0",
        "host:65536",
        "host:http",
        "http://h:1",
        "a b:1",
        "a\r\nX: 1:1",
        "h:999999",
        "\u00e9" * 70 + ":1",
        "h:1/x",
        "h:\u0661",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(AddressFault, match="host:port"):
        RuntimeClient(address)


def test_a_server_that_answers_two_requests_of_one_send_is_seen_to() -> None:
    with ScriptedAPI(events(event())) as api:
        client = RuntimeClient(api.address)
        assert client.takes_one_send()
        assert client.next().request_id == "id-1"
    assert [(one.method, one.path, one.connection) for one in api.requests] == [
        ("OPTIONS", "*", 0),
        ("OPTIONS", "*", 0),
        ("GET", NEXT, 0),
    ]


@pytest.mark.parametrize(
    "options",
    [
        Reply(close=True),
        HOLD,
        Reply(PONG, close=True),
        refusal(501).replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
        b"HTTP/1.0 400 Bad\r\nContent-Length: 0\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
    ids=["hangs up", "says nothing", "reads one", "closes", "HTTP/1.0", "garbage"],
)
def test_a_server_that_does_not_is_asked_one_thing_at_a_time_and_loses_nothing(options: Reply | bytes) -> None:
    with ScriptedAPI(events(event(), options=options)) as api:
        client = RuntimeClient(api.address)
        assert not client.takes_one_send()
        assert client.next().request_id == "id-1"
        assert [one.is_next for one in api.requests].count(True) == 1


def test_a_server_that_takes_the_question_for_a_request_for_an_event_loses_none() -> None:
    left = [event(request_id="id-1"), event(request_id="id-2"), event(request_id="id-3")]
    with ScriptedAPI(lambda request: ACCEPTED if request.method == "POST" else left.pop(0)) as api:
        client = RuntimeClient(api.address)
        assert not client.takes_one_send()
        assert [client.next().request_id for _ in range(3)] == ["id-1", "id-2", "id-3"]


def test_a_signal_handler_runs_while_it_waits() -> None:
    ran: list[int] = []
    kept = signal.signal(signal.SIGUSR1, lambda number, _: ran.append(number))
    sent = threading.Event()
    answering = events(event())

    def late(request: Request) -> Reply | bytes:
        os.kill(os.getpid(), signal.SIGUSR1)
        sent.set()
        deadline = time.monotonic() + 20
        while not ran and time.monotonic() < deadline:  # the event comes once the handler has run
            time.sleep(0.001)
        return answering(request)

    try:
        with ScriptedAPI(late) as api:
            assert RuntimeClient(api.address).next().request_id == "id-1"
    finally:
        signal.signal(signal.SIGUSR1, kept)
    assert sent.is_set()
    assert ran == [signal.SIGUSR1]


def test_no_cut_of_any_answer_hangs_it_or_leaks_a_descriptor() -> None:
    whole = event(b'{"a": 1}')
    before = len(os.listdir("/proc/self/fd"))
    for cut in range(0, len(whole), 3):
        with ScriptedAPI(lambda _, cut=cut: Reply(whole[:cut], close=True)) as api, pytest.raises(ClientFault):
            RuntimeClient(api.address).next()
    assert len(os.listdir("/proc/self/fd")) == before

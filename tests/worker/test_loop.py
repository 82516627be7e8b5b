"""The loop over the channel: in this process where it can be, in one of its own where the process is what is tested."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamplighter.events import MarshalError, UnmarshalError, ValidationError, typed
from lamplighter.worker import channel
from lamplighter.worker.context import LambdaContext, current
from lamplighter.worker.loop import LONGEST_TIMEOUT_MS, invoke_once, serve
from lamplighter.worker.output import output
from lamplighter.worker.transport import ChannelTransport
from sending import send
from worker_answers import answers, event

RUNTIME = Path(channel.__file__).parents[2]
TRACE_ID = "_X_AMZN_TRACE_ID"

Handler = Callable[[Any, LambdaContext], Any]


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(TRACE_ID, raising=False)
    yield
    os.environ.pop(TRACE_ID, None)
    current.request_id, current.tenant_id = "", None


def answer(handler: Handler, one: channel.Event) -> channel.Reply:
    return answers(handler, one)[0]


def test_a_result_comes_back_with_the_events_sequence_number() -> None:
    replies = answers(lambda event, context: [event, context.aws_request_id], event(b"1", 7), event(b'"x"', 8))
    assert [(r.kind, r.sequence, r.flags, r.body) for r in replies] == [
        (channel.RESPONSE, 7, 0, b'[1, "id-7"]'),
        (channel.RESPONSE, 8, 0, b'["x", "id-8"]'),
    ]


def test_bytes_come_back_raw() -> None:
    reply = answer(lambda event, context: b"\xff", event())
    assert (reply.kind, reply.flags, reply.body) == (channel.RESPONSE, channel.RAW, b"\xff")


def test_six_megabytes_go_in_and_come_out() -> None:
    body = json.dumps("x" * 6_291_554).encode()
    assert len(body) == 6_291_556
    assert answer(lambda event, context: event, event(body)).body == body


def test_an_event_of_another_content_type_stays_bytes() -> None:
    # The channel carries JSON only; a transport over HTTP tells the type.
    class Once(ChannelTransport):
        def next(self) -> channel.Event | None:
            return events.pop() if events else None

        def respond(self, event: channel.Event, body: bytes, is_json: bool) -> None:
            got.append(body)

    events = [channel.Event(b"\x00raw", "id", content_type="application/json; charset=utf-8")]
    got: list[bytes] = []
    with socket.socket() as unused:
        serve(lambda event, context: event + b"!", Once(unused))  # type: ignore[operator]
    assert got == [b"\x00raw!"]


def test_an_exception_comes_back_as_an_error_and_the_next_event_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    def handler(event: Any, context: LambdaContext) -> Any:
        if event:
            raise LookupError("no such order")
        return "fine"

    failed, fine = answers(handler, event(b"true", 1), event(b"false", 2))
    payload = json.loads(failed.body)
    assert (failed.kind, failed.error_type) == (channel.ERROR, "LookupError")
    assert list(payload) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (payload["errorMessage"], payload["errorType"], payload["requestId"]) == (
        "no such order",
        "LookupError",
        "id-1",
    )
    assert len(payload["stackTrace"]) == 1
    assert fine.body == b'"fine"'
    assert capsys.readouterr().out.startswith("[ERROR] LookupError: no such order\rTraceback")


@pytest.mark.parametrize(
    ("one", "result", "error_type", "message"),
    [
        (event(b"{"), None, "Runtime.UnmarshalError", "Unable to unmarshal input: Expecting property name"),
        (event(), {1}, "Runtime.MarshalError", "Unable to marshal response: Object of type set"),
        (
            event(client_context="x"),
            None,
            "Runtime.LambdaContextUnmarshalError",
            "Unable to parse Client Context JSON: Expecting value",
        ),
    ],
)
def test_data_that_cannot_be_coded_is_lambdas_own_error(
    one: channel.Event, result: object, error_type: str, message: str
) -> None:
    reply = answer(lambda event, context: result, one)
    payload = json.loads(reply.body)
    assert (reply.error_type, payload["errorType"], payload["stackTrace"]) == (error_type, error_type, [])
    assert payload["errorMessage"].startswith(message)


def test_a_handler_that_cannot_be_called_shows_the_call_that_failed() -> None:
    payload = json.loads(answer(lambda event: event, event()).body)  # type: ignore[arg-type, misc]
    assert payload["errorType"] == "TypeError"
    assert "takes 1 positional argument but 2 were given" in payload["errorMessage"]
    assert "loop.py" in payload["stackTrace"][-1]


def test_a_lone_surrogate_in_an_error_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ascii_only", False)

    def handler(event: Any, context: LambdaContext) -> Any:
        raise ValueError("\ud800é")

    assert b'"errorMessage": "\\ud800\xc3\xa9"' in answer(handler, event()).body


def test_the_trace_id_is_set_for_one_invocation_and_gone_in_the_next() -> None:
    replies = answers(
        lambda event, context: os.environ.get(TRACE_ID), event(b"1", 1, trace_id="Root=1-a"), event(b"1", 2)
    )
    assert [reply.body for reply in replies] == [b'"Root=1-a"', b"null"]


def test_the_environment_is_read_when_serving_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("one", "two"):
        monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", stream)
        assert answer(lambda event, context: context.log_stream_name, event()).body == f'"{stream}"'.encode()


def test_an_idle_worker_does_not_keep_the_last_event() -> None:
    class Payload(dict[str, object]):
        """A dict that can be referred to weakly."""

    kept: list[weakref.ref[Payload]] = []
    alive: list[bool] = []

    def handler(event: Any, context: LambdaContext) -> Any:
        gc.collect()
        alive.extend(ref() is not None for ref in kept)
        result = Payload(event=event)
        kept.append(weakref.ref(result))
        return result

    answers(handler, event(b"1", 1), event(b"2", 2))
    assert alive == [False]


def test_streams_a_handler_put_in_place_are_flushed_before_the_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    sizes: list[int] = []

    class Watching(ChannelTransport):
        def respond(self, event: channel.Event, body: bytes, is_json: bool) -> None:
            sizes.append(path.stat().st_size)
            super().respond(event, body, is_json)

    def handler(event: Any, context: LambdaContext) -> None:
        monkeypatch.setattr(sys, "stdout", path.open("w"))
        print("printed")

    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with worker:
        send(host, event())
        host.shutdown(socket.SHUT_WR)
        serve(handler, Watching(worker))
    host.close()
    assert sizes == [len("printed\n")]


def test_closed_streams_do_not_lose_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def handler(event: Any, context: LambdaContext) -> str:
        stream = (tmp_path / "out").open("w")
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", None)
        stream.close()
        return "answered"

    assert answer(handler, event()).body == b'"answered"'


def test_when_the_host_has_gone_the_loop_ends() -> None:
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def handler(event: Any, context: LambdaContext) -> str:
        host.close()
        return "to nobody"

    with worker:
        send(host, event())
        serve(handler, ChannelTransport(worker))


def test_a_host_that_leaves_with_answers_unread_ends_the_loop_too() -> None:
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    transport = ChannelTransport(worker)
    with worker:
        transport.ready()
        host.close()
        assert transport.next() is None


def test_a_warm_up_event_runs_the_same_path_and_leaves_no_trace() -> None:
    seen: list[Any] = []

    def handler(event: Any, context: LambdaContext) -> Any:
        seen.append((current.request_id, context.get_remaining_time_in_millis(), context.invoked_function_arn))
        return {"got": event}

    assert invoke_once(handler, b"[1]", request_id="warm", function_arn="arn") == (b'{"got": [1]}', True)
    ((request_id, remaining, arn),) = seen
    assert (request_id, arn) == ("warm", "arn")
    assert LONGEST_TIMEOUT_MS - 60_000 < remaining <= LONGEST_TIMEOUT_MS
    assert current.request_id == ""


def test_a_warm_up_event_raises_what_the_handler_raises() -> None:
    def handler(event: Any, context: LambdaContext) -> Any:
        raise KeyError(event)

    with pytest.raises(KeyError):
        invoke_once(handler, b"1", request_id="warm")
    with pytest.raises(UnmarshalError):
        invoke_once(handler, b"", request_id="warm")
    with pytest.raises(MarshalError):
        invoke_once(lambda event, context: {1}, b"1", request_id="warm")
    assert current.request_id == ""


PROCESS = """
import os, socket, sys
from lamplighter.worker.initialise import initialise
from lamplighter.worker.loop import serve
from lamplighter.worker.transport import ChannelTransport
transport = ChannelTransport(socket.socket(fileno=int(sys.argv[1])))
handler = initialise("leaves.handler")
transport.ready()
serve(handler, transport)
print("the host has gone")
"""


@pytest.mark.parametrize(
    ("code", "status", "stdout", "stderr"),
    [
        ("sys.exit(0)", 0, "", ""),
        ("sys.exit(3)", 3, "", ""),
        ("sys.exit('said why')", 1, "", "said why"),
        ("os._exit(126)", 126, "", ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "", "KeyboardInterrupt"),
        ("raise GeneratorExit('odd')", 1, "", "GeneratorExit: odd"),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM, "", ""),
        ("print('half a line', end=''); os._exit(9)", 9, "half a line", ""),
        ("return 1", 0, "the host has gone", ""),
    ],
)
def test_what_ends_the_process_ends_it_as_python_does(
    code: str, status: int, stdout: str, stderr: str, tmp_path: Path
) -> None:
    (tmp_path / "leaves.py").write_text(f"import os, sys\n\ndef handler(event, context):\n    {code}\n")
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host.settimeout(20)
    # No -u: the worker sees to it itself that nothing is buffered.
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(worker.fileno())],
        env={**os.environ, "PYTHONPATH": f"{RUNTIME}:{tmp_path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[worker.fileno()],
        text=True,
    )
    with host:
        worker.close()
        ready = channel.receive_reply(host)
        assert ready is not None
        assert ready.kind == channel.READY
        send(host, event(b"1"))
        reply = channel.receive_reply(host)
        assert (reply is not None and reply.kind == channel.RESPONSE) == (code == "return 1")
    out, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert out.strip() == stdout
    assert stderr in err if stderr else err == ""


def test_a_typed_handler_gets_its_type_and_refuses_other_events_by_name_and_place() -> None:
    import msgspec

    class Order(msgspec.Struct):
        id: str

    @typed
    def handler(event: Order, context: LambdaContext) -> str:
        assert type(event) is Order
        return event.id

    replies = answers(handler, event(b'{"id": "a", "more": 1}'), event(b'{"id": 1}', 2), event(b"{", 3))
    assert (replies[0].kind, replies[0].body) == (channel.RESPONSE, b'"a"')
    assert [(r.kind, r.error_type) for r in replies[1:]] == [
        (channel.ERROR, "Function.ValidationError"),
        (channel.ERROR, "Runtime.UnmarshalError"),
    ]
    assert json.loads(replies[1].body) == {
        "errorMessage": "Unable to unmarshal input: Expected `str`, got `int` - at `$.id`",
        "errorType": "Function.ValidationError",
        "requestId": "id-2",
        "stackTrace": [],
    }


def test_a_warm_up_event_of_a_typed_handler_is_decoded_into_its_type() -> None:
    handler = typed(dict[str, int])(lambda event, context: event["a"])
    assert invoke_once(handler, b'{"a": 5}', request_id="warm-up") == (b"5", True)
    with pytest.raises(ValidationError):
        invoke_once(handler, b'{"a": "5"}', request_id="warm-up")

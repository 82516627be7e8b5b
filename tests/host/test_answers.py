"""What the caller gets, whatever a handler does: Lambda's payloads, HTTP 200, ``X-Amz-Function-Error``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, needs, serving, wait_for

LIMIT = 6_291_556


FORGES = (
    RUNS
    + '''

def channel():
    """The descriptor of the socket that answers go through."""
    import os

    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
        except FileNotFoundError:
            pass


def forge(kind, sequence, length, body=b"", flags=0):
    """Send a reply of the handler's own making."""
    import os
    from lamplighter.worker import channel as wire

    os.write(channel(), wire._REPLY.pack(getattr(wire, kind), flags, sequence, length, 0) + body)
'''
)
"""RUNS, and ways to break the protocol with it."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    options = ("--memory", "1769", "--timeout", "1", "--parked", "1", "--concurrency", "4")
    with serving(tmp_path_factory.mktemp("answers"), FORGES, *options) as host:
        host.settle()
        yield host


def payload(error_type: str, message: str) -> bytes:
    """A fault of the platform's, as the service writes it."""
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()


def exit_payload(request_id: str, reason: str, error_type: str = "Runtime.ExitError") -> bytes:
    return payload(error_type, f"RequestId: {request_id} Error: {reason}")


def test_an_exception_comes_back_with_its_type_message_and_stack_trace(host: Serving) -> None:
    answer = host.run("raise ValueError('boom')")
    assert list(answer.error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert answer.error["errorMessage"] == "boom"
    assert answer.error["errorType"] == "ValueError"
    assert answer.error["requestId"] == answer.request_id
    assert answer.error["stackTrace"][0].startswith('  File "/var/task/app.py", line ')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amz-executed-version"] == "$LATEST"
    assert answer.verdict == ("error", "ValueError")
    assert "[ERROR] ValueError: boom\rTraceback (most recent call last):\r" in answer.log


def test_an_environment_whose_first_invocation_failed_goes_on_serving(host: Serving) -> None:
    host.run("import os; os._exit(0)")  # so that the next one is an environment's first
    host.run("kept['mark'] = 1; raise ValueError('first')")
    for _ in range(3):
        assert host.run("result = kept.get('mark')").value == 1


def test_a_timeout_is_answered_with_the_services_words_and_the_worker_is_replaced(host: Serving) -> None:
    answer = host.run("import time; kept['mark'] = 2; time.sleep(30)")
    assert answer.error
    expected = f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    assert answer.body == payload("Sandbox.Timedout", expected)
    assert answer.verdict == ("timeout", "Sandbox.Timedout")
    assert answer.report["Duration"] == "1000.00 ms"
    assert answer.report["Billed Duration"] == "1000 ms"
    assert host.run("result = kept.get('mark')").value != 2


def test_what_a_handler_printed_before_its_timeout_is_in_the_log(host: Serving) -> None:
    answer = host.run("import time; print('so far', flush=True); print('open line', end=''); time.sleep(30)")
    assert "\nso far\nopen line\nEND RequestId: " in answer.log


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(0)", "Runtime exited without providing a reason"),
        ("import sys; sys.exit(3)", "Runtime exited with error: exit status 3"),
        ("import sys; sys.exit('words')", "Runtime exited with error: exit status 1"),
        ("import os; os._exit(0)", "Runtime exited without providing a reason"),
        ("import os; os._exit(126)", "Runtime exited with error: exit status 126"),
        ("import ctypes; ctypes.string_at(0)", "Runtime exited with error: signal: segmentation fault"),
        ("import os; os.abort()", "Runtime exited with error: signal: aborted"),
        ("import os; os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
        ("import os; os.kill(os.getpid(), 15)", "Runtime exited with error: signal: terminated"),
        ("raise KeyboardInterrupt", "Runtime exited with error: signal: interrupt"),
    ],
    ids=["exit-0", "exit-3", "exit-text", "_exit-0", "_exit-126", "segfault", "abort", "kill", "term", "interrupt"],
)
def test_the_end_of_the_process_is_answered_with_its_status_or_signal(host: Serving, code: str, reason: str) -> None:
    answer = host.run(code)
    assert answer.error
    assert answer.body == exit_payload(answer.request_id, reason)
    assert answer.verdict == ("error", "Runtime.ExitError")
    assert host.run("result = 'next'").value == "next"


@needs("memory")
def test_running_out_of_memory_is_told_apart_from_a_kill_by_the_cgroups_counter(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--memory", "128", "--timeout", "10") as small:
        answer = small.run("kept['all'] = bytearray(200 << 20)")
        assert answer.error
        reason = "Runtime exited with error: signal: killed"
        assert answer.body == exit_payload(answer.request_id, reason, "Runtime.OutOfMemory")
        assert answer.verdict == ("error", "Runtime.OutOfMemory")
        assert answer.report["Max Memory Used"] == "128 MB"
        killed = small.run("import os; os.kill(os.getpid(), 9)")
        assert killed.error["errorType"] == "Runtime.ExitError"
        assert small.run("result = len(bytearray(60 << 20))").value == 60 << 20


def test_a_result_that_is_no_json_is_a_marshal_error(host: Serving) -> None:
    answer = host.run("result = {1}")
    assert answer.error["errorType"] == "Runtime.MarshalError"
    message = "Unable to marshal response: Object of type set is not JSON serializable"
    assert answer.error["errorMessage"] == message
    assert answer.verdict == ("error", "Runtime.MarshalError")


def test_a_result_of_exactly_the_limit_comes_back_and_one_byte_more_is_refused(host: Serving) -> None:
    most = host.run(f"result = 'a' * {LIMIT - 2}")
    assert "x-amz-function-error" not in most.headers
    assert most.body == b'"' + b"a" * (LIMIT - 2) + b'"'
    more = host.run(f"result = 'a' * {LIMIT - 1}")
    assert more.error
    message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert more.body == payload("Function.ResponseSizeTooLarge", message)
    assert more.verdict == ("error", "Function.ResponseSizeTooLarge")
    assert host.run("result = 1").value == 1


@pytest.mark.parametrize("body", [b"{", b"nope", b'{"a": NaN}', b"\xff", b'{"a": 1} {"b": 2}'])
def test_a_body_that_is_no_json_never_reaches_the_function(host: Serving, body: bytes) -> None:
    answer = host.invoke(body=body)
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "InvalidRequestContentException"
    start = "Could not parse request body into json: Could not parse payload into json: "
    assert json.loads(answer.body)["Type"] == "User"
    assert json.loads(answer.body)["message"].startswith(start)


def test_a_request_over_the_limit_is_refused_and_one_of_the_limit_is_served(host: Serving) -> None:
    head, tail = b'{"run": "result = len(event[\'pad\'])", "pad": "', b'"}'
    fits = head + b"x" * (LIMIT - len(head) - len(tail)) + tail
    assert host.invoke(body=fits).value == LIMIT - len(head) - len(tail)
    answer = host.invoke(body=fits + b" ")
    assert answer.status == 413
    assert answer.headers["x-amzn-errortype"] == "RequestTooLargeException"


def test_three_megabytes_travel_in_and_out_unchanged(host: Serving) -> None:
    text = "".join(f"{number:x}é\\" for number in range(400_000))[:1_600_000]
    answer = host.run("result = event['text']", text=text)
    assert len(json.dumps(text)) > 3_000_000
    assert answer.value == text


def test_an_event_as_large_as_a_message_and_its_neighbours_travel_unchanged(host: Serving) -> None:
    for size in range(65_200, 65_560, 20):  # around the point where a body no longer travels with its header
        assert host.run("result = event['text']", text="y" * size).value == "y" * size


def test_none_and_bytes_come_back_as_on_lambda(host: Serving) -> None:
    assert host.run("result = None").body == b"null"
    raw = host.run("result = bytes([0, 255, 10])")
    assert raw.body == bytes([0, 255, 10])
    assert raw.headers["content-type"] != "application/json"


def test_a_worker_that_closes_its_channel_and_returns_is_answered_as_an_exit(host: Serving) -> None:
    answer = host.run("import os, app; os.close(app.channel()); result = 1")
    assert answer.error
    assert answer.body == exit_payload(answer.request_id, "Runtime exited with error: exit status 1")
    assert host.run("result = 1").value == 1


def test_a_worker_that_closes_its_channel_and_lives_on_is_killed_before_its_timeout(host: Serving) -> None:
    answer = host.run("import os, app, time; os.close(app.channel()); time.sleep(30)")
    assert answer.error
    assert answer.body == exit_payload(answer.request_id, "Runtime exited with error: signal: killed")
    assert float(answer.report["Duration"].removesuffix(" ms")) < 1000


@pytest.mark.parametrize(
    "breach",
    [
        "os.write(app.channel(), b'\\x00garbage')",
        "os.write(app.channel(), b'\\xff' * 60000)",
        "os.write(app.channel(), b'\\x03')",
        "app.forge('RESPONSE', 999, 2, b'{}')",
        "app.forge('RESPONSE', 1, 9999, b'{}')",
        "app.forge('READY', 0, 0)",
        "app.forge('INIT_ERROR', 1, 2, b'{}')",
    ],
    ids=["garbage", "long", "short", "another-invocations-answer", "false-length", "ready-again", "init-error"],
)
def test_a_worker_that_writes_garbage_into_its_channel_is_replaced(host: Serving, breach: str) -> None:
    host.run("import os; os._exit(0)")  # so that the next invocation is the first of its environment
    answer = host.run(f"import app, os, time; {breach}; time.sleep(30)")
    assert answer.error["errorType"] == "Sandbox.Failure"
    assert answer.error["errorMessage"].startswith(f"RequestId: {answer.request_id} Error: ")
    assert answer.verdict == ("error", "Sandbox.Failure")
    assert host.run("result = 1").value == 1


def test_a_worker_that_promises_a_large_body_and_never_sends_it_does_not_stop_the_host(host: Serving) -> None:
    host.run("import os; os._exit(0)")
    answer = host.run("import app, time; app.forge('RESPONSE', 1, 100000, flags=1); time.sleep(30)")
    assert answer.error["errorType"] == "Sandbox.Timedout"
    assert host.run("result = 1").value == 1


def test_a_worker_that_sends_a_pipe_for_a_large_body_is_replaced(host: Serving) -> None:
    code = """
import app, os, socket, time
app.forge("RESPONSE", 1, 100000, flags=1)
socket.send_fds(socket.socket(fileno=app.channel()), [b"L"], [os.pipe()[0]])
time.sleep(30)
"""
    host.run("import os; os._exit(0)")
    assert host.run(code).error["errorType"] == "Sandbox.Failure"
    assert host.run("result = 1").value == 1


def test_a_worker_that_answers_twice_is_heard_once_and_replaced(host: Serving) -> None:
    host.run("import os; os._exit(0)")
    twice = "import app, os; pid = str(os.getpid()).encode(); app.forge('RESPONSE', 1, len(pid), pid); result = 'again'"
    inside = host.run(twice).value
    assert isinstance(inside, int)
    wait_for(lambda: inside not in host.pids_by_depth(3), "the end of the worker that answered twice")
    host.errors.wait("replacing an environment")
    assert host.run("result = 'next'").value == "next"


def test_a_stopped_worker_is_answered_for_at_its_timeout_and_killed(host: Serving) -> None:
    inside = host.run("import os; result = os.getpid()").value
    stopped = host.run("import os; os.kill(os.getpid(), 19)")
    assert stopped.error["errorType"] == "Sandbox.Timedout"
    wait_for(lambda: inside not in host.pids_by_depth(3), "the stopped worker's end")
    assert host.run("result = 1").value == 1


@pytest.mark.parametrize("close", ["sys.stdout.close(); sys.stderr.close()", "os.close(1); os.close(2)"])
def test_a_handler_that_closes_its_standard_streams_serves_on(host: Serving, close: str) -> None:
    assert host.run(f"import os, sys; kept['closed'] = 1; {close}; result = 1").value == 1
    assert host.run("result = kept['closed']; import os").value == 1
    host.run("import os; os._exit(0)")


@pytest.mark.parametrize("close", ["sys.stdout.close(); sys.stderr.close()", "os.close(1); os.close(2)"])
def test_an_exception_is_answered_even_where_it_cannot_be_logged(host: Serving, close: str) -> None:
    answer = host.run(f"import os, sys; {close}; raise ValueError('nowhere to write')")
    assert answer.error["errorMessage"] == "nowhere to write"
    host.run("import os; os._exit(0)")


def test_an_empty_body_is_an_empty_event(host: Serving) -> None:
    assert host.invoke(body=b"").error["errorMessage"] == "'run'"

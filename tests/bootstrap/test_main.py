"""The bootstrap as a process: what it is told, what ends it, and how."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from bench import processes
from bootstrap.running import OURS, running
from bootstrap.scripted import PONG, Reply, Request, ScriptedAPI, event, events, refusal

SIMPLE = "def handler(event, context):\n    return {'got': event}\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SIMPLE)
    return tmp_path


def test_it_serves_events_one_after_the_other(code: Path) -> None:
    with (
        ScriptedAPI(events(event(b"1"), event(b"2", "id-2"))) as api,
        running(OURS, api.address, "app.handler", code=code),
    ):
        first, second = api.answers(2)
    assert (first.path, first.body) == ("/2018-06-01/runtime/invocation/id-1/response", b'{"got": 1}')
    assert (second.path, second.body) == ("/2018-06-01/runtime/invocation/id-2/response", b'{"got": 2}')
    assert first.with_more, "the request for the next event went with it"


def test_one_send_can_be_declined(code: Path) -> None:
    environment = {"LAMPLIGHTER_ONE_SEND": "0"}
    with (
        ScriptedAPI(events(event(b"1"))) as api,
        running(OURS, api.address, "app.handler", code=code, environment=environment),
    ):
        (first,) = api.answers(1)
        assert api.wait().is_next
    assert not first.with_more
    assert "OPTIONS" not in {one.method for one in api.requests}


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "no handler"),
        (["app.handler"], {"AWS_LAMBDA_RUNTIME_API": ""}, "AWS_LAMBDA_RUNTIME_API is not set"),
        (["app.handler"], {"AWS_LAMBDA_RUNTIME_API": "http://127.0.0.1:9001"}, "must be host:port"),
        (["app.handler"], {"LAMPLIGHTER_STRICT": "yes"}, "LAMPLIGHTER_STRICT may be 'awslambdaric'"),
        (["app.handler"], {"LAMPLIGHTER_RESPONSE_MODE": "fast"}, "LAMPLIGHTER_RESPONSE_MODE may be"),
        (["app.handler"], {"LAMPLIGHTER_ONE_SEND": "1"}, "LAMPLIGHTER_ONE_SEND may be '0'"),
        (["app.handler"], {"AWS_LAMBDA_RUNTIME_API": f"{'n' * 64}:9001"}, "cannot find the Runtime API"),
    ],
)
def test_what_it_cannot_work_with_is_said_in_a_line(
    code: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    with running(OURS, "127.0.0.1:1", *arguments, code=code, environment=environment) as process:
        assert process.status() == 1
        output = process.output()
    assert output.startswith("lamplighter: ")
    assert said in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(7)", 7),
        ("os._exit(126)", 126),
        ("os.kill(os.getpid(), 9)", -9),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
@pytest.mark.parametrize("where", ["import", "handler"])
def test_what_ends_the_process_posts_nothing(tmp_path: Path, statement: str, status: int, where: str) -> None:
    handler = f"def handler(event, context):\n    {statement if where == 'handler' else 'pass'}\n"
    (tmp_path / "app.py").write_text(f"import os, sys\n{statement if where == 'import' else ''}\n{handler}")
    with ScriptedAPI(events(event())) as api, running(OURS, api.address, "app.handler", code=tmp_path) as process:
        assert process.status() == status
        assert [one for one in api.requests if one.method == "POST"] == []


def test_an_init_fault_is_posted_and_ends_it_with_status_1(code: Path) -> None:
    with ScriptedAPI(events()) as api, running(OURS, api.address, "app.absent", code=code) as process:
        request = api.wait()
        assert process.status() == 1
    assert request.path == "/2018-06-01/runtime/init/error"
    assert request.headers["lambda-runtime-function-error-type"] == "Runtime.HandlerNotFound"
    assert json.loads(request.body)["errorMessage"] == "Handler 'absent' missing on module 'app'"


def test_an_init_fault_that_the_platform_refuses_ends_it_too(code: Path) -> None:
    with (
        ScriptedAPI(events(to_posts=refusal(403))) as api,
        running(OURS, api.address, "app.absent", code=code) as process,
    ):
        assert process.status() == 1
        assert "lamplighter: the Runtime API answered 403 to an init error" in process.output()


def test_a_response_that_is_too_large_becomes_the_functions_error_and_the_next_event_is_served(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return 'x' * event\n")
    answering = events(event(b"7000000"), event(b"1", "id-2"))
    too_large = (
        b'{"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}'
    )

    def limited(request: Request) -> Reply | bytes:
        return refusal(413, too_large) if len(request.body) > 6_291_556 else answering(request)

    with ScriptedAPI(limited) as api, running(OURS, api.address, "app.handler", code=tmp_path) as process:
        refused, told, fine = api.answers(3)
        output = process.output()
    assert not refused.with_more, "so large a body goes alone: the error must reach the caller before the next event"
    assert told.path == "/2018-06-01/runtime/invocation/id-1/error"
    assert told.headers["lambda-runtime-function-error-type"] == "Function.ResponseSizeTooLarge"
    assert json.loads(told.body) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
        "requestId": "id-1",
        "stackTrace": [],
    }
    assert (fine.path, fine.body) == ("/2018-06-01/runtime/invocation/id-2/response", b'"x"')
    assert "[ERROR] Function.ResponseSizeTooLarge: Response payload size exceeded" in output


def test_an_error_that_is_too_large_is_told_without_its_details(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    raise ValueError('x' * event)\n")
    answering = events(event(b"2000000"), event(b"200000", "id-2"), event(b"1", "id-3"))

    def limited(request: Request) -> Reply | bytes:
        return refusal(413) if len(request.body) > 100_000 else answering(request)

    with ScriptedAPI(limited) as api, running(OURS, api.address, "app.handler", code=tmp_path):
        posts = api.answers(5)
    told = [one for one in posts if len(one.body) < 1000]
    assert [one.path.split("/")[-2] for one in told] == ["id-1", "id-2", "id-3"]
    for one in told[:2]:
        assert json.loads(one.body)["errorMessage"] == "The function's error is larger than what the platform takes."
    assert json.loads(told[2].body)["errorMessage"] == "x"


@pytest.mark.parametrize("status", [400, 410])
@pytest.mark.parametrize("one_send", [{}, {"LAMPLIGHTER_ONE_SEND": "0"}], ids=["one send", "apart"])
def test_an_invocation_that_is_over_is_logged_and_the_next_event_is_served(
    code: Path, status: int, one_send: dict[str, str]
) -> None:
    answering = events(event(b"1"), event(b"2", "id-2"))

    def late(request: Request) -> Reply | bytes:
        return refusal(status, b"over") if "/id-1/" in request.path else answering(request)

    with (
        ScriptedAPI(late) as api,
        running(OURS, api.address, "app.handler", code=code, environment=one_send) as process,
    ):
        assert [one.path.split("/")[-2] for one in api.answers(2)] == ["id-1", "id-2"]
        assert f"the Runtime API answered {status} to a response: over" in process.output()
        assert "[WARNING]" in process.output()


@pytest.mark.parametrize("status", [403, 500])
def test_a_platform_that_is_out_of_step_or_broken_ends_it(code: Path, status: int) -> None:
    with (
        ScriptedAPI(events(event(), to_posts=refusal(status))) as api,
        running(OURS, api.address, "app.handler", code=code) as process,
    ):
        assert process.status() == 1
        assert f"lamplighter: the Runtime API answered {status} to a response" in process.output()


def test_a_platform_that_goes_away_ends_it(code: Path) -> None:
    with ScriptedAPI(events(event())) as api, running(OURS, api.address, "app.handler", code=code) as process:
        api.answers(1)
        api.stop()
        assert process.status() == 1
        assert "lamplighter: cannot connect to the Runtime API" in process.output()


SIGTERM = """
import os, signal, sys
def on_term(number, frame):
    print("going", flush=True)
    sys.exit(5)
if os.environ["REGISTER"]:
    signal.signal(signal.SIGTERM, on_term)
def handler(event, context):
    return 1
"""


@pytest.mark.parametrize(("register", "status"), [("1", 5), ("", -signal.SIGTERM)])
def test_a_signal_handler_of_the_functions_runs_while_it_waits_and_without_one_it_is_gone_at_once(
    tmp_path: Path, register: str, status: int
) -> None:
    (tmp_path / "app.py").write_text(SIGTERM)
    with (
        ScriptedAPI(events(event())) as api,
        running(OURS, api.address, "app.handler", code=tmp_path, environment={"REGISTER": register}) as process,
    ):
        while not (api.wait().is_next and len(api.requests) > 3):
            pass  # the second request for an event is there: it waits
        processes.wait_asleep(process.pid)
        os.kill(process.pid, signal.SIGTERM)
        assert process.status() == status
        assert ("going" in process.output()) == bool(register)


SNAPSHOT = """
import os, random, sys
import snapshot_restore_py as hooks
log = []
rand = random.random()
hooks.register_before_snapshot(lambda: print("before 1"))
hooks.register_before_snapshot(lambda: print("before 2"))
hooks.register_after_restore(lambda: print("after 1"))
hooks.register_after_restore(lambda: print("after 2"))
def fail():
    raise ValueError("cannot")
if os.environ.get("FAIL") == "before":
    hooks.register_before_snapshot(fail)
if os.environ.get("FAIL") == "after":
    hooks.register_after_restore(fail)
random.seed(1)
def handler(event, context):
    return random.random()
"""


def _snapshot(tmp_path: Path, fail: str) -> tuple[list[Request], int | None, str]:
    (tmp_path / "app.py").write_text(SNAPSHOT)
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "FAIL": fail}
    answering = events(event())

    def restoring(request: Request) -> Reply | bytes:
        return PONG if request.path.endswith("/restore/next") else answering(request)

    with (
        ScriptedAPI(restoring) as api,
        running(OURS, api.address, "app.handler", code=tmp_path, environment=environment) as process,
    ):
        status = None
        if fail:
            status = process.status()
        else:
            api.answers(1)
        return [one for one in api.requests if one.method != "OPTIONS"], status, process.output()


def test_snapshot_hooks_run_around_the_restore_in_awss_order(tmp_path: Path) -> None:
    pytest.importorskip("snapshot_restore_py")
    requests, _, output = _snapshot(tmp_path, "")
    assert [one.path.removeprefix("/2018-06-01/runtime/") for one in requests[:3]] == [
        "restore/next",
        "invocation/next",
        "invocation/id-1/response",
    ]
    assert output.split("\n")[:4] == ["before 2", "before 1", "after 1", "after 2"]
    assert requests[2].body != b"0.13436424411240122", "each copy of the snapshot must have entropy of its own"


@pytest.mark.parametrize(
    ("fail", "path", "error_type", "status"),
    [
        ("before", "init/error", "Runtime.BeforeSnapshotError", 64),
        ("after", "restore/error", "Runtime.AfterRestoreError", 65),
    ],
)
def test_a_failed_snapshot_hook_is_posted_and_ends_it_with_awss_status(
    tmp_path: Path, fail: str, path: str, error_type: str, status: int
) -> None:
    pytest.importorskip("snapshot_restore_py")
    requests, ended, output = _snapshot(tmp_path, fail)
    assert ended == status
    assert requests[-1].path == f"/2018-06-01/runtime/{path}"
    assert requests[-1].headers["lambda-runtime-function-error-type"] == error_type
    payload = json.loads(requests[-1].body)
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "cannot")
    assert "in fail" in payload["stackTrace"][-1]
    assert "[ERROR] ValueError: cannot" in output


def test_fifty_events_in_a_row_are_answered_once_each_and_asked_for_once_each(code: Path) -> None:
    left = [event(b"%d" % number, f"id-{number}") for number in range(50)]
    with ScriptedAPI(events(*left)) as api, running(OURS, api.address, "app.handler", code=code):
        got = api.answers(50)
        assert api.wait().is_next
    assert [one.path.split("/")[-2] for one in got] == [f"id-{number}" for number in range(50)]
    assert [one.body for one in got] == [b'{"got": %d}' % number for number in range(50)]
    assert [one.is_next for one in api.requests].count(True) == 51

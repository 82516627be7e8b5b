"""Where the bootstrap does not do as awslambdaric 4.2.2 does, and why that is no accident: one case a difference.

Each case runs both clients and says what either does. The table of ``docs/bootstrap.md`` has exactly these names.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap.running import OURS, THEIRS, running
from bootstrap.scripted import PONG, Answering, Reply, Request, ScriptedAPI, event, events, refusal

pytest.importorskip("awslambdaric", reason="the oracle is not installed")

DOCUMENT = Path(__file__).parents[2] / "docs" / "bootstrap.md"
ECHO = "def handler(event, context):\n    return [type(event).__name__, repr(event)]\n"


@dataclass
class Seen:
    """What one client did: its exit status (``None``: it was still there), its posts, all it wrote."""

    status: int | None
    posts: list[Request]
    output: str


class Both:
    """Runs a function under both clients."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        code: str,
        answering: Callable[[], Answering],
        *,
        posts: tuple[int | None, int | None],
        arguments: tuple[str, ...] = ("app.handler",),
        environment: Mapping[str, str] | None = None,
        ours: Mapping[str, str] | None = None,
        address: bool = True,
    ) -> tuple[Seen, Seen]:
        """``posts``: how many each client makes, ours first, and then is ended; ``None``: it ends by itself."""
        (self._folder / "app.py").write_text(code)
        both = []
        for module, count in zip((OURS, THEIRS), posts, strict=True):
            # awslambdaric's C++ part writes its own lines through a buffer that -u does not reach, nor do we.
            variables = {**(environment or {}), **((ours or {}) if module == OURS else {})}
            with (
                ScriptedAPI(answering()) as api,
                running(
                    module,
                    api.address if address else None,
                    *arguments,
                    code=self._folder,
                    environment=variables,
                    interpreter=("-u",),
                ) as process,
            ):
                status = process.status() if count is None else None
                found = api.answers(count) if count else []
                if count is None:
                    found = [one for one in api.requests if one.method == "POST"]
                both.append(Seen(status, found, process.output()))
        return both[0], both[1]


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


CASES: dict[str, Callable[[Both], None]] = {}


def difference(name: str) -> Callable[[Callable[[Both], None]], Callable[[Both], None]]:
    def register(case: Callable[[Both], None]) -> Callable[[Both], None]:
        assert name not in CASES
        CASES[name] = case
        return case

    return register


@difference("an event without a content type")
def _(both: Both) -> None:
    ours, theirs = both(ECHO, lambda: events(event(b"{}", Content_Type="")), posts=(1, None))
    assert ours.posts[0].body == b'["dict", "{}"]'
    assert theirs.status == -signal.SIGSEGV


@difference("an event whose content type has a parameter")
def _(both: Both) -> None:
    one = event(b"{}", Content_Type="application/json; charset=utf-8")
    ours, theirs = both(ECHO, lambda: events(one), posts=(1, 1))
    assert ours.posts[0].body == b'["dict", "{}"]'
    assert theirs.posts[0].body == b"""["bytes", "b'{}'"]"""
    strict, _ = both(ECHO, lambda: events(one), posts=(1, 1), ours={"LAMPLIGHTER_STRICT": "awslambdaric"})
    assert strict.posts[0].body == theirs.posts[0].body


@difference("a response that is too large")
def _(both: Both) -> None:
    def refusing() -> Answering:
        answering = events(event(), event(request_id="id-2"))
        first = [refusal(413, b"Exceeded maximum allowed payload size (6291556 bytes).")]
        return lambda request: first.pop() if request.method == "POST" and first else answering(request)

    ours, theirs = both(ECHO, refusing, posts=(3, None))
    assert [one.path.split("/", 4)[4] for one in ours.posts] == [
        "id-1/response",
        "id-1/error",
        "id-2/response",
    ]
    assert json.loads(ours.posts[1].body)["errorType"] == "Function.ResponseSizeTooLarge"
    assert (theirs.status, len(theirs.posts)) == (1, 1)


@difference("an answer to an invocation that is over")
def _(both: Both) -> None:
    def refusing() -> Answering:
        answering = events(event(), event(request_id="id-2"))
        return lambda request: refusal(400) if "/id-1/" in request.path else answering(request)

    ours, theirs = both(ECHO, refusing, posts=(2, None))
    assert ours.posts[1].path.endswith("id-2/response")
    assert (theirs.status, len(theirs.posts)) == (1, 1)


@difference("an error's type is in a header")
def _(both: Both) -> None:
    code = "def handler(event, context):\n    raise LookupError('no such order')\n"
    ours, theirs = both(code, lambda: events(event()), posts=(1, 1))
    assert ours.posts[0].body == theirs.posts[0].body
    assert ours.posts[0].headers["lambda-runtime-function-error-type"] == "LookupError"
    assert "lambda-runtime-function-error-type" not in theirs.posts[0].headers


@difference("the user agent")
def _(both: Both) -> None:
    ours, theirs = both(ECHO, lambda: events(event()), posts=(1, 1))
    python = ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(rf"lamplighter/[\d.]+ python/{python}", ours.posts[0].headers["user-agent"])
    assert re.fullmatch(rf"aws-lambda-python/{python}-4[\d.]+", theirs.posts[0].headers["user-agent"])


@difference("an init error has a content type")
def _(both: Both) -> None:
    ours, theirs = both("", events, posts=(None, None))
    assert ours.posts[0].body == theirs.posts[0].body
    assert ours.posts[0].headers["content-type"] == "application/json"
    assert "content-type" not in theirs.posts[0].headers


@difference("the handler's name from _HANDLER")
def _(both: Both) -> None:
    ours, theirs = both(
        ECHO, lambda: events(event()), posts=(1, None), arguments=(), environment={"_HANDLER": "app.handler"}
    )
    assert ours.posts[0].body == b'["dict", "{}"]'
    assert (theirs.status, theirs.posts) == (1, [])


@difference("no Runtime API, or an address that is none")
def _(both: Both) -> None:
    ours, theirs = both(ECHO, events, posts=(None, None), address=False)
    assert (ours.status, theirs.status) == (1, 1)
    assert ours.output.startswith("lamplighter: AWS_LAMBDA_RUNTIME_API is not set")
    assert ours.output.count("\n") == 1
    assert "KeyError" in theirs.output


@difference("an answer that is no event")
def _(both: Both) -> None:
    def refusing() -> Answering:
        return lambda request: PONG if request.method == "OPTIONS" else refusal(500, b"broken")

    ours, theirs = both(ECHO, refusing, posts=(None, None))
    assert (ours.status, theirs.status) == (1, 1)
    assert ours.output == "lamplighter: the Runtime API answered 500 to a request for the next event: broken\n"
    assert "Traceback" in theirs.output


@difference("a signal handler of the function's while it waits")
def _(both: Both) -> None:
    code = (
        "import os, signal, threading, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(5))\n"
        "def late():\n    time.sleep(4)\n    os._exit(6)\n"
        "def handler(event, context):\n"
        "    threading.Thread(target=late, daemon=True).start()\n"
        "    return os.getpid()\n"
    )

    def terminating() -> Answering:
        answering = events(event())
        pids: list[int] = []

        def answer(request: Request) -> Reply | bytes:
            if request.method == "POST":
                pids.append(int(request.body))
            elif request.is_next and pids:
                os.kill(pids[0], signal.SIGTERM)
            return answering(request)

        return answer

    ours, theirs = both(code, terminating, posts=(None, None))
    assert (ours.status, theirs.status) == (5, 6)


@difference("a result with a lone surrogate, in UTF-8")
def _(both: Both) -> None:
    code = "def handler(event, context):\n    return '\\ud83d'\n"
    ours, theirs = both(
        code,
        lambda: events(event()),
        posts=(1, None),
        environment={"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"},
    )
    assert ours.posts[0].body == b'"\\ud83d"'
    assert theirs.status == 1


@difference("results in UTF-8 on Python 3.12 and later, in a custom runtime")
def _(both: Both) -> None:
    code = "def handler(event, context):\n    return 'é'\n"
    ours, theirs = both(code, lambda: events(event()), posts=(1, 1))
    ascii_only = b'"\\u00e9"'
    assert ours.posts[0].body == ('"é"'.encode() if sys.version_info >= (3, 12) else ascii_only)
    assert theirs.posts[0].body == ascii_only
    strict, _ = both(code, lambda: events(event()), posts=(1, 1), ours={"LAMPLIGHTER_STRICT": "awslambdaric"})
    assert strict.posts[0].body == ascii_only


@difference("a generator, or a result of lamplighter.streaming")
def _(both: Both) -> None:
    code = "def handler(event, context):\n    yield 'a'\n    yield b'b'\n"
    ours, theirs = both(code, lambda: events(event()), posts=(1, 1))
    assert ours.posts[0].chunks == [b"a", b"b"]
    assert json.loads(theirs.posts[0].body)["errorType"] == "Runtime.MarshalError"


@difference("an exception that cannot say what it is")
def _(both: Both) -> None:
    code = (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n"
        "def handler(event, context):\n    raise Mute\n"
    )
    ours, theirs = both(code, lambda: events(event()), posts=(1, None))
    assert json.loads(ours.posts[0].body)["errorMessage"] == "<Mute whose __str__ raised ValueError>"
    assert (theirs.status, theirs.posts) == (1, [])


@difference("a log that cannot be written")
def _(both: Both) -> None:
    code = "import sys\ndef handler(event, context):\n    sys.stdout.close()\n    raise ValueError('x')\n"
    ours, theirs = both(code, lambda: events(event()), posts=(1, None))
    assert json.loads(ours.posts[0].body)["errorType"] == "ValueError"
    assert (theirs.status, theirs.posts) == (1, [])


@difference("the runtime's own frames in a stack trace")
def _(both: Both) -> None:
    ours, theirs = both("def handler():\n    pass\n", lambda: events(event()), posts=(1, 1))
    our, their = (json.loads(one.posts[0].body) for one in (ours, theirs))
    assert (our["errorType"], our["errorMessage"]) == (their["errorType"], their["errorMessage"])
    assert "lamplighter/worker/loop.py" in our["stackTrace"][-1]
    assert "awslambdaric/bootstrap.py" in their["stackTrace"][-1]


@difference("modules that the client has imported")
def _(both: Both) -> None:
    code = "import sys\nnames = set(sys.modules)\ndef handler(event, context):\n    return 'logging' in names\n"
    ours, theirs = both(code, lambda: events(event()), posts=(1, 1))
    assert (ours.posts[0].body, theirs.posts[0].body) == (b"false", b"true")


@difference("a warning that AWS's own runtime is a preview")
def _(both: Both) -> None:
    ours, theirs = both(
        ECHO, lambda: events(event()), posts=(1, 1), environment={"AWS_EXECUTION_ENV": "AWS_Lambda_python3.15"}
    )
    assert ours.output == ""
    assert "This is a preview runtime version" in theirs.output


@difference("entropy after a restore")
def _(both: Both) -> None:
    pytest.importorskip("snapshot_restore_py")
    code = "import random\nrandom.seed(1)\ndef handler(event, context):\n    return random.random()\n"

    def restoring() -> Answering:
        answering = events(event())

        def answer(request: Request) -> Reply | bytes:
            return PONG if request.path.endswith("/restore/next") else answering(request)

        return answer

    ours, theirs = both(code, restoring, posts=(1, 1), environment={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
    assert theirs.posts[0].body == b"0.13436424411240122"
    assert ours.posts[0].body != theirs.posts[0].body


@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_as_it_is_described(name: str, both: Both) -> None:
    CASES[name](both)


def test_the_document_names_these_differences_and_no_others() -> None:
    section = DOCUMENT.read_text().split("## Where it differs from awslambdaric", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (?!what |---)([^|]+?) \|", section, re.MULTILINE)
    assert rows == list(CASES)

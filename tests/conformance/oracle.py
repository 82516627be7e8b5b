"""What awslambdaric 4.2.2, AWS's own client, and Lamplighter are both given, and what is kept of what leaves either.

Each side runs as a process of its own: clients of the Runtime API against a small one in this process, the bare worker
over a channel. Request ids and paths are the same on all sides by construction; only timestamps are masked.
"""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lamplighter.worker import channel
from sending import send

HERE = Path(__file__).parent
RUNTIME = Path(channel.__file__).parents[2]

BOTH = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "AWS_LAMBDA_FUNCTION_NAME": "both",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/both",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]abc",
}
ON_3_12 = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}
JSON_LOGS = {"AWS_LAMBDA_LOG_FORMAT": "json"}
TELEMETRY = "telemetry"
XRAY = "lambda-runtime-function-xray-error-cause"

WORKER = """
import os, socket, sys
from lamplighter.worker.handler import InitFault
from lamplighter.worker.initialise import initialise, report_init_fault
from lamplighter.worker.loop import serve
from lamplighter.worker.transport import ChannelTransport

class Recording(ChannelTransport):
    def fail(self, event, body, error_type, cause):
        os.write(causes, cause + b"\\n")
        super().fail(event, body, error_type, cause)

transport = Recording(socket.socket(fileno=int(sys.argv[2])))
causes = int(sys.argv[3])
try:
    handler = initialise(sys.argv[1])
except InitFault as fault:
    transport.init_failed(report_init_fault(fault), fault.error_type)
    sys.exit(1)
transport.ready()
serve(handler, transport)
"""


@dataclass
class Answer:
    kind: str  # "response", "raw response", "error", "init error"
    body: bytes
    cause: Any = None
    headers: dict[str, str] = field(default_factory=dict, compare=False)
    """What the post came with, but for what every HTTP request has. The channel has none."""
    log: bytes = b""
    telemetry: list[tuple[str, bytes]] = field(default_factory=list)


class Logs:
    """The files a process writes its log to, read piece by piece."""

    def __init__(self, folder: Path, name: str) -> None:
        self.stdout = (folder / f"{name}.log").open("w+b")
        self.telemetry = (folder / f"{name}.telemetry").open("w+b")
        self._at = [0, 0]

    def take(self, answer: Answer) -> Answer:
        answer.log, frames = self._new(0, self.stdout), self._new(1, self.telemetry)
        while frames:
            length = int.from_bytes(frames[4:8], "big")
            stamp = int.from_bytes(frames[8:16], "big")
            assert abs(time.time() - stamp / 1e6) < 60, "a frame's time is in epoch microseconds"
            answer.telemetry.append((frames[:4].hex(), masked(frames[16 : 16 + length])))
            frames = frames[16 + length :]
        answer.log = masked(answer.log)
        return answer

    def _new(self, which: int, file: Any) -> bytes:
        data = os.pread(file.fileno(), 1 << 24, self._at[which])
        self._at[which] += len(data)
        return data


def masked(log: bytes) -> bytes:
    return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", lambda m: b"<time.ms>" if m[1] else b"<time>", log)


@contextmanager
def running(
    command: list[str], environment: dict[str, str], logs: Logs, *fds: int
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**BOTH, "PYTHONPATH": f"{RUNTIME}:{HERE}:{environment.pop('FOLDER', '')}", **environment}
    if environment.pop(TELEMETRY, ""):
        environment["_LAMBDA_TELEMETRY_LOG_FD"] = str(logs.telemetry.fileno())
        fds = (*fds, logs.telemetry.fileno())
    process = subprocess.Popen(
        command, env=environment, stdout=logs.stdout, stderr=logs.stdout, stdin=subprocess.DEVNULL, pass_fds=fds
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class RuntimeAPI(ThreadingHTTPServer):
    """Hands out events one after another and collects the answers; the last ``next`` is never answered."""

    daemon_threads = True

    def __init__(self, events: list[channel.Event], logs: Logs) -> None:
        super().__init__(("127.0.0.1", 0), RuntimeAPIRequest)
        self.events = iter(events)
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.logs = logs
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was killed while it waited for an event is how every run here ends.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


_OF_EVERY_REQUEST = {"host", "accept", "accept-encoding", "user-agent", "content-length", XRAY}


class RuntimeAPIRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RuntimeAPI

    def do_GET(self) -> None:
        event = next(self.server.events, None)
        if event is None:
            self.server.over.wait()
            return
        self.send_response(200)
        for name, value in {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(event.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": event.function_arn,
            "Lambda-Runtime-Trace-Id": event.trace_id,
            "Lambda-Runtime-Client-Context": event.client_context,
            "Lambda-Runtime-Cognito-Identity": event.cognito_identity,
            "Lambda-Runtime-Aws-Tenant-Id": event.tenant_id,
            "Lambda-Runtime-Invocation-Id": event.invocation_id,
            "Content-Type": "application/json",
        }.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(event.body)))
        self.end_headers()
        self.wfile.write(event.body)

    def do_OPTIONS(self) -> None:
        # Lamplighter asks whether two requests may come in one send. They may: what is read ahead is kept.
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        cause = self.headers.get(XRAY)
        if self.path.endswith("/init/error"):
            assert self.headers["Lambda-Runtime-Function-Error-Type"] == json.loads(body)["errorType"]
            kind = "init error"
        elif self.path.endswith("/error"):
            kind = "error"
        else:
            kind = "response" if self.headers["Content-Type"] == "application/json" else "raw response"
        # The header is UTF-8, which Python reads as Latin-1.
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in _OF_EVERY_REQUEST}
        answer = Answer(kind, body, json.loads(cause.encode("latin-1")) if cause else None, headers)
        self.server.answers.put(self.server.logs.take(answer))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def answer_of(api: RuntimeAPI, process: subprocess.Popen[bytes]) -> Answer:
    for _ in range(300):
        try:
            return api.answers.get(timeout=0.1)
        except queue.Empty:
            # An init error is posted before the process ends, so it is in the queue by now if it ever will be.
            if process.poll() is not None and api.answers.empty():
                pytest.fail(f"the client is gone: {api.logs.take(Answer('', b'')).log.decode()[-2000:]}")
    raise AssertionError("the client has not answered for 30 s")


def by_client(
    module: str, handler: str, events: list[channel.Event], environment: dict[str, str], folder: Path
) -> tuple[list[Answer], int | None]:
    """Run ``python -m MODULE HANDLER``; its answers and, where there are no events, its exit status."""
    logs = Logs(folder, module)
    with RuntimeAPI(events, logs) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        environment = {**environment, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}"}
        with running([sys.executable, "-u", "-m", module, handler], environment, logs) as process:
            answers = [answer_of(api, process) for _ in events or [None]]
            status = None if events else process.wait(30)
        api.over.set()
        api.shutdown()
    return answers, status


def by_awslambdaric(
    handler: str, events: list[channel.Event], environment: dict[str, str], folder: Path
) -> tuple[list[Answer], int | None]:
    return by_client("awslambdaric", handler, events, environment, folder)


def by_worker(
    handler: str, events: list[channel.Event], environment: dict[str, str], folder: Path
) -> tuple[list[Answer], int | None]:
    logs = Logs(folder, "worker")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kinds = {channel.RESPONSE: "response", channel.ERROR: "error", channel.INIT_ERROR: "init error"}
    answers = []
    with ours, theirs, (folder / "causes").open("w+b") as causes:
        fds = (theirs.fileno(), causes.fileno())
        command = [sys.executable, "-u", "-c", WORKER, handler, *map(str, fds)]
        with running(command, environment, logs, *fds) as process:
            theirs.close()
            ours.settimeout(30)
            for event in [None, *events]:
                if event is not None:
                    send(ours, event)
                reply = channel.receive_reply(ours)
                assert reply is not None, f"the worker is gone: {logs.take(Answer('', b'')).log.decode()}"
                if reply.kind == channel.READY:
                    continue
                body = channel.receive_body(ours, reply.length) if reply.flags & channel.LARGE else reply.body
                kind = ("raw " if reply.flags & channel.RAW else "") + kinds[reply.kind]
                answers.append(logs.take(Answer(kind, body)))
                if reply.kind != channel.RESPONSE:
                    assert reply.error_type == json.loads(body)["errorType"]
                assert reply.sequence == (event.sequence if event else 0)
            ours.close()
            status = process.wait(30)
        causes.seek(0)
        for answer in answers:
            if answer.kind == "error":
                answer.cause = json.loads(causes.readline())
    return answers, None if events else status


def the_same(ours: list[Answer], theirs: list[Answer], names: list[str]) -> None:
    for name, our, their in zip(names, ours, theirs, strict=True):
        for answer in (our, their):
            if answer.cause:
                answer.cause["paths"].sort()
        assert our == their, name


def event(number: int, body: bytes, **more: Any) -> channel.Event:
    return channel.Event(
        body,
        request_id=f"6f5a1d7e-0000-4000-8000-{number:012d}",
        function_arn="arn:aws:lambda:eu-west-1:123456789012:function:both:prod",
        deadline_ms=int(time.time() * 1000) + 60_000,
        sequence=number + 1,
        invocation_id=f"invocation-{number}",
        **more,
    )


def table() -> list[tuple[str, channel.Event]]:
    """Every event both sides are given, by name."""
    source = (HERE / "functions_for_both.py").read_text()
    results, actions = (
        re.findall(r'^    "([^"]+)":', source[source.index(f"{name} = {{") :].split("\n}", 1)[0], re.MULTILINE)
        for name in ("RESULTS", "ACTIONS")
    )
    assert len(results) > 25
    assert len(actions) > 12
    rows: list[tuple[str, bytes, dict[str, Any]]] = []
    rows += [(f"result: {name}", json.dumps({"result": name}).encode(), {}) for name in results]
    rows += [(f"action: {name}", json.dumps({"do": name}).encode(), {}) for name in actions]
    bad = ["", "{", '{"a": 1,}', "[1 2]", "NaN", "{} {}", "nul", '"\t"', '"\\x"', "[" * 5000, "9" * 5000]
    rows += [(f"event: {text[:20]}", text.encode(), {}) for text in [*bad, "null", "1.5", ' "é" ', '{"a": "\\ud83d"}']]
    rows += [("event: not UTF-8", b'"\xff"', {}), ("event: UTF-16", '"x"'.encode("utf-16"), {})]
    rows.append(("event: large", json.dumps({"fill": "é" * 100_000}).encode(), {}))
    describe = b'{"do": "describe"}'
    for name, text in {
        "full": '{"custom": {"a": 1}, "env": {"b": "c"}, "client": {"app_title": "t", "installation_id": "i"}}',
        "partial": '{"custom": {}, "other": 1}',
        "w3c": '{"w3c": {"traceparent": "00-a-b-01", "tracestate": 5, "baggage": "k=v", "x": "y"}}',
        "w3c of a wrong type": '{"w3c": "traceparent"}',
        "null": "null",
        "not JSON": "{custom}",
    }.items():
        rows.append((f"client context: {name}", describe, {"client_context": text}))
    rows.append(("identity", describe, {"cognito_identity": '{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}'}))
    rows.append(("identity: not JSON", describe, {"cognito_identity": "i"}))
    rows.append(("trace id set", describe, {"trace_id": "Root=1-a;Parent=b;Sampled=1"}))
    rows.append(("trace id gone", describe, {}))
    for name in ("describe", "log levels", "log shapes", "raise"):
        rows.append((f"tenant: {name}", json.dumps({"do": name}).encode(), {"tenant_id": "blue"}))
    return [(name, event(number, body, **more)) for number, (name, body, more) in enumerate(rows)]


ENVIRONMENTS = [
    pytest.param({}, id="text"),
    pytest.param({**JSON_LOGS, **ON_3_12}, id="json on 3.12"),
    pytest.param({**JSON_LOGS, "AWS_LAMBDA_LOG_LEVEL": "TRACE", TELEMETRY: "1"}, id="json, TRACE, telemetry"),
    pytest.param({"AWS_LAMBDA_LOG_LEVEL": "info", TELEMETRY: "1", **ON_3_12}, id="text, info, telemetry, on 3.12"),
    pytest.param({"AWS_LAMBDA_LOG_LEVEL": "loud", TELEMETRY: "1"}, id="text, unknown level, telemetry"),
]

BROKEN = {
    "nodot": ("nodot", {}),
    "builtin": ("sys.exit", {}),
    "missing module": ("no/such/module.handler", {}),
    "missing attribute": ("functions_for_both.absent", JSON_LOGS),
    "empty module": (".handler", {}),
    "syntax error": ("broken_syntax.handler", JSON_LOGS),
    "import error inside": ("broken_import.handler", {"AWS_LAMBDA_LOG_LEVEL": "ERROR"}),
    "exception": ("broken/raises.handler", {TELEMETRY: "1"}),
}


def broken(case: str, folder: Path) -> tuple[str, dict[str, str]]:
    """The handler and the environment of one of :data:`BROKEN`; its modules are put into ``folder``."""
    (folder / "broken_syntax.py").write_text("def handler(event, context):\n    return é é\n")
    (folder / "broken_import.py").write_text("from json import no_such_name\n")
    (folder / "broken").mkdir()
    (folder / "broken" / "__init__.py").touch()
    (folder / "broken" / "raises.py").write_text("def load():\n    raise Exception('no: \u20ac')\n\nload()\n")
    handler, environment = BROKEN[case]
    return handler, {**environment, "FOLDER": str(folder)}

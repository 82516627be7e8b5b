"""The base image and the example built on it, as whoever starts a container of them sees them."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bench.peers import free_port
from tests.images.building import PYTHON, Store, serving
from tests.images.conftest import BASE, IMAGE
from tests.template import test_heap

from bench import processes

# The first test to need the images waits for them.
pytestmark = pytest.mark.timeout(900)

ENTRY = "/lambda-entrypoint.sh"
PATH = "/2015-03-31/functions/function/invocations"


class Served(NamedTuple):
    """A running container, its host's process, and the port."""

    process: subprocess.Popen[bytes]
    host: processes.Process
    port: int

    def readiness(self) -> Any:
        """What ``/readyz`` says, ready or not: 503 while an environment that was used up is not replaced yet."""
        return json.loads(self._ask("GET", "/readyz", None, {200, 503}))

    def invoke(self, event: object) -> Any:
        return json.loads(self._ask("POST", PATH, json.dumps(event), {200}))

    def _ask(self, method: str, path: str, body: str | None, wanted: set[int]) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            assert answer.status in wanted
            return answer.read()


@pytest.fixture
def served(store: Store, container: str, output: Path) -> Iterator[Served]:
    """The example, served from its container with 256 MB and a timeout of 2 s."""
    port = free_port()
    variables = {
        "LAMPLIGHTER_LISTEN": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "2",
    }
    with store.running(container, ENTRY, "app.handler", output=output, GREETING="Ciao", **variables) as process:
        yield Served(process, serving(process, output), port)


def test_the_image_says_how_it_is_run(store: Store) -> None:
    config = store.inspect(IMAGE)
    variables = dict(setting.split("=", 1) for setting in config["Env"])
    assert config["Entrypoint"] == [ENTRY]
    assert config["Cmd"] == ["app.handler"]
    assert config["User"] == "993:990", "the ids of a function's process on Lambda"
    assert config["WorkingDir"] == "/var/task"
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/var/runtime/healthcheck"]
    assert (variables["LAMBDA_TASK_ROOT"], variables["LAMBDA_RUNTIME_DIR"]) == ("/var/task", "/var/runtime")


def test_the_image_is_laid_out_as_on_lambda_and_belongs_to_root(store: Store, container: str) -> None:
    script = "stat -c '%n %U' /var/task /opt /var/runtime /var/runtime/bootstrap /var/lang/bin/python; command -v gcc"
    shown = store.execute(container, "sh", "-c", script).stdout.split("\n")
    places = ("/var/task", "/opt", "/var/runtime", "/var/runtime/bootstrap", "/var/lang/bin/python")
    assert shown == [*(f"{place} root" for place in places), ""], "nothing else's, and no compiler"


def test_the_image_adds_few_megabytes_and_nothing_is_compiled_at_each_start(store: Store, container: str) -> None:
    def megabytes(where: str, of: str) -> int:
        return int(store.execute(of, "du", "-smx", where).stdout.split()[0])

    assert megabytes("/var/lang", container) < 60
    with store.container(BASE) as base:
        added = megabytes("/", container) - megabytes("/", base)
    assert added < 120, "Python of the distribution, and ours"
    script = "import lamplighter.host.server as module, os; print(os.path.exists(module.__cached__))"
    assert store.execute(container, "python", "-c", script).stdout == "True\n"


def test_the_images_python_shares_its_templates_heap(store: Store) -> None:
    with store.container(IMAGE) as name:
        store.call("copy", "--chmod", "0644", name, str(test_heap.PROBE), "/opt/heap_probe.py")
        done = store.execute(name, "python", "/opt/heap_probe.py")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["version"] == [int(part) for part in PYTHON.split(".")]
    test_heap.judge(said, immortals=True, huge_pages=test_heap.HUGE_PAGES)


def test_without_a_runtime_api_it_answers_where_the_emulator_does(served: Served) -> None:
    answer = served.invoke({"name": "Ada"})
    assert answer == {
        "message": "Ciao, Ada!",
        "allocated_mb": 0,
        "function": "function",
        "memory_mb": "256",
        "code": "/var/task",
        "uid": 993,
    }


class RuntimeApi(http.server.BaseHTTPRequestHandler):
    """Hands out one event, and keeps what is posted; a second ``next`` waits until the server ends."""

    protocol_version = "HTTP/1.1"
    posted: queue.Queue[tuple[str, bytes]]
    handed_out: threading.Event
    ended: threading.Event

    def do_OPTIONS(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(200, b"", {})

    def do_GET(self) -> None:
        if self.handed_out.is_set():
            self.ended.wait(60)
            self.close_connection = True
            return
        self.handed_out.set()
        facts = {"Aws-Request-Id": "request-1", "Deadline-Ms": "99999999999999", "Invoked-Function-Arn": "arn:aws:x"}
        fields = {f"Lambda-Runtime-{name}": value for name, value in facts.items()}
        self._answer(200, b'{"name": "Ada"}', {"Content-Type": "application/json", **fields})

    def do_POST(self) -> None:
        self.posted.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(202, b'{"status":"OK"}\n', {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not to standard error."""


def test_with_a_runtime_api_it_is_the_runtime_interface_client(store: Store, container: str, output: Path) -> None:
    handler = type("Api", (RuntimeApi,), {})
    handler.posted, handler.handed_out, handler.ended = queue.Queue(), threading.Event(), threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving_it = threading.Thread(target=server.serve_forever)
        serving_it.start()
        try:
            variables = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}", "GREETING": "Ciao"}
            with store.running(container, ENTRY, "app.handler", output=output, **variables):
                path, body = handler.posted.get(timeout=60)
        finally:
            handler.ended.set()
            server.shutdown()
            serving_it.join(10)
    assert path == "/2018-06-01/runtime/invocation/request-1/response", f"{body!r} {output.read_text()}"
    assert json.loads(body)["message"] == "Ciao, Ada!"
    assert json.loads(body)["code"] == "/var/task"


def test_a_timeout_is_answered_as_on_lambda_and_the_next_invocation_is_served(served: Served) -> None:
    answer = served.invoke({"sleep_s": 30})
    assert answer["errorType"] == "Sandbox.Timedout"
    assert answer["errorMessage"].endswith("Task timed out after 2.00 seconds")
    assert served.invoke({})["message"] == "Ciao, World!"


def test_memory_beyond_the_limit_ends_the_environment_where_the_container_lets_it_be_held(served: Served) -> None:
    holds = served.readiness()["enforcement"]["memory"]
    answer = served.invoke({"allocate_mb": 600})
    if holds == "none":
        assert answer["allocated_mb"] == 600, f"nothing holds memory here, and /readyz says so: {answer}"
    else:
        assert answer["errorType"] == "Runtime.OutOfMemory", f"{holds}: {answer}"
    assert served.invoke({})["message"] == "Ciao, World!"


def test_sigterm_lets_a_running_invocation_finish_and_ends_with_status_0(served: Served, output: Path) -> None:
    answers: list[Any] = []
    running = threading.Thread(target=lambda: answers.append(served.invoke({"sleep_s": 1, "name": "late"})))
    running.start()
    while served.readiness()["functions"]["function"]["busy"] != 1:
        assert running.is_alive()
    members = processes.tree(served.process.pid)
    os.kill(served.host.pid, signal.SIGTERM)
    running.join(30)
    assert served.process.wait(30) == 0, output.read_text()
    assert [answer["message"] for answer in answers] == ["Ciao, late!"]
    assert processes.wait_gone(members, 10) == set()


def test_the_health_check_tells_a_host_that_serves_from_one_that_does_not(
    served: Served, store: Store, container: str
) -> None:
    listen = f"127.0.0.1:{served.port}"
    assert store.execute(container, "/var/runtime/healthcheck", LAMPLIGHTER_LISTEN=listen).returncode == 0
    os.kill(served.host.pid, signal.SIGTERM)
    assert served.process.wait(30) == 0
    assert store.execute(container, "/var/runtime/healthcheck", LAMPLIGHTER_LISTEN=listen).returncode == 1


def test_the_entry_point_wants_the_handler_and_nothing_else(store: Store, container: str) -> None:
    for words in ((), ("app.handler", "more")):
        done = store.execute(container, ENTRY, *words)
        assert done.returncode == 142
        assert "entrypoint requires the handler name to be the first argument" in done.stderr

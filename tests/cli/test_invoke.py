"""``lamplighter invoke`` against a real HTTP server."""

from __future__ import annotations

import base64
import json
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lamplighter.cli import main


class Service(ThreadingHTTPServer):
    """Answers every request as it was told to, and remembers the last one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"null"
        self.path = ""
        self.request_headers: dict[str, str] = {}
        self.event = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        service = self.server
        service.path = self.path
        service.request_headers = dict(self.headers.items())
        service.event = self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        self.send_response(service.status)
        for name, value in service.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(service.body)))
        self.end_headers()
        self.wfile.write(service.body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def invoke(*arguments: str, stdin: bytes | None = None, endpoint: str | None = None) -> Result:
    environment = {"LAMPLIGHTER_ENDPOINT": endpoint}
    return CliRunner().invoke(main, ["invoke", *arguments], input=stdin, env=environment)


def test_the_payload_goes_to_stdout_byte_for_byte_and_the_log_to_stderr(service: Service) -> None:
    service.body = b'{"a":  "\xc3\xa9"}\r\n \x00\xff'
    service.headers["X-Amz-Log-Result"] = base64.b64encode(b"START RequestId: 1\nhallo\xff").decode()
    result = invoke("orders", "--endpoint", service.url)
    assert result.exit_code == 0
    assert result.stdout_bytes == service.body
    assert result.stderr_bytes == b"START RequestId: 1\nhallo\xff\n"


def test_the_request_is_lambdas_invoke_with_the_log_asked_for(service: Service) -> None:
    assert invoke("orders", "--endpoint", service.url).exit_code == 0
    assert service.path == "/2015-03-31/functions/orders/invocations"
    assert service.request_headers["X-Amz-Log-Type"] == "Tail"
    assert service.request_headers["X-Amz-Invocation-Type"] == "RequestResponse"
    assert service.request_headers["Content-Type"] == "application/json"
    assert "X-Amz-Client-Context" not in service.request_headers
    assert service.event == b"{}"


def test_the_event_comes_from_a_file_unchanged(service: Service, tmp_path: Path) -> None:
    event = b' {"a" : 1.0, "b": [null,\t"\xc3\xa9"], "n": ' + b"1" * 5000 + b"}\n"
    (tmp_path / "event.json").write_bytes(event)
    assert invoke("orders", "--event", str(tmp_path / "event.json"), "--endpoint", service.url).exit_code == 0
    assert service.event == event


def test_the_event_comes_from_stdin(service: Service) -> None:
    assert invoke("orders", "--event", "-", stdin=b"[1, 2]", endpoint=service.url).exit_code == 0
    assert service.event == b"[1, 2]"


def test_names_and_qualifiers_are_quoted_into_the_path(service: Service) -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
    result = invoke(arn, "--qualifier", "$LATEST", "--endpoint", f"{service.url}/prefix/")
    assert result.exit_code == 0
    assert service.path == (
        "/prefix/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/invocations"
        "?Qualifier=%24LATEST"
    )
    assert invoke("../../etc?x#y", "--endpoint", service.url).exit_code == 0
    assert service.path == "/2015-03-31/functions/..%2F..%2Fetc%3Fx%23y/invocations"


def test_the_client_context_travels_in_base64(service: Service) -> None:
    text = '{"custom": {"é": 1}}'
    assert invoke("orders", "--client-context", text, "--endpoint", service.url).exit_code == 0
    assert base64.b64decode(service.request_headers["X-Amz-Client-Context"]).decode() == text


def test_a_function_error_ends_with_1_and_its_payload_is_still_on_stdout(service: Service) -> None:
    service.headers["X-Amz-Function-Error"] = "Unhandled"
    service.headers["X-Amz-Log-Result"] = base64.b64encode(b"[ERROR] boom\n").decode()
    service.body = b'{"errorMessage": "boom"}'
    result = invoke("orders", "--endpoint", service.url)
    assert result.exit_code == 1
    assert result.stdout_bytes == service.body
    assert result.stderr == "[ERROR] boom\nlamplighter: the function failed (Unhandled)\n"


@pytest.mark.parametrize(
    ("status", "headers", "body", "text"),
    [
        (
            404,
            {"x-amzn-ErrorType": "ResourceNotFoundException"},
            b'{"Type":"User","Message":"Function not found: f"}',
            "404 ResourceNotFoundException: Function not found: f",
        ),
        (
            429,
            {"x-amzn-ErrorType": "TooManyRequestsException:http://internal.amazon.com/"},
            b'{"Type":"User","message":"Rate Exceeded.","Reason":"x"}',
            "429 TooManyRequestsException: Rate Exceeded.",
        ),
        (502, {}, b"Bad Gateway", "502 Bad Gateway"),
        (500, {}, b"[1]", "500 [1]"),
        (500, {"x-amzn-ErrorType": "ServiceException"}, b"", "500 ServiceException"),
        (503, {}, b"", "503 without a message"),
        (302, {"Location": "/"}, b"", "302 without a message"),
    ],
)
def test_a_refusal_of_the_service_ends_with_1_and_its_message_on_stderr(
    service: Service, status: int, headers: dict[str, str], body: bytes, text: str
) -> None:
    service.status, service.headers, service.body = status, headers, body
    result = invoke("f", "--endpoint", service.url)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"lamplighter: {text}\n")


def test_a_log_that_is_not_base64_does_not_hide_the_result(service: Service) -> None:
    service.headers["X-Amz-Log-Result"] = "*"
    result = invoke("f", "--endpoint", service.url)
    assert (result.exit_code, result.stdout) == (0, "null")
    assert result.stderr == "lamplighter: the log in the answer is not base64, and is left out\n"


def test_where_nothing_listens_the_command_says_how_to_change_that() -> None:
    with socket.socket() as bound:  # bound but not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        result = invoke("f", "--endpoint", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"lamplighter: nothing listens at {url}: start it with 'lamplighter serve', or name another with --endpoint\n"
    )


def test_a_service_that_never_answers_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = invoke("f", "--endpoint", url, "--timeout", "0.05")
    assert (result.exit_code, result.stderr) == (1, f"lamplighter: {url} did not answer within 0.05 seconds\n")


def one_answer(answer: bytes) -> tuple[str, threading.Thread]:
    """A server of one connection that reads up to the end of the headers, writes ``answer`` and closes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", thread


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"", "RemoteDisconnected|ConnectionResetError"), (b"hello\r\n\r\n", "BadStatusLine|ConnectionResetError"),
     (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnull", "IncompleteRead|ConnectionResetError")],
)  # fmt: skip
def test_an_answer_that_is_not_http_ends_with_1(answer: bytes, kind: str) -> None:
    url, thread = one_answer(answer)
    result = invoke("f", "--endpoint", url)
    thread.join()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"lamplighter: {url} did not answer as HTTP does: ")
    assert any(name in result.stderr for name in kind.split("|"))


def test_a_refusal_that_comes_before_the_whole_event_was_sent_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_bytes(b'"' + b"x" * 16_000_000 + b'"')  # more than the socket buffers hold
    body = b'{"message":"too big"}'
    url, thread = one_answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    result = invoke("f", "--event", str(tmp_path / "event.json"), "--endpoint", url)
    thread.join()
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "lamplighter: 413 too big\n")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not JSON (Expecting value: line 1 column 1 (char 0)); allowed: one JSON text in UTF-8."),
        (b"{'a': 1}", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (b"NaN", "is not JSON (NaN is not a JSON number); allowed: one JSON text in UTF-8."),
        (b"-Infinity", "is not JSON (-Infinity is not a JSON number); allowed: one JSON text in UTF-8."),
        (b"\xff", "is not JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        ('{"a": 1}'.encode("utf-16"), "is not JSON ('utf-8' codec can't decode byte 0xff"),
        (b"[" * 200_000, "is not JSON (it is nested too deeply)"),
    ],
    ids=lambda value: value[:12],
)
def test_an_event_that_is_not_json_ends_with_2_and_is_not_sent(
    service: Service, tmp_path: Path, content: bytes, text: str
) -> None:
    (tmp_path / "event.json").write_bytes(content)
    result = invoke("f", "--event", str(tmp_path / "event.json"), "--endpoint", service.url)
    assert result.exit_code == 2
    assert f"Invalid value for '--event': '{tmp_path}/event.json' {text}" in result.stderr
    assert service.path == ""


@pytest.mark.parametrize(("event", "text"), [("/no/such.json", "No such file or directory"), ("/", "Is a directory")])
def test_an_event_that_cannot_be_read_ends_with_2(event: str, text: str) -> None:
    result = invoke("f", "--event", event)
    assert result.exit_code == 2
    assert f"Invalid value for '--event': '{event}': {text}" in result.stderr


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1:9000", "localhost:9000", "ftp://host", "http://", "http://host:port", "http://host:99999",
     "http://host:0", "http://[::1", "http://host?x=1", "http://host#x", "http://me:pw@host",
     "http://a b", "http://é"],
)  # fmt: skip
def test_a_wrong_endpoint_ends_with_2_and_the_form_allowed(endpoint: str) -> None:
    result = invoke("f", "--endpoint", endpoint)
    assert result.exit_code == 2
    assert "Invalid value for '--endpoint'" in result.stderr
    assert f": {endpoint!r} is no endpoint" in result.stderr
    assert "allowed: http://HOST[:PORT] or https://HOST[:PORT], such as http://127.0.0.1:9000." in result.stderr


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ("{", "it is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (json.dumps("x" * 2686), "it is 3584 bytes long in base64; allowed: at most 3583 bytes."),
    ],
)
def test_a_client_context_the_service_would_refuse_ends_with_2(context: str, text: str) -> None:
    result = invoke("f", "--client-context", context)
    assert result.exit_code == 2
    assert f"Invalid value for '--client-context': {text}" in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], [""], ["f", "--timeout", "0"], ["f", "--timeout", "nan"], ["f", "--timeout", "1e9"]]
)
def test_other_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_a_newline_follows_the_payload_only_on_a_terminal(service: Service) -> None:
    command = [sys.executable, "-m", "lamplighter", "invoke", "f", "--endpoint", service.url]
    leader, terminal = pty.openpty()
    try:
        done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, os.read(leader, 100)) == (0, b"null\r\n")  # the line discipline adds the \r
    finally:
        os.close(leader)
        os.close(terminal)
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"null")

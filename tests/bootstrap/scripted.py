"""A Runtime API whose every answer is written by the test, byte by byte."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
NEXT = "/2018-06-01/runtime/invocation/next"


@dataclass
class Request:
    """One request as it came. ``trailers`` and ``chunks`` are of a body in chunks; ``connection`` counts from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    with_more: bool = False
    """More had been received behind it, before it was answered."""

    @property
    def is_next(self) -> bool:
        return self.path == NEXT


@dataclass
class Reply:
    """What to do with a request: send the parts, then close the connection or keep it."""

    data: bytes = b""
    close: bool = False


HOLD = Reply()
Answering = Callable[[Request], "Reply | bytes"]


def event(body: bytes = b"{}", request_id: str = "id-1", **headers: str) -> bytes:
    """An answer to ``next``. Headers by name, with underscores; an empty value leaves one out."""
    names = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": request_id,
        "Lambda-Runtime-Deadline-Ms": "4102444800000",
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        **{name.replace("_", "-"): value for name, value in headers.items()},
        "Content-Length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in names.items() if value)
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body


def refusal(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d No\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def events(*answers: bytes, options: bytes | Reply = PONG, to_posts: bytes | Reply = ACCEPTED) -> Answering:
    """Answers ``next`` with these, one after the other, and holds the one after the last."""
    left = list(answers)

    def answering(request: Request) -> Reply | bytes:
        if request.method == "OPTIONS":
            return options
        if request.is_next:
            return left.pop(0) if left else HOLD
        return to_posts

    return answering


class ScriptedAPI:
    """Listens on loopback until the block ends; each connection is served by a thread of its own."""

    def __init__(self, answering: Answering, family: socket.AddressFamily = socket.AF_INET) -> None:
        self._answering = answering
        self._listener = socket.socket(family)
        self._listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._listener.listen(16)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"[::1]:{self.port}" if family == socket.AF_INET6 else f"127.0.0.1:{self.port}"
        self.requests: list[Request] = []
        self._arrived: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.faults: list[BaseException] = []
        self.on_chunk: Callable[[bytes], object] = lambda chunk: None
        """Called with each chunk of a request, once it is there."""
        self.on_close: Callable[[], object] = lambda: None
        """Called when a connection was closed because its reply says so."""
        self.refuse_chunk = b""
        """Sent, and the connection closed, in place of reading on after a chunk."""

    def __enter__(self) -> ScriptedAPI:
        self._threads[0].start()
        return self

    def stop(self) -> None:
        """End every connection, and take no more."""
        for one in (self._listener, *self._connections):
            with contextlib.suppress(OSError):  # it has ended already
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __exit__(self, *_: object) -> None:
        self.stop()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        for one in self._connections:
            one.close()
        assert self.faults == []

    def wait(self, seconds: float = 30) -> Request:
        """The next request that is no OPTIONS."""
        while True:
            request = self._arrived.get(timeout=seconds)
            if request.method != "OPTIONS":
                return request

    def answers(self, count: int) -> list[Request]:
        """The next ``count`` posts."""
        found: list[Request] = []
        while len(found) < count:
            request = self.wait()
            if request.method == "POST":
                found.append(request)
        return found

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection, len(self._connections)), daemon=True)
            self._connections.append(connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        data = b""
        try:
            while True:
                request, data = self._request(connection, data, number)
                if request is None:
                    return
                self.requests.append(request)
                reply = self._answering(request)
                if isinstance(reply, bytes):
                    reply = Reply(reply)
                self._arrived.put(request)
                connection.sendall(reply.data)
                if reply.close:
                    connection.shutdown(socket.SHUT_RDWR)
                    self.on_close()
                    return
        except OSError:
            return  # the client went away
        except BaseException as fault:
            self.faults.append(fault)
            connection.shutdown(socket.SHUT_RDWR)

    def _request(self, connection: socket.socket, data: bytes, number: int) -> tuple[Request | None, bytes]:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return None, b""
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        method, path, version = line.split(" ")
        assert version == "HTTP/1.1"
        headers = _headers(lines)
        request = Request(method, path, headers, b"", number)
        if headers.get("transfer-encoding") == "chunked":
            while True:
                line, data = self._line(connection, data)
                length = int(line, 16)
                if length == 0:
                    break
                while len(data) < length + 2:
                    data += self._more(connection)
                request.chunks.append(data[:length])
                assert data[length : length + 2] == b"\r\n"
                data = data[length + 2 :]
                self.on_chunk(request.chunks[-1])
                if self.refuse_chunk:
                    connection.sendall(self.refuse_chunk)
                    while connection.recv(65536):  # what is left unread would reset the connection
                        pass
                    return None, b""
            lines = []
            while True:
                line, data = self._line(connection, data)
                if not line:
                    break
                lines.append(line)
            request.trailers = _headers(lines)
            request.body = b"".join(request.chunks)
        else:
            length = int(headers.get("content-length", "0"))
            while len(data) < length:
                data += self._more(connection)
            request.body, data = data[:length], data[length:]
        request.with_more = bool(data)
        return request, data

    def _line(self, connection: socket.socket, data: bytes) -> tuple[str, bytes]:
        while b"\r\n" not in data:
            data += self._more(connection)
        line, _, data = data.partition(b"\r\n")
        return line.decode(), data

    def _more(self, connection: socket.socket) -> bytes:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError("in the middle of a request")
        return more


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in found, f"{name} was sent twice"
        found[name.lower()] = value
    return found

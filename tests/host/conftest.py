"""What the host's tests share: the HTTP front on a real socket, in a thread of its own, before a fake application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import uvloop

from lamplighter.host.http import Front, Limits, http_front
from lamplighter.host.invocation import Header, Invocation
from lamplighter.host.listener import Listener

ANSWER_HEADERS: tuple[Header, ...] = ((b"Content-Type", b"application/json"), (b"X-Amz-Executed-Version", b"$LATEST"))


class FakeApplication:
    """Echoes the body, unless ``on_invoke`` is set. ``wait_for`` blocks the test until so many invocations came."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []
        self.on_invoke: Callable[[Invocation], None] | None = None
        self.is_ready = True
        self._arrived = threading.Condition()

    def invoke(self, invocation: Invocation) -> None:
        if self.on_invoke is None:
            invocation.reply(200, ANSWER_HEADERS, invocation.body)
        else:
            self.on_invoke(invocation)
        with self._arrived:
            self.invocations.append(invocation)
            self._arrived.notify_all()

    def keep(self, invocation: Invocation) -> None:
        """An ``on_invoke`` that answers nothing: the test does, later."""

    def wait_for(self, count: int, seconds: float = 10.0) -> list[Invocation]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.invocations) >= count, seconds), (
                f"{len(self.invocations)} of {count} invocations came"
            )
            return self.invocations[:count]

    def health(self) -> tuple[bool, dict[str, object]]:
        return True, {"status": "ok"}

    def ready(self) -> tuple[bool, dict[str, object]]:
        return self.is_ready, {"functions": {"hello": "frozen" if self.is_ready else "starting"}}


class Client:
    """A raw socket, with just enough HTTP to read one answer at a time."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(20)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _until(self, enough: Callable[[bytes], bool]) -> None:
        while not enough(self._read):
            data = self.socket.recv(262_144)
            if not data:
                raise EOFError(f"the connection ended after {self._read!r}")
            self._read += data

    def answer(self, *, headless: bool = False) -> tuple[int, dict[str, str], bytes]:
        """``(status, headers with lower-case names, body)`` of the next answer."""
        self._until(lambda read: b"\r\n\r\n" in read)
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(": ")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value
        length = 0 if headless else int(headers.get("content-length", "0"))
        self._until(lambda read: len(read) >= length)
        body, self._read = self._read[:length], self._read[length:]
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        return int(status), headers, body

    def ended(self) -> bool:
        """Wait for the end of the connection; true if nothing but the end came."""
        try:
            return self._read == b"" and self.socket.recv(65_536) == b""
        except ConnectionResetError:
            return False

    def close(self) -> None:
        self.socket.close()


class Server:
    """A front on a port of the loopback, its loop in a thread."""

    def __init__(self, application: Any, limits: Limits) -> None:
        self.application = application
        self.loop = uvloop.new_event_loop()
        self.front: Front = http_front(application, limits=limits)
        self.listener = Listener(self.front)
        self.clients: list[Client] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.listener.start("127.0.0.1", 0))
        self.port = self.listener.port

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function`` on the loop's thread, and wait for its result."""

        async def body() -> Any:
            return function(*args)

        return self.run(body())

    def reply(self, invocation: Invocation, status: int, headers: Sequence[Header], body: bytes) -> None:
        self.call(invocation.reply, status, headers, body)

    def client(self, receive_buffer: int | None = None) -> Client:
        client = Client(self.port, receive_buffer)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.run(self.listener.drain(0.0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.loop.close()


@pytest.fixture
def serve_front() -> Iterator[Callable[..., Server]]:
    """``serve_front(**limits)`` starts a server; all are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(application: Any = None, **limits: Any) -> Server:
            server = Server(application or FakeApplication(), Limits(**limits))
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def front_server(serve_front: Callable[..., Server]) -> Server:
    """A server with the limits it has in production."""
    return serve_front()

"""A Runtime API for pools of workers, as strict as AWS's own server is where workers die: for the tests of this folder.

Of AWS's server for Managed Instances it has what matters here (its source: ``invoke_router.go`` of the emulator):
requests for the next event wait in a queue from which nothing is ever taken out but by an invocation, so that one whose
connection has gone swallows an event; the queue has a size; an answer counts once, by its id, whichever connection it
comes on. With ``classic`` there is one invocation at a time, and who asks while it runs is handed it again.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'


def refusal(status: int, error_type: str, message: str = "refused") -> bytes:
    body = f'{{"errorMessage":"{message}","errorType":"{error_type}"}}\n'.encode()
    return b"HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


@dataclass
class Invocation:
    number: int
    body: bytes
    request_id: str
    kind: str = ""
    """``response`` or ``error``, once it is answered."""
    answer: bytes = b""
    head: str = ""
    refused: int = 0
    """Answers that came when there was one already."""
    swallowed: bool = False
    """It was handed to a connection that had gone."""
    done: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = 60) -> Invocation:
        assert self.done.wait(seconds), f"invocation {self.number} was not answered; swallowed: {self.swallowed}"
        return self


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    data: bytes = b""
    waiting: bool = False
    closed: bool = False


class PoolAPI:
    """The server, in a thread of its own; a context manager. What it has seen is read with its lock free: counters."""

    def __init__(self, places: int, *, classic: bool = False) -> None:
        self.connections = 0
        self.asked = 0
        """Requests for the next event."""
        self.init_errors: list[tuple[str, bytes]] = []
        self.restores = 0
        self.refuse_next: deque[bytes] = deque()
        """What to answer the next requests for an event with, one each."""
        self.refuse_answers: deque[bytes] = deque()
        """What to answer the next answers with, one each; such an invocation is over."""
        self.invocations: list[Invocation] = []
        self._places = places
        self._classic = classic
        self._open: dict[str, Invocation] = {}
        self._unsent: deque[Invocation] = deque()
        self._idle: deque[_Connection] = deque()
        self._lock = threading.Condition()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._bell, self._ring = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, None)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._ended = False
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PoolAPI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._ring.send(b"x")
        self._thread.join(30)
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._ring.close()
        if self._fault is not None:
            raise self._fault

    def invoke(self, body: bytes) -> Invocation:
        """Hand this out as soon as a worker waits."""
        with self._lock:
            number = len(self.invocations) + 1
            one = Invocation(number, body, f"{number:08x}-1111-4222-8333-{number * 7919:012x}")
            self.invocations.append(one)
            self._unsent.append(one)
        self._ring.send(b"x")
        return one

    def wait_until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something that this server's thread brings about."""
        with self._lock:
            assert self._lock.wait_for(true, seconds), f"not within {seconds} s; asked {self.asked}, idle {self.idle}"

    @property
    def idle(self) -> int:
        """Requests that wait for an event, those of closed connections among them."""
        return len(self._idle)

    def wait_idle(self, count: int | None = None, seconds: float = 60) -> None:
        self.wait_until(lambda: self.idle >= (count or self._places), seconds)

    def _run(self) -> None:
        try:
            while not self._ended:
                for key, _ in self._selector.select(1):
                    with self._lock:
                        if key.fileobj is self._listening:
                            self._accept()
                        elif key.fileobj is self._bell:
                            self._bell.recv(4096)
                        else:
                            self._read(key.data)
                        self._hand_out()
                        self._lock.notify_all()
        except BaseException as fault:
            self._fault = fault

    def _accept(self) -> None:
        sock, _ = self._listening.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        self._selector.register(sock, selectors.EVENT_READ, _Connection(sock))

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            connection.closed = True
            self._selector.unregister(connection.socket)
            connection.socket.close()
            return
        connection.data += data
        while not connection.waiting and (request := _request(connection)) is not None:
            self._on_request(connection, *request)

    def _on_request(self, connection: _Connection, first: str, head: str, body: bytes) -> None:
        if first.startswith("GET /2018-06-01/runtime/invocation/next "):
            self._on_next(connection)
        elif first.startswith("POST /2018-06-01/runtime/invocation/"):
            request_id, kind = first.split(" ")[1].split("/")[4:6]
            self._on_answer(connection, request_id, kind, head, body)
        elif first.startswith("POST /2018-06-01/runtime/init/error "):
            self.init_errors.append((_header(head, "Lambda-Runtime-Function-Error-Type"), body))
            first_one = len(self.init_errors) == 1
            self._send(connection, ACCEPTED if first_one else refusal(403, "InvalidStateTransition"))
        elif first.startswith("GET /2018-06-01/runtime/restore/next "):
            self.restores += 1
            self._send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif first.startswith("OPTIONS * "):
            self._send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            raise AssertionError(f"an unknown request: {first}")

    def _on_next(self, connection: _Connection) -> None:
        self.asked += 1
        if self.refuse_next:
            self._send(connection, self.refuse_next.popleft())
        elif self._classic and self._open:
            (running,) = self._open.values()
            self._send_event(connection, running)
        elif len(self._idle) >= self._places:
            self._send(connection, refusal(500, "Runtime.TooManyIdleRuntimes"))
        else:
            connection.waiting = True
            self._idle.append(connection)

    def _on_answer(self, connection: _Connection, request_id: str, kind: str, head: str, body: bytes) -> None:
        one = self._open.pop(request_id, None)
        if one is None:
            for known in self.invocations:
                if known.request_id == request_id:
                    known.refused += 1
            self._send(connection, refusal(400, "InvalidRequestID"))
            return
        one.kind, one.answer, one.head = kind, body, head
        one.done.set()
        self._send(connection, self.refuse_answers.popleft() if self.refuse_answers else ACCEPTED)

    def _hand_out(self) -> None:
        while self._unsent and self._idle and not (self._classic and self._open):
            one, connection = self._unsent.popleft(), self._idle.popleft()
            self._open[one.request_id] = one
            connection.waiting = False
            if connection.closed:
                one.swallowed = True
            else:
                self._send_event(connection, one)

    def _send_event(self, connection: _Connection, one: Invocation) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {one.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {int(time.time() * 1000) + 60_000}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:pool\r\n"
            f"Lambda-Runtime-Invocation-Id: i-{one.number}\r\nContent-Length: {len(one.body)}\r\n\r\n"
        )
        self._send(connection, head.encode() + one.body)

    def _send(self, connection: _Connection, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end of file is read in a moment
            connection.socket.sendall(data)


def _request(connection: _Connection) -> tuple[str, str, bytes] | None:
    head, end, rest = connection.data.partition(b"\r\n\r\n")
    if not end:
        return None
    text = head.decode()
    if _header(text, "Transfer-Encoding") == "chunked":
        return _chunked(connection, text, rest)
    length = int(_header(text, "Content-Length") or 0)
    if len(rest) < length:
        return None
    connection.data = rest[length:]
    return text.partition("\r\n")[0], text, rest[:length]


def _chunked(connection: _Connection, head: str, rest: bytes) -> tuple[str, str, bytes] | None:
    """The same for a body in chunks; its trailers, which come with failures, count as part of the head."""
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        length = int(size, 16)
        if length == 0:
            break
        if len(rest) < length + 2:
            return None
        body, rest = body + rest[:length], rest[length + 2 :]
    trailers, end, rest = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if not end:
        return None
    connection.data = rest
    return head.partition("\r\n")[0], head + trailers.decode(), body


def _header(head: str, name: str) -> str:
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return ""

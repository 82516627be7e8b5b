"""HTTP as plain as it gets: one request, one answer, a raw socket. A client library costs more than a warm call."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
_RECEIVE = 262_144


class AnswerFault(Exception):
    """An answer that is no success; the text is what a user should read."""


def invocation(event: bytes) -> bytes:
    """The Invoke request for ``event``."""
    head = f"POST {INVOKE_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return b"%sContent-Length: %d\r\n\r\n%s" % (head.encode(), len(event), event)


def asking(path: str) -> bytes:
    """A GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def connected(address: tuple[str, int], seconds: float = 60.0) -> contextlib.closing[socket.socket]:
    """A connection that gives up after ``seconds`` without a byte; closed on the way out."""
    sock = socket.create_connection(address, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return contextlib.closing(sock)


def exchange(sock: socket.socket, request: bytes) -> tuple[int, bytes, bytes]:
    """Send ``request``, and wait for its answer: status, head, body. Raises :class:`AnswerFault` if there is none."""
    sock.sendall(request)
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(sock)
    head = data[:end]
    length = next(
        (line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b""
    )
    if not length.strip().isdigit():
        raise AnswerFault(f"the answer has no length: {head[:200]!r}")
    while len(data) < end + 4 + int(length):
        data += _more(sock)
    return int(head[9:12]), head, data[end + 4 :]


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(_RECEIVE)
    if not data:
        raise AnswerFault("the connection ended without an answer")
    return data


def invoke(sock: socket.socket, request: bytes) -> float:
    """Milliseconds until the answer; raises :class:`AnswerFault` with the function's own words if it failed."""
    start = time.perf_counter()
    status, head, body = exchange(sock, request)
    took = (time.perf_counter() - start) * 1e3
    if status != 200 or b"x-amz-function-error" in head.lower():
        raise AnswerFault(f"an invocation failed ({status}): {body[:1000].decode(errors='replace')}")
    return took


def invoke_anew(address: tuple[str, int], request: bytes) -> float:
    """The same on a connection of its own, the connecting included."""
    start = time.perf_counter()
    with connected(address) as sock:
        connecting = (time.perf_counter() - start) * 1e3
        return connecting + invoke(sock, request)


def cycled(events: list[bytes]) -> Iterator[bytes]:
    """The requests for ``events``, in turn, without end."""
    requests = [invocation(event) for event in events]
    while True:
        yield from requests

"""The one client all servers are measured with: raw sockets, requests made beforehand, Content-Length and little else.

A client library would cost more than a warm invocation and would hide the ratio. ``python -m bench.client`` is the load
generator in a process of its own: one epoll loop over keep-alive connections, one request in flight on each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from bench.events import Prepared, prepared_requests

ROOT = Path(__file__).resolve().parent.parent
Address = tuple[str, int]

_RECEIVE = 262_144
_END = b"\r\n\r\n"


class BadAnswer(Exception):
    """The server's answer is not what the request asked for; the text says in which way."""


class Answer(NamedTuple):
    """One HTTP answer. Header names are lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def take_answer(data: bytes) -> tuple[Answer, bytes] | None:
    """Split one whole answer off the front of ``data``: (answer, the bytes after it), or ``None`` if more must come.

    Raises :class:`BadAnswer` for bytes that are not HTTP/1.x, or an answer without Content-Length (no server measured
    here sends one).
    """
    if not b"HTTP/1.".startswith(data[:7]) and not data.startswith(b"HTTP/1."):
        raise BadAnswer(f"not HTTP/1.x: {data[:60]!r}")
    end = data.find(_END)
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    status = first.split(b" ", 2)[1] if b" " in first else b""
    if len(status) != 3 or not status.isdigit():
        raise BadAnswer(f"no status code in {first[:60]!r}")
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        raise BadAnswer(f"an answer needs a Content-Length in digits, got {length!r} with status {status.decode()}")
    stop = end + len(_END) + int(length)
    if len(data) < stop:
        return None
    return Answer(int(status), headers, data[end + len(_END) : stop]), data[stop:]


class Connection:
    """One keep-alive connection, one request at a time. ``timeout`` in seconds bounds every wait.

    Also a context manager that closes it. Every wait may raise ``TimeoutError`` or another ``OSError``.
    """

    def __init__(self, address: Address, timeout: float = 30.0) -> None:
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, wire: bytes) -> Answer:
        """Send ``wire`` and wait for its answer; raises :class:`BadAnswer` if more than one answer comes, or none."""
        self.socket.sendall(wire)
        data = b""
        while True:
            more = self.socket.recv(_RECEIVE)
            if not more:
                raise BadAnswer(f"the connection ended after {len(data)} bytes of an answer")
            data = data + more if data else more
            taken = take_answer(data)
            if taken is not None:
                answer, rest = taken
                if rest:
                    raise BadAnswer(f"{len(rest)} bytes came after the answer: {rest[:60]!r}")
                return answer

    def invoke(self, request: Prepared) -> float:
        """Exchange one request, require its own successful answer, and return the seconds it took."""
        start = time.perf_counter()
        answer = self.exchange(request.wire)
        took = time.perf_counter() - start
        require_success(answer, request)
        return took

    def get(self, path: str) -> Answer:
        """``GET path`` on this connection."""
        return self.exchange(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def silent(self) -> bool:
        """Has nothing more come? False if bytes wait unread: an answer to nothing. A closed end counts as silent."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        return not readable or not self.socket.recv(1, socket.MSG_PEEK)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def require_success(answer: Answer, request: Prepared) -> None:
    """Raise :class:`BadAnswer` unless ``answer`` is a 200 that carries the request's own id."""
    if answer.status != 200 or request.marker not in answer.body or b"x-amz-function-error" in answer.headers:
        raise BadAnswer(f"request {request.marker.decode()} got status {answer.status}: {answer.body[:300]!r}")


def invoke_on_new_connection(address: Address, request: Prepared, timeout: float = 30.0) -> float:
    """Connect, invoke, require success: the seconds from before the connect to the answer's last byte."""
    start = time.perf_counter()
    with Connection(address, timeout) as connection:
        answer = connection.exchange(request.wire)
        took = time.perf_counter() - start
    require_success(answer, request)
    return took


@dataclass(frozen=True)
class Load:
    """What one run of the load generator saw. ``p50`` and ``p99`` are seconds per request."""

    requests: int
    seconds: float
    p50: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class _Lane:
    """One connection of the load generator, and the request in flight on it."""

    __slots__ = ("data", "marker", "requests", "sent", "socket")

    def __init__(self, sock: socket.socket, requests: list[Prepared]) -> None:
        self.socket = sock
        self.requests = itertools.cycle(requests)
        self.data = b""
        self.marker = b""
        self.sent = 0.0

    def send(self) -> None:
        wire, self.marker = next(self.requests)
        self.sent = time.perf_counter()
        self.socket.sendall(wire)


def generate_load(address: Address, connections: int, seconds: float, seed: int = 1, distinct: int = 64) -> Load:
    """Keep one request in flight on each of ``connections`` for ``seconds``; every answer must be a right one.

    ``distinct`` is how many different requests each connection repeats. Raises :class:`BadAnswer` at the first wrong
    answer and ``TimeoutError`` if nothing comes for 30 s.
    """
    if connections < 1 or seconds <= 0 or distinct < 1:
        raise ValueError("connections and distinct must be at least 1 and seconds above 0")
    requests = prepared_requests(seed)
    lanes: dict[int, _Lane] = {}
    latencies: list[float] = []
    epoll = select.epoll()
    try:
        for _ in range(connections):
            sock = socket.create_connection(address, 30)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lanes[sock.fileno()] = _Lane(sock, list(itertools.islice(requests, distinct)))
            epoll.register(sock, select.EPOLLIN)
        start = time.perf_counter()
        stop = start + seconds
        for lane in lanes.values():
            lane.send()
        waiting = connections
        while waiting:
            ready = epoll.poll(30)
            if not ready:
                raise TimeoutError(f"no answer within 30 s; {waiting} requests are open")
            for fd, _ in ready:
                lane = lanes[fd]
                if not _receive(lane):
                    continue
                now = time.perf_counter()
                latencies.append(now - lane.sent)
                if now < stop:
                    lane.send()
                else:
                    waiting -= 1
        took = time.perf_counter() - start
    finally:
        epoll.close()
        for lane in lanes.values():
            lane.socket.close()
    latencies.sort()
    count = len(latencies)
    return Load(count, took, latencies[count // 2], latencies[min(count - 1, count * 99 // 100)])


def _receive(lane: _Lane) -> bool:
    """Read what came; True once the lane's answer is whole and right."""
    more = lane.socket.recv(_RECEIVE)
    if not more:
        raise BadAnswer("the server closed a connection with a request open")
    data = lane.data + more if lane.data else more
    # The usual answer comes whole: its last bytes are found without parsing every header, which on two cores would
    # take the time from the server being measured.
    end = data.find(_END)
    at = data.find(b"ontent-", 0, end)
    while at >= 0 and data[at + 7 : at + 14].lower() != b"length:":
        at = data.find(b"ontent-", at + 7, end)
    if end >= 0 and at >= 0:
        length = int(data[at + 14 : data.index(b"\r\n", at)])
        have = len(data) - end - len(_END)
        if have < length:
            lane.data = data
            return False
        if have == length and data[8:13] == b" 200 " and lane.marker in data:
            lane.data = b""
            return True
    taken = take_answer(data)
    if taken is None:
        lane.data = data
        return False
    answer, rest = taken
    if rest:
        raise BadAnswer(f"{len(rest)} bytes came after the answer")
    require_success(answer, Prepared(b"", lane.marker))
    lane.data = b""
    return True


def load_from_own_process(address: Address, connections: int, seconds: float, seed: int = 1) -> Load:
    """Run :func:`generate_load` in a fresh interpreter, so that the measuring process's own work stays out of it."""
    command = [sys.executable, "-m", "bench.client", address[0], str(address[1])]
    command += ["--connections", str(connections), "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise BadAnswer(f"the load generator failed with status {done.returncode}: {done.stderr[-2000:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return Load(**facts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.client", description="Load one server, print one JSON line.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    load = generate_load((options.host, options.port), options.connections, options.seconds, options.seed)
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()

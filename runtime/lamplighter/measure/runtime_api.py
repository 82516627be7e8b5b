"""A Runtime API for one client at a time, so that a start by exec can be measured: from exec to its first answer.

The same one for every runtime interface client, ours and AWS's, so that a difference is the client's. It serves events
from a list and notes the time from handing one out to the response's last byte. Nothing else of the platform is here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from lamplighter.function.config import function_config
from lamplighter.function.environment import base_environment
from lamplighter.measure.hosting import Function, HostFault

CLIENTS = {"lamplighter.bootstrap": "lamplighter.bootstrap", "awslambdaric": "awslambdaric"}
"""``python -m`` names of the clients that can be measured."""
_PATH = b"/2018-06-01/runtime/"
_WAIT_S = 60.0


class Run(NamedTuple):
    """One process: milliseconds from exec to its first answer, of each later answer, and its PSS at the end in MB."""

    first_ms: float
    later_ms: list[float]
    pss_mb: float


class _Api:
    """The listening end, and the connection of the one client."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_WAIT_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connection: socket.socket | None = None
        self._data = b""

    def close(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()

    def request(self) -> tuple[bytes, bytes]:
        """The next request: its path and its body. A client may come back on another connection.

        ``OPTIONS *``, by which a client learns what the server can do, is answered here, as HTTP servers do.
        """
        while True:
            if self._connection is None:
                self._connection, _ = self._listener.accept()
                self._connection.settimeout(_WAIT_S)
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._data = b""
            if (taken := self._take()) is not None:
                if taken[0] == b"*":
                    self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                return taken
            more = self._connection.recv(262_144)
            if more:
                self._data += more
            else:
                self._connection.close()
                self._connection = None

    def _take(self) -> tuple[bytes, bytes] | None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = self._data[:end].lower().split(b"\r\n")
        fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
        if fields.pop(b"expect", b""):
            self.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._data[end + 4 :]
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            if not body.endswith(b"0\r\n\r\n"):
                return None
            length = len(body)
        else:
            length = int(fields.get(b"content-length", b"0"))
        if len(body) < length:
            return None
        path = self._data.split(b" ", 2)[1]
        self._data = body[length:]
        return path, body[:length]

    def answer(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(data)


def _event(body: bytes) -> bytes:
    deadline = int((time.time() + 60) * 1000)
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Lambda-Runtime-Aws-Request-Id: {uuid.uuid4()}\r\n"
        f"Lambda-Runtime-Deadline-Ms: {deadline}\r\n"
        "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:function\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'


def started_client(client: str, function: Function, events: list[bytes], later: int) -> Run:
    """Start ``client`` on ``function`` and have it answer ``1 + later`` of ``events`` in turn; then end it.

    Raises :class:`HostFault` with the end of its output when it fails or says that an invocation did.
    """
    with _running(client, function) as (api, process, output, began):
        times: list[float] = []
        sent = began
        for turn in range(1 + later):
            try:
                path, body = api.request()
                if path != _PATH + b"invocation/next":
                    raise _fault(client, f"called {path.decode()} first: {body[:500].decode(errors='replace')}", output)
                if times:
                    sent = time.perf_counter()
                api.answer(_event(events[turn % len(events)]))
                path, body = api.request()
                times.append((time.perf_counter() - sent) * 1e3)
            except OSError as fault:
                raise _fault(client, f"did not go on: {fault}", output) from fault
            if not path.endswith(b"/response"):
                raise _fault(client, f"answered {path.decode()}: {body[:500].decode(errors='replace')}", output)
            api.answer(_ACCEPTED)
        # It waits for the next event by now, or is about to: what it holds then is what an idle one holds.
        pss = psutil.Process(process.pid).memory_full_info().pss / 2**20
        return Run(times[0], times[1:], pss)


def _fault(client: str, what: str, output: Path) -> HostFault:
    return HostFault(f"{client} {what}\n{output.read_text(errors='replace')[-2000:]}".strip())


@contextlib.contextmanager
def _running(client: str, function: Function) -> Iterator[tuple[_Api, subprocess.Popen[bytes], Path, float]]:
    config = function_config(
        handler=function.handler,
        code=function.code,
        layers=function.layers,
        memory_mb=function.memory_mb,
        environment=dict(function.environment),
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    variables = base_environment(
        config, region="us-east-1", python_version=version, task_root=config.code, layer_roots=config.layers
    )
    # A custom runtime finds its modules by its own means; both clients are given the same.
    path = [config.code]
    for layer in config.layers:
        path += [f"{layer}/python/lib/python{version}/site-packages", f"{layer}/python"]
    variables["PYTHONPATH"] = os.pathsep.join(path)
    with contextlib.closing(_Api()) as api, tempfile.TemporaryDirectory(prefix="lamplighter-bench-") as directory:
        variables["AWS_LAMBDA_RUNTIME_API"] = api.address
        output = Path(directory) / "output"
        command = [sys.executable, "-m", CLIENTS[client], config.handler]
        with open(output, "wb") as sink:
            began = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603 - this interpreter, with words of ours
                command, cwd=config.code, env=variables, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        try:
            yield api, process, output, began
        finally:
            # As the platform ends an environment without extensions.
            process.kill()
            process.wait(10)

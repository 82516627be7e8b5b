"""The HTTP front: bytes from clients in, one :class:`~lamplighter.host.invocation.Invocation` a request out, and back.

:func:`http_front` makes the protocol factory; ``connection`` has the protocol itself, ``operations`` what it serves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate

from lamplighter.host.connection import Connection
from lamplighter.host.identifiers import Identifiers
from lamplighter.host.invocation import Application
from lamplighter.host.operations import Route, Routes, invoke_routes, probe_routes


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take. Times are in seconds, and measured to within one sweep."""

    head_bytes: int = 65_536
    """Request line and headers together, refused to within one slice (4 KiB) of this. AWS takes 1 MB; nothing an SDK
    sends comes near either."""
    head_fields: int = 128
    pipeline: int = 32
    """Requests of one connection that may run at once; further ones wait, and reading stops."""
    head_seconds: float = 30.0
    """From a head's first byte to its last."""
    body_seconds: float = 30.0
    """Without any byte of a body."""
    idle_seconds: float = 75.0
    """A kept-alive connection without a request. Longer than the 60 s of common load balancers: they close first."""
    write_seconds: float = 30.0
    """Without the client taking a byte of its answer."""
    linger_seconds: float = 10.0
    """Reading on after a request was cut off, so that the answer is not lost to a reset (RFC 9112 section 9.6)."""
    sweep_seconds: float = 1.0


class Front:
    """Everything connections share: routes, limits, the clock, the set of connections. Call it for one more."""

    def __init__(self, application: Application, limits: Limits, routes: Iterable[Route]) -> None:
        self.limits = limits
        self.identifiers = Identifiers()
        own = [*invoke_routes(application, self.identifiers), *probe_routes(application)]
        self.routes = Routes([*own, *routes])
        self.connections: set[Connection] = set()
        self.draining = False
        self.now = 0.0
        """Seconds the event loop was seen running. Time it stood still is not held against clients."""
        self.preamble = b""
        """The constant start of every answer's headers: ``Date``, and the name of the request id's header."""
        self._second = -1
        self._last_sweep = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def __call__(self) -> Connection:
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        """A connection begins."""
        self.connections.add(connection)
        if self._timer is None:
            self._last_sweep = time.monotonic()
            self._read_clock()
            self._timer = asyncio.get_running_loop().call_later(self.limits.sweep_seconds, self._sweep)

    def closed(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def drain(self, seconds: float) -> int:
        """Close idle connections now and busy ones after their answers; after ``seconds``, abort what is left.

        Returns how many were aborted.
        """
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=seconds)
        left = list(self.connections)
        for connection in left:
            connection.abort()
        if left and self._emptied is not None:  # until their descriptors are closed
            await asyncio.wait((self._emptied,), timeout=1.0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return len(left)

    def _sweep(self) -> None:
        now = time.monotonic()
        self.now += min(now - self._last_sweep, 2 * self.limits.sweep_seconds)
        self._last_sweep = now
        self._read_clock()
        for connection in list(self.connections):
            connection.check(self.now)
        self._timer = None
        if self.connections:
            self._timer = asyncio.get_running_loop().call_later(self.limits.sweep_seconds, self._sweep)

    def _read_clock(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.preamble = f"Date: {formatdate(second, usegmt=True)}\r\nx-amzn-RequestId: ".encode()


def http_front(application: Application, *, limits: Limits | None = None, routes: Iterable[Route] = ()) -> Front:
    """The protocol factory for ``loop.create_server``. ``routes`` are served besides the Invoke API and the probes."""
    return Front(application, limits or Limits(), routes)

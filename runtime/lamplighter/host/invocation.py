"""One invocation on its way through the host: what the HTTP front makes, and what every later stage fills in.

The HTTP front creates an :class:`Invocation`, hands it to :meth:`Application.invoke`, and gets exactly one call of
``reply`` back, now or later, from the same thread. Nothing in between may lose it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Header = tuple[bytes, bytes]


class Invocation:
    """A parsed Invoke call.

    ``function`` is the path segment, percent-decoded: a name, ``name:qualifier``, a partial ARN or a full ARN.
    ``client_context`` is the JSON text, already base64-decoded. ``body`` is the raw request body, never ``None``.
    ``reply(status, headers, body)`` sends the answer; ``headers`` come in addition to ``Content-Length``, ``Date`` and
    ``x-amzn-RequestId``, which the HTTP front writes itself.
    """

    __slots__ = (
        "body",
        "client_context",
        "dry_run",
        "function",
        "qualifier",
        "received",
        "reply",
        "request_id",
        "route",
        "started",
        "tail",
        "tenant_id",
        "trace_id",
    )

    def __init__(
        self,
        function: str,
        body: bytes,
        request_id: str,
        reply: Callable[[int, Sequence[Header], bytes], None],
        *,
        qualifier: str = "",
        dry_run: bool = False,
        tail: bool = False,
        client_context: str = "",
        tenant_id: str = "",
        trace_id: str = "",
        received: float = 0.0,
    ) -> None:
        self.function = function
        self.body = body
        self.request_id = request_id
        self.reply = reply
        self.qualifier = qualifier
        self.dry_run = dry_run
        self.tail = tail
        self.client_context = client_context
        self.tenant_id = tenant_id
        self.trace_id = trace_id
        self.received = received
        """``time.monotonic()`` when the request's last byte was parsed."""
        self.started = 0.0
        self.route: Any = None


class Application(Protocol):
    """What the HTTP front serves. ``host.admission.Admission`` is the real one; tests use small fakes."""

    def invoke(self, invocation: Invocation) -> None:
        """Answer through ``invocation.reply``, exactly once, now or later. Must not raise."""

    def health(self) -> tuple[bool, dict[str, object]]:
        """``GET /healthz``: is the process able to serve, and details for the JSON body."""

    def ready(self) -> tuple[bool, dict[str, object]]:
        """``GET /readyz``: every template frozen and its parked workers up, and details for the JSON body."""

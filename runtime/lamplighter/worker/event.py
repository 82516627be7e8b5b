"""One invocation as the worker sees it, whatever transport it came by.

A module of its own because it costs nothing to import: the channel brings ``socket`` and ``struct`` with it, and a
worker that is served by the Runtime API needs neither.
"""

from __future__ import annotations


class Event:
    """One invocation. Strings are empty where the platform sent none; ``deadline_ms`` is in epoch milliseconds, 0 for
    none."""

    __slots__ = (
        "body",
        "client_context",
        "cognito_identity",
        "content_type",
        "deadline_ms",
        "function_arn",
        "invocation_id",
        "learn",
        "more",
        "request_id",
        "sequence",
        "tenant_id",
        "trace_id",
    )

    def __init__(
        self,
        body: bytes,
        request_id: str,
        function_arn: str = "",
        deadline_ms: int = 0,
        trace_id: str = "",
        client_context: str = "",
        cognito_identity: str = "",
        tenant_id: str = "",
        sequence: int = 0,
        content_type: str = "application/json",
        invocation_id: str = "",
    ) -> None:
        self.body = body
        self.request_id = request_id
        self.function_arn = function_arn
        self.deadline_ms = deadline_ms
        self.trace_id = trace_id
        self.client_context = client_context
        self.cognito_identity = cognito_identity
        self.tenant_id = tenant_id
        self.sequence = sequence
        self.content_type = content_type
        self.invocation_id = invocation_id
        self.learn = False
        self.more = False

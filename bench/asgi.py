"""The bare ASGI application: a web server's floor for the same work on the same event, with no limits and no isolation.

It decodes with ``json.loads``, calls the very handler the host serves, and encodes with ``json.dumps``: the standard
library's codec, because that is what AWS's Python client and our worker use on the handler's side.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from bench.handlers.trivial import handler

Message = dict[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer any HTTP request with the handler's result for its JSON body; nothing else is served."""
    if scope["type"] != "http":
        raise ValueError(f"only http is served here, not {scope['type']}")
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    result = json.dumps(handler(json.loads(body), None)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(result))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": result})

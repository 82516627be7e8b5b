"""The bare WSGI application: the same work as :mod:`bench.asgi`, for servers with a thread a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from bench.handlers.trivial import handler


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Answer any request with the handler's result for its JSON body."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    result = json.dumps(handler(json.loads(body), None)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(result)))])
    return [result]

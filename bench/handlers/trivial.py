"""The least a function behind an HTTP API does: read two fields, answer with the request's id."""

from __future__ import annotations

from typing import Any


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in, ``{"statusCode": 200, "headers": {...}, "body": request id}`` out."""
    return {
        "statusCode": 200,
        "headers": {"content-type": "text/plain", "x-path": event["rawPath"]},
        "body": event["requestContext"]["requestId"],
    }

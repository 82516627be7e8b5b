"""A function that imports nothing: what is left of a start is the runtime's own."""

from __future__ import annotations


def handler(event: dict[str, dict[str, str]], _context: object) -> dict[str, str]:
    """API Gateway v2 event in, its request's id out."""
    return {"body": event["requestContext"]["requestId"]}

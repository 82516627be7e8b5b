"""A function that is in the middle of something when it is killed: it holds memory, an open file and a child's pipe."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in; works ``hold`` seconds (or 0.001) with a file in /tmp open; the request's id out."""
    request_id = event["requestContext"]["requestId"]
    reader, writer = os.pipe()
    try:
        with tempfile.TemporaryFile() as scratch:
            scratch.write(bytearray(65_536))
            os.write(writer, b"x")
            time.sleep(event.get("hold", 0.001))
            return {"statusCode": 200, "body": request_id, "bytes": scratch.tell()}
    finally:
        os.close(reader)
        os.close(writer)

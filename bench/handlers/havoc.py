"""A function that does to itself what its event says: the inside half of a run under havoc."""

from __future__ import annotations

import mmap
import os
import time
from typing import Any

MIB = 1_048_576


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in, with a ``deed``; the request's id out, where the deed leaves anybody to tell it."""
    request_id = event["requestContext"]["requestId"]
    deed = event.get("deed", "")
    if deed == "raise":
        raise RuntimeError(request_id)
    if deed == "exit":
        os._exit(3)
    if deed == "memory":
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        mmap.mmap(-1, 1024 * MIB, flags=flags)  # more than it may have, all of it touched
    if deed == "late":
        time.sleep(1000)
    if deed == "children":
        if os.fork() == 0:
            os.setsid()
            os.fork()
            time.sleep(1000)
            os._exit(0)
    elif deed == "disk":
        _fill()
    elif deed == "hold":
        with open(f"/tmp/{request_id}", "wb") as file:
            file.write(bytes(65_536))
            time.sleep(0.02)
    return {"statusCode": 200, "body": request_id}


def _fill() -> None:
    """Fill /tmp to the last block, and leave it so: the environment lives on with a full disk."""
    with open("/tmp/full", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4 * MIB))
        except OSError:
            return

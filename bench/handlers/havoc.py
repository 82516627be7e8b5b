"""A function that does to itself what its event says: the inside half of a run under havoc."""

from __future__ import annotations

import errno
import mmap
import os
import time
from typing import Any

MIB = 1_048_576

_fillers: list[str] = []
"""Ids of the requests that filled this environment's disk: only after one may a later event find it full."""


class DiskFull(Exception):
    """This environment's disk was filled by an earlier event to it; the text is the id of the request that met it."""


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
        _fillers.append(request_id)
        _fill()
    elif deed == "hold":
        _hold(request_id)
    return {"statusCode": 200, "body": request_id}


def _hold(request_id: str) -> None:
    """Write a little file and stay a while; raises :class:`DiskFull` where the disk is full by this environment's own
    doing, and :exc:`OSError` where it is full by anybody else's."""
    try:
        with open(f"/tmp/{request_id}", "wb") as file:
            file.write(bytes(65_536))
            time.sleep(0.02)
    except OSError as fault:
        if fault.errno == errno.ENOSPC and _fillers:
            raise DiskFull(request_id) from None
        raise


def _fill() -> None:
    """Fill /tmp to the last block, and leave it so: the environment lives on with a full disk."""
    block = 4 * MIB
    with open("/tmp/full", "wb", buffering=0) as file:
        while block >= 4096:
            try:
                file.write(bytes(block))
            except OSError:
                block //= 2  # ext4 refuses what might not fit with all the metadata it could need

"""A function that spends what it is given a limit of: time on a CPU, memory, or the time it has."""

from __future__ import annotations

import os
import threading
import time
from typing import Any


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway v2 event in; ``spend`` names what to spend; what came of it out, where there is an out."""
    kind = event.get("spend", "nothing")
    if kind == "cpu":
        return {"seconds": _spin(event["seconds"], event["threads"])}
    if kind == "memory":
        _fill()
    if kind == "time":
        _children()
        time.sleep(1000)
    return {"statusCode": 200, "body": event["requestContext"]["requestId"]}


def _spin(seconds: float, processes: int) -> float:
    """CPU seconds that a few processes at once got in a wall-clock span: not threads, which share Python's lock."""
    until = time.monotonic() + seconds
    before = os.times()
    children = []
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            while time.monotonic() < until:
                pass
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _fill() -> None:
    """Take memory, and say on the log at each step what the clock shows that all processes share."""
    kept = []
    while True:
        print(f"at {time.monotonic():.6f} with {len(kept)}", flush=True)
        kept.append(bytearray(b"x" * 262_144))


def _children() -> None:
    """Leave others behind: a thread, a child, and a grandchild in a session of its own."""
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    if os.fork() == 0:
        os.setsid()
        os.fork()
        time.sleep(1000)
        os._exit(0)

"""A function in a container image: greets, and can be asked to show how it is limited."""

from __future__ import annotations

import os
import time
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """``{"name": str}`` in, a greeting out. ``sleep_s`` and ``allocate_mb`` make it slow and large first."""
    time.sleep(event.get("sleep_s", 0))
    held = bytearray(event.get("allocate_mb", 0) << 20)
    return {
        "message": f"{os.environ['GREETING']}, {event.get('name', 'World')}!",
        "allocated_mb": len(held) >> 20,
        "function": context.function_name,
        "memory_mb": context.memory_limit_in_mb,
        "code": os.path.dirname(__file__),
        "uid": os.getuid(),
    }

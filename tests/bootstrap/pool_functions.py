"""The functions of the pool's tests: what a handler may do to its process, by name."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

INIT_PID = os.getpid()
INIT_RANDOM = random.random()
if "INIT_LOG" in os.environ:
    with open(os.environ["INIT_LOG"], "a") as _log:
        _log.write(f"{INIT_PID}\n")
counted: list[str] = []


def handler(event: dict[str, Any], context: Any) -> Any:
    counted.append(context.aws_request_id)
    result: dict[str, Any] = {"pid": os.getpid(), "init": INIT_PID, "count": len(counted), "parent": os.getppid()}
    match event.get("do", "echo"):
        case "echo":
            return {**result, "echo": event.get("echo")}
        case "exit":
            os._exit(event["status"])
        case "sys.exit":
            sys.exit(event["status"])
        case "crash":
            ctypes.string_at(0)
        case "signal":
            os.kill(os.getpid(), event["signal"])
            time.sleep(60)
        case "wait":
            time.sleep(event["seconds"])
            return result
        case "large":
            return {**result, "large": "x" * event["size"]}
        case "stream":
            return _pieces(event)
        case "fail":
            raise ValueError(event["message"])
        case "entropy":
            # all three before this worker's next invocation: uuid1 counts on
            return {**result, "random": random.random(), "uuid1": str(uuid.uuid1()), "seed": INIT_RANDOM}
        case "log":
            print(f"printed {event['text']}")
            print(f"to stderr {event['text']}", file=sys.stderr)
            logging.getLogger().warning("logged %s", event["text"])
            return result
        case "descriptors":
            names = {}
            for name in os.listdir("/proc/self/fd"):
                try:
                    names[name] = os.readlink(f"/proc/self/fd/{name}")
                except OSError:
                    continue
            return {**result, "descriptors": names}
    raise KeyError(event["do"])


def _pieces(event: dict[str, Any]) -> Iterator[bytes]:
    for number in range(event["pieces"]):
        if number == event.get("dies at"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield b"%d," % number


def on_sigterm(_signal: int, _frame: object) -> None:
    os.write(2, f"sigterm in {os.getpid()}\n".encode())
    os._exit(0)


if os.environ.get("ON_SIGTERM"):
    signal.signal(signal.SIGTERM, on_sigterm)
if os.environ.get("UNSAFE"):
    import threading

    threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
    kept = open(os.environ["UNSAFE"], "a")  # noqa: SIM115 - it is to stay open
if os.environ.get("HOOKS"):
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    def _say(what: str) -> None:
        os.write(1, f"{what} in {os.getpid()}\n".encode())
        if os.environ["HOOKS"] == what:
            raise RuntimeError(f"{what} failed")

    for _name in ("one", "two"):
        register_before_snapshot(_say, f"before {_name}")
        register_after_restore(_say, f"after {_name}")

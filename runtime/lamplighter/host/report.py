"""The log of one invocation: START, what the function wrote, END, REPORT, as Lambda writes them.

Lines of different environments never mix: an invocation's lines are kept together and written when it ends, or, while
it runs, when it has been running for a second or has written 64 KiB. ``X-Amz-Log-Result`` is the last 4 KiB of the
same lines. Output between invocations (of a thread or a child process) belongs to the next one, as on Lambda, where it
only appears then.
"""

from __future__ import annotations

import base64
import math
from typing import NamedTuple

import orjson

from lamplighter.host.logs import Sink

TAIL_BYTES = 4_096
"""Of the log, in ``X-Amz-Log-Result`` (AWS's Invoke reference: the last 4 KB)."""
BLOCK_BYTES = 65_536
"""Output that may wait for its invocation to end."""


class Facts(NamedTuple):
    """What a REPORT says. Times in milliseconds, memory in MB; the last fields only with ``--report full``."""

    duration_ms: float
    memory_mb: int
    used_mb: int
    init_ms: float = 0.0
    restore_ms: float = 0.0
    status: str = ""
    error_type: str = ""
    full: dict[str, object] | None = None


def report_line(request_id: str, facts: Facts) -> str:
    """The REPORT line, fields as Lambda orders them: ``Init Duration`` last, a TAB before the newline.

    Init is billed with the invocation it ran in; a restore is billed by itself, rounded up.
    """
    duration, init = facts.duration_ms, facts.init_ms
    line = (
        f"REPORT RequestId: {request_id}\tDuration: {duration:.2f} ms\tBilled Duration: {math.ceil(duration + init)} ms"
        f"\tMemory Size: {facts.memory_mb} MB\tMax Memory Used: {facts.used_mb} MB\t"
    )
    more = facts[3:]
    if not any(more):
        return line + "\n"
    parts = [line[:-1]]
    if facts.init_ms:
        parts.append(f"Init Duration: {facts.init_ms:.2f} ms")
    if facts.restore_ms:
        parts.append(f"Restore Duration: {facts.restore_ms:.2f} ms")
        parts.append(f"Billed Restore Duration: {math.ceil(facts.restore_ms)} ms")
    if facts.status:
        parts.append(f"Status: {facts.status}")
    if facts.error_type:
        parts.append(f"Error Type: {facts.error_type}")
    if facts.full:
        parts += [f"{name}: {value}" for name, value in facts.full.items()]
    return "\t".join(parts) + "\t\n"


def _start_line(request_id: str) -> str:
    return f"START RequestId: {request_id} Version: $LATEST\n"


class InvocationLog:
    """Collects the output of one environment, invocation by invocation."""

    __slots__ = (
        "_blocks",
        "_function",
        "_json",
        "_partial",
        "_request_id",
        "_sink",
        "_size",
        "_stream",
        "_tail",
        "_unsaid",
    )

    def __init__(self, sink: Sink, function: str, stream: str, form: str) -> None:
        self._sink = sink
        self._function = function
        self._stream = stream
        self._json = form == "json"
        self._request_id = ""
        self._blocks: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._partial = b""
        self._unsaid = False
        """Whether START is still to be written: an invocation without output has its three lines made in one go."""

    def start(self, request_id: str) -> None:
        self._request_id = request_id
        self._tail = b""
        self._unsaid = True

    def write(self, data: bytes) -> None:
        """What the function wrote: any piece of it, whole lines or not."""
        if self._partial:
            data = self._partial + data
        at = data.rfind(b"\n") + 1
        self._partial = data[at:]
        if len(self._partial) > BLOCK_BYTES:
            at, self._partial = len(data), b""
        if at:
            self._line(data[:at], "function")

    def end(self, facts: Facts) -> None:
        """The invocation has ended: complete its last line, and write END and REPORT."""
        if self._partial:
            # A line that the function left open ends here: the next invocation's must not continue it.
            partial, self._partial = self._partial, b""
            self._line(partial + b"\n", "function")
        request_id = self._request_id
        end = f"END RequestId: {request_id}\n{report_line(request_id, facts)}"
        if self._unsaid and not self._blocks and not self._json:
            self._unsaid = False
            text = (_start_line(request_id) + end).encode()
            self._tail = text[-TAIL_BYTES:]
            self._sink.write(text, reserved=True)
            return
        text = end.encode()
        if self._size > TAIL_BYTES:
            self.flush()  # much output may be dropped for a slow reader, and must not take these lines with it
        self._line(text, "platform.report")
        self.flush(reserved=True)

    def tail(self) -> bytes:
        """The invocation's last 4 KiB, base64."""
        self._say_start()
        return base64.b64encode(self._tail)

    @property
    def pending(self) -> bool:
        """Whether output waits that :meth:`flush` would write."""
        return self._unsaid or bool(self._blocks)

    def flush(self, *, reserved: bool = False) -> None:
        self._say_start()
        if self._blocks:
            data = b"".join(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
            self._blocks.clear()
            self._size = 0
            self._sink.write(data, reserved=reserved)

    def close(self) -> None:
        """The environment is gone: whatever it still had to say is written."""
        if self._partial:
            partial, self._partial = self._partial, b""
            self._line(partial + b"\n", "function")
        self.flush()

    def _say_start(self) -> None:
        if self._unsaid:
            self._unsaid = False
            self._line(_start_line(self._request_id).encode(), "platform.start")

    def _line(self, data: bytes, kind: str) -> None:
        self._say_start()
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        if self._json:
            data = self._records(data, kind)
        self._blocks.append(data)
        self._size += len(data)
        if self._size > BLOCK_BYTES:
            self.flush()

    def _records(self, data: bytes, kind: str) -> bytes:
        head = {"type": kind, "function": self._function, "logStream": self._stream, "requestId": self._request_id}
        return b"".join(
            orjson.dumps({**head, "record": line.decode(errors="replace")}, option=orjson.OPT_APPEND_NEWLINE)
            for line in data.removesuffix(b"\n").split(b"\n")  # not at "\r", which joins the lines of one record
        )

"""Where function output and the host's own lines go: this process's standard streams, without ever blocking on them.

A reader that stops reading (a paused terminal, a full pipe) must not stop invocations, and must not fill the host's
memory either: a thread does the writing, the queue to it is bounded, and what does not fit is dropped and counted.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

GATHER_S = 0.02
"""Seconds from the first block to its writing."""
QUEUE_BYTES = 4 * 1_048_576
"""Bytes that may wait for a slow reader."""
RESERVE_BYTES = 1_048_576
"""Room beyond that for the platform's own lines: what a function wrote may be lost, not that it ran."""


class Sink:
    """Writes blocks of bytes to a descriptor, in order, from a thread of its own.

    Waking a thread costs more than writing a line, so the thread gathers what comes within :data:`GATHER_S` of the
    first block that woke it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._blocks: list[bytes] = []
        self._waiting = 0
        self._dropped_bytes = 0
        self._dropped_blocks = 0
        self._gathering = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
        self._thread.start()

    def write(self, block: bytes, *, reserved: bool = False) -> None:
        """Queue a block; never blocks. ``reserved`` blocks still fit when function output has filled the queue."""
        with self._lock:
            if self._waiting + len(block) > QUEUE_BYTES + (RESERVE_BYTES if reserved else 0):
                self._dropped_bytes += len(block)
                self._dropped_blocks += 1
                return
            self._waiting += len(block)
            self._blocks.append(block)
            if self._gathering:
                return
            self._gathering = True
        self._wake.set()

    def close(self, wait_s: float = 1.0) -> None:
        """Write what is queued, for at most ``wait_s``; a reader that is stuck loses the rest."""
        self._closing.set()
        self._wake.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            closing = self._closing.wait(GATHER_S)
            with self._lock:
                self._wake.clear()
                self._gathering = False
                blocks, self._blocks = self._blocks, []
                if self._dropped_blocks:
                    blocks.append(
                        b"[lamplighter] %d bytes of log in %d records were dropped: the reader was too slow\n"
                        % (self._dropped_bytes, self._dropped_blocks)
                    )
                    self._dropped_bytes = self._dropped_blocks = 0
            data = b"".join(blocks)
            if not self._write(data):
                return
            with self._lock:
                # Only now: what is being written to a slow reader still takes up its room.
                self._waiting -= min(self._waiting, len(data))

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                time.sleep(0.01)  # somebody made the descriptor non-blocking; its reader is behind
            except OSError:
                return False  # nobody reads any more
        return True


class HostLog:
    """The host's own lines, on standard error: text, or one JSON object each."""

    def __init__(self, sink: Sink, form: str) -> None:
        self._sink = sink
        self._json = form == "json"

    def line(self, message: str, function: str = "", level: str = "INFO") -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        if self._json:
            record = {"time": stamp, "type": "host", "level": level, "message": message}
            if function:
                record["function"] = function
            text = json.dumps(record)
        else:
            text = f"{stamp} lamplighter{f'[{function}]' if function else ''}: {message}"
        self._sink.write(text.encode(errors="replace") + b"\n", reserved=True)


def standard_sinks() -> tuple[Sink, Sink]:
    """Sinks for function output (standard output) and for the host's own lines (standard error)."""
    return Sink(sys.stdout.fileno()), Sink(sys.stderr.fileno())

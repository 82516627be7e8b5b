"""Request ids and trace ids, made in batches of kernel randomness so that a warm invocation pays no system call."""

from __future__ import annotations

import os
import time

_BATCH = 64
"""Ids drawn at a time: one ``getrandom`` of 1 KiB costs a few microseconds, little enough not to show as a tail."""

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Identifiers:
    """Makes identifiers for one event loop. Not shared between threads, and not carried over a fork."""

    __slots__ = ("_at", "_hex", "_second", "_trace_at", "_trace_hex", "_trace_prefix")

    def __init__(self) -> None:
        self._hex = ""
        self._at = 0
        self._trace_hex = ""
        self._trace_at = 0
        self._second = -1
        self._trace_prefix = ""

    def request_id(self) -> str:
        """A fresh random UUID, version 4 (RFC 9562), in its 36-character lower-case form."""
        at = self._at
        if at == len(self._hex):
            self._hex = os.urandom(16 * _BATCH).hex()
            at = 0
        self._at = at + 32
        h = self._hex[at : at + 32]
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"

    def trace_root(self) -> str:
        """A fresh X-Ray trace header, ``Root=1-<epoch seconds, 8 hex digits>-<24 hex digits>``."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._trace_prefix = f"Root=1-{second:08x}-"
        at = self._trace_at
        if at == len(self._trace_hex):
            self._trace_hex = os.urandom(12 * _BATCH).hex()
            at = 0
        self._trace_at = at + 24
        return self._trace_prefix + self._trace_hex[at : at + 24]

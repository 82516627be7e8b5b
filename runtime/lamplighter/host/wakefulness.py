"""Staying awake for an answer that is due in a moment.

On a virtual machine, waking a sleeping processor costs 20 to 50 µs, often more than a short handler takes. While an
invocation that is known to be short is under way, the event loop polls instead of sleeping, for at most
:data:`AWAKE_S` after the last event was sent, and gives the processor to whoever else can use it at every turn.
"""

from __future__ import annotations

import asyncio
import os
import time

SHORT_S = 0.000_2
"""Functions whose invocations typically take less than this are worth staying awake for."""
AWAKE_S = 0.000_25
"""How long at most. It bounds what an unexpectedly long invocation costs: once this much of one processor."""


class Wakefulness:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until = 0.0
        self._awake = False

    def stay_awake(self, now: float) -> None:
        """``now`` is ``time.monotonic()``, as the caller has it anyway."""
        self._until = now + AWAKE_S
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if time.monotonic() < self._until:
            os.sched_yield()
            self._loop.call_soon(self._turn)
        else:
            self._awake = False

"""Staying awake for what is due in a moment, where there is a processor to stay awake on.

On a virtual machine, waking a sleeping processor costs 20 to 50 µs, often more than a short handler takes. While an
invocation that is known to be short is under way, the event loop polls instead of sleeping, for at most
:data:`AWAKE_S` after the last event was sent, and gives the processor to whoever else can use it at every turn. A
worker whose next event waits already may do the same.

Either takes a processor from somebody who works once there are no more of them than workers that run. Yielding is no
cure: the scheduler moves who waits to a processor that sleeps, and one that is polled on never does.
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
    def __init__(self, loop: asyncio.AbstractEventLoop, processors: int = 0) -> None:
        """``processors`` that this host may use; by default as many as the kernel lets it."""
        self._loop = loop
        self._processors = processors or len(os.sched_getaffinity(0))
        self._until = 0.0
        self._awake = False
        self.running = 0
        """Workers that have an invocation; kept by the environments."""

    @property
    def worker_may(self) -> bool:
        """Whether a worker may stay awake for its next event: one processor more is left for whoever sent it."""
        return self.running + 1 < self._processors

    def stay_awake(self, now: float) -> None:
        """An event has been sent. ``now`` is ``time.monotonic()``, as the caller has it anyway."""
        if self.running >= self._processors:
            return
        self._until = now + AWAKE_S
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if time.monotonic() < self._until and self.running < self._processors:
            os.sched_yield()
            self._loop.call_soon(self._turn)
        else:
            self._awake = False

"""One timer for the deadlines of all environments.

An environment has at most one live entry, whatever its invocations per second: when an entry comes due and the
environment has since begun a later invocation, the entry moves to that one's deadline. So a deadline that is later than
the one before, as an invocation's is, costs a comparison. An earlier one gets a new entry, and the old one goes stale.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Bounded(Protocol):
    """Something with a deadline: ``time.monotonic()`` seconds, 0 for none."""

    deadline: float
    due: float
    """When the live entry comes due; 0 without one. Kept by :class:`Deadlines`."""

    def expire(self) -> None:
        """The deadline has passed."""


class Deadlines:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Bounded]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def watch(self, bounded: Bounded) -> None:
        """Call after setting ``bounded.deadline``, unless it is later than ``bounded.due``."""
        if bounded.due == 0.0 or bounded.deadline < bounded.due:
            self._push(bounded)
            self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()

    def _push(self, bounded: Bounded) -> None:
        bounded.due = bounded.deadline
        heapq.heappush(self._heap, (bounded.deadline, next(self._order), bounded))

    def _arm(self) -> None:
        due = self._heap[0][0]
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        # The event loop's clock counts whole milliseconds: round up, or the timer fires early and must be set again.
        self._timer = self._loop.call_later(max(0.0, due - time.monotonic()) + 0.001, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, bounded = heapq.heappop(self._heap)
            if due != bounded.due:
                continue
            bounded.due = 0.0
            if bounded.deadline > now:
                self._push(bounded)
            elif bounded.deadline:
                try:
                    bounded.expire()
                except Exception as fault:  # one that fails must not take the others' deadlines with it
                    self._loop.call_exception_handler({"message": "a deadline's owner failed", "exception": fault})
        if self._heap:
            self._arm()

"""Networks of one nest's environments, made ahead of need: making one takes up to a few milliseconds.

Each is used once; the kernel takes it away, in its own time, when the last process in it is gone.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import Executor

from lamplighter.sandbox.nest import Nest

_REFILL_DELAY_S = 0.03
READY = 2
"""Networks kept ready for the next launches."""


class Networks:
    """Used on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, executor: Executor, nest: Nest) -> None:
        self._loop, self._executor, self._nest = loop, executor, nest
        self._ready: deque[int] = deque()
        self._making = False
        self._closed = False
        self.tend()

    def take(self) -> int:
        """A descriptor, the caller's to close. Raises ``OSError`` where there is none and none can be made."""
        found = self._ready.popleft() if self._ready else self._nest.network()
        self._loop.call_later(_REFILL_DELAY_S, self.tend)  # after the launch, not beside it
        return found

    def tend(self) -> None:
        if not self._making and not self._closed and len(self._ready) < READY:
            self._making = True
            self._loop.run_in_executor(self._executor, self._nest.network).add_done_callback(self._made)

    def _made(self, future: asyncio.Future[int]) -> None:
        self._making = False
        if future.cancelled() or future.exception() is not None:
            return  # a launch that needs one tries again, and is told
        if self._closed:
            os.close(future.result())
        else:
            self._ready.append(future.result())
            self.tend()

    def close(self) -> None:
        self._closed = True
        while self._ready:
            os.close(self._ready.popleft())

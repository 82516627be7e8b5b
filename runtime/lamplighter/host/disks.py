"""The disks of all functions' /tmp: made ahead of need, handed out once, thrown away.

Guarantees:

1. Whoever asks gets a fresh disk, or the reason why there is none; at once if one is ready, and in order otherwise.
2. No more than :data:`READY` for each function lie ready, so what is held is bounded by what runs.
3. Making and throwing away happen in threads of their own: neither holds up the event loop, nor a nest's building.
4. After :meth:`Disks.close` there is no mount, image or loop device left of them. The kernel lets go of all but the
   device nodes when a host is killed; those are noted in a file, for the next start to remove.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lamplighter.sandbox import disk, root
from lamplighter.sandbox.disk import Disk, Image

READY = 2
"""Disks kept ready for the next launches of one function."""
_CLOSERS = 16
_REFILL_DELAY_S = 0.03
RECORD = "loop-devices"
"""The file, in a host's directory, with the numbers of the loop devices that may have been made for it."""

Taker = Callable[[Disk | OSError], None]


class _Size:
    """What there is of one size."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.ready: deque[Disk] = deque()
        self.waiting: deque[Taker] = deque()
        self.wanted = 0
        self.making = 0
        self.tending = False


class Disks:
    """Used from the event loop's thread, but for :meth:`make`. ``sizes`` are bytes, one for each function.

    Where :attr:`obstacle` is not empty there are no disks, and it says why.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, store: str, sizes: Iterable[int], directory: Path, *, wanted: bool
    ) -> None:
        self._loop = loop
        self._store = store
        self._record = directory / RECORD
        self._standing = disk.standing_devices()
        self._devices: set[int] = set()
        self._sizes: dict[int, _Size] = {}
        self._undelivered: set[Disk] = set()
        """Made, and on the way to the event loop."""
        self._closed = False
        self._executor: ThreadPoolExecutor | None = None
        self._closer: ThreadPoolExecutor | None = None
        self.obstacle = self._prepare(sizes) if wanted else "none are wanted"

    def _prepare(self, sizes: Iterable[int]) -> str:
        """Make the image of each size and one disk of it, so that what can be had is known, not guessed."""
        try:
            for size in sizes:
                if size not in self._sizes:
                    made = _Size(disk.build(size, root.inodes(size), self._store))
                    self._sizes[size] = made
                    made.ready.append(self.make(size))
                self._sizes[size].wanted += READY
        except OSError as fault:
            self.close()
            return fault.strerror or str(fault)
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="disks")
        # Throwing one away is waiting for the kernel, several times over; many go together when a pool ends.
        self._closer = ThreadPoolExecutor(max_workers=_CLOSERS, thread_name_prefix="old-disks")
        return ""

    def make(self, size: int) -> Disk:
        """A fresh disk, in about 1.5 ms, in any thread. Raises ``OSError``."""
        made = disk.make(self._sizes[size].image, self._store)
        if made.device >= self._standing and made.device not in self._devices:
            self._devices.add(made.device)
            with open(self._record, "a", encoding="ascii") as file:
                file.write(f"{made.device}\n")
        return made

    def take(self, size: int, then: Taker) -> None:
        """Call ``then`` with a fresh disk, or with the reason for having none: now if one is ready, else soon."""
        kept = self._sizes[size]
        if kept.ready:
            then(kept.ready.popleft())
            # After the launch, not beside it: it would take the launch's time on a small machine.
            if not kept.tending:
                kept.tending = True
                self._loop.call_later(_REFILL_DELAY_S, self._refill, size)
        else:
            kept.waiting.append(then)
            self._tend(size)

    def _refill(self, size: int) -> None:
        self._sizes[size].tending = False
        self._tend(size)

    def give_back(self, used: Disk) -> None:
        """Throw away a disk whose environment is gone."""
        assert self._closer is not None
        self._closer.submit(used.close)

    def _tend(self, size: int) -> None:
        kept = self._sizes[size]
        while not self._closed and kept.making < len(kept.waiting) + (len(kept.ready) < kept.wanted):
            assert self._executor is not None
            kept.making += 1
            future = self._loop.run_in_executor(self._executor, self._make_ahead, size)
            future.add_done_callback(partial(self._made, size))

    def _make_ahead(self, size: int) -> Disk:
        """In a thread of the executor."""
        made = self.make(size)
        self._undelivered.add(made)
        return made

    def _made(self, size: int, future: asyncio.Future[Disk]) -> None:
        kept = self._sizes[size]
        kept.making -= 1
        try:
            made: Disk | OSError = future.result()
            self._undelivered.discard(future.result())
        except asyncio.CancelledError:
            return
        except OSError as fault:
            made = fault
        if kept.waiting:
            kept.waiting.popleft()(made)
        elif isinstance(made, OSError):
            return  # whoever needs one next tries again, and is told
        elif self._closed:
            made.close()
        else:
            kept.ready.append(made)
        self._tend(size)

    def close(self) -> None:
        """Everything goes, but for what environments still hold."""
        self._closed = True
        for kept in self._sizes.values():
            while kept.ready:
                kept.ready.popleft().close()
        for executor in (self._executor, self._closer):
            if executor is not None:
                executor.shutdown(wait=True)
        for made in self._undelivered:
            made.close()
        disk.remove_devices(self._devices)


def noted(directory: Path) -> set[int]:
    """The loop devices that a host noted in its ``directory``."""
    with contextlib.suppress(OSError, ValueError):
        return {int(line) for line in (directory / RECORD).read_text(encoding="ascii").splitlines()}
    return set()

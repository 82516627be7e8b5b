"""Leaves made ahead of launches, used once, and removed once they are empty: no launch waits for any of this."""

from __future__ import annotations

import time
from collections import deque

from lamplighter.sandbox.cgroups import Leaf, Limits
from lamplighter.sandbox.hierarchy import Hierarchy


class LeafPool:
    """Leaves of one function, kept ready so that a launch makes none, and removed once their processes are gone.

    Never shared between functions: a template may hold an entrance of its own function's leaves.
    """

    def __init__(self, hierarchy: Hierarchy, group: str, limits: Limits, owner: int) -> None:
        self._hierarchy, self._group, self._limits, self._owner = hierarchy, group, limits, owner
        self._ready: deque[Leaf] = deque()
        self._leaving: deque[Leaf] = deque()
        self._made = 0
        hierarchy.group(group, owner)

    def take(self) -> Leaf:
        """A configured leaf with its CPU limit lifted: the launch itself is not the function's to pay for."""
        return self._ready.popleft() if self._ready else self._make()

    def give_back(self, leaf: Leaf) -> None:
        """Hand in a leaf whose processes have been killed; it is removed once they are gone."""
        self._leaving.append(leaf)

    def tend(self, ready: int) -> bool:
        """Between launches: remove left leaves, and keep ``ready`` fresh ones. True while some are still leaving."""
        for _ in range(len(self._leaving)):
            leaf = self._leaving.popleft()
            if not leaf.remove():
                leaf.kill()
                self._leaving.append(leaf)
        if len(self._ready) < ready:
            self._ready.append(self._make())
        return bool(self._leaving) or len(self._ready) < ready

    def close(self, wait_s: float = 2.0) -> bool:
        """Remove every leaf; false if some still has processes after ``wait_s``."""
        self._leaving.extend(self._ready)
        self._ready.clear()
        until = time.monotonic() + wait_s
        while self._leaving:
            leaf = self._leaving[0]
            if leaf.remove():
                self._leaving.popleft()
            elif time.monotonic() > until:
                return False
            else:
                time.sleep(0.002)
        return True

    def _make(self) -> Leaf:
        self._made += 1
        leaf = self._hierarchy.leaf(self._group, f"environment-{self._made}", self._owner)
        leaf.configure(self._limits._replace(cpu=0.0))
        leaf.open_entrance()
        leaf.open_watch()
        return leaf

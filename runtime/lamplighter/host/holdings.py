"""What one generation has of the machine: a slot of uids, a nest, cgroups, networks.

Taken when it is built, kept ready between its launches, and given back when its last environment is gone.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lamplighter.function.config import FunctionConfig
from lamplighter.host.networks import Networks
from lamplighter.host.spawning import make_nest
from lamplighter.sandbox import files
from lamplighter.sandbox.cgroups import MIB, Leaf, Limits
from lamplighter.sandbox.leaf_pool import LeafPool
from lamplighter.sandbox.nest import Nest

if TYPE_CHECKING:
    from lamplighter.host.server import Host

READY_LEAVES = 2
"""Leaves kept ready for the next launches."""
_TEND_DELAY_S = 0.02


class Holdings:
    """:meth:`take`, :meth:`end_nest` and :meth:`give_back` block for some milliseconds and run in the host's executor;
    all else is the event loop's."""

    def __init__(self, host: Host, config: FunctionConfig, group: str) -> None:
        self._host, self._config, self._group = host, config, group
        self.slot = -1
        self.nest: Nest | None = None
        self.leaf = Leaf()
        """The template's own."""
        self._leaves: LeafPool | None = None
        self._networks: Networks | None = None
        self._ready = READY_LEAVES
        self._tending: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def owner(self) -> int:
        """The host uid of the generation's processes; -1 where it is not checked."""
        return self._host.survey.user_of(self.slot)

    @property
    def user(self) -> int:
        """Who its processes are to the host, where that is not the host itself and there is no nest; 0 otherwise."""
        return 0 if self._host.isolated else max(0, self.owner)

    def take(self) -> Nest:
        """Take what the template needs. Raises ``OSError``; what was taken before stays to be given back."""
        self.slot = self._host.workspace.claim_slot()
        self._host.hierarchy.group(self._group)
        leaf = self._host.hierarchy.leaf(self._group, "template", self.owner)
        self.leaf = leaf
        leaf.configure(Limits(memory=self._config.memory_mb * MIB))
        self.nest = make_nest(self._host, self._config, self.slot)
        return self.nest

    def prepare(self, memory: int, *, forks: bool) -> None:
        """Keep ready what launches take; ``memory`` in bytes is for one environment."""
        self._leaves = LeafPool(self._host.hierarchy, self._group, Limits(memory=memory), self.owner)
        self._leaves.tend(self._ready)
        if self.nest is not None and self.nest.own_network and forks:
            self._networks = Networks(self._host.loop, self._host.executor, self.nest)
        self.tend_later()

    def take_leaf(self) -> Leaf:
        assert self._leaves is not None
        return self._leaves.take()

    def give_back_leaf(self, leaf: Leaf) -> None:
        """A leaf whose processes have been killed, or that had none."""
        if self._leaves is not None:
            self._leaves.give_back(leaf)

    def take_network(self) -> int:
        """A descriptor, the caller's to close; -1 where environments have no network of their own.

        Raises ``OSError``.
        """
        return self._networks.take() if self._networks is not None else -1

    def tend_later(self) -> None:
        """Remove and make leaves, a moment after a launch or an end and not beside it."""
        if self._tending is None and not self._closed:
            self._tending = self._host.loop.call_later(_TEND_DELAY_S, self._tend)

    def _tend(self) -> None:
        self._tending = None
        if self._leaves is not None and self._leaves.tend(self._ready):
            self.tend_later()

    def expect_no_launch(self) -> None:
        """From here on leaves are only removed."""
        self._ready = 0

    def close(self) -> None:
        """Nothing is used any more; :meth:`give_back` comes next."""
        self._closed = True
        if self._networks is not None:
            self._networks.close()
        if self._tending is not None:
            self._tending.cancel()

    def give_back(self) -> bool:
        """End the nest, remove the cgroups; false if some are still in use. Only the slot is left."""
        if self.nest is not None:
            self.end_nest(self.nest)
        gone = self._leaves.close() if self._leaves is not None else True
        until = time.monotonic() + 2.0
        while not (removed := self.leaf.remove()) and time.monotonic() < until:
            time.sleep(0.002)
        self._host.hierarchy.remove_group(self._group)
        if self.user:
            files.remove_owned_in_tmp(self.user)
        return gone and removed

    def release_slot(self) -> None:
        if self.slot >= 0:
            self._host.workspace.release_slot(self.slot)

    def end_nest(self, nest: Nest) -> None:
        """End the generation's nest, or one of an environment that has its own."""
        try:
            nest.end(self._host.children)
        except OSError as fault:
            self._host.log.line(str(fault), self._config.name, "ERROR")

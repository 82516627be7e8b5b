"""Limits that no kernel holds here, watched: memory, processes and /tmp of each environment, looked at time and again.

A watchdog is no limit. It sees that one was passed after it was, and then ends the environment, where the kernel would
have refused the one step too many. What it promises: an environment that stays beyond its memory, its processes or its
/tmp is ended within a few looks, its caller told why, and looking takes about a tenth of the host's time at most,
however many environments there are. What it cannot see is what comes and goes between two looks. The hard stops beside
it (``RLIMIT_DATA``, ``RLIMIT_FSIZE``) are there for what outruns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from lamplighter.host.generation import Stage
from lamplighter.sandbox import files, processes
from lamplighter.sandbox.cgroups import MIB, PROCESSES
from lamplighter.sandbox.native import seen_as

if TYPE_CHECKING:
    from lamplighter.host.environment import Environment
    from lamplighter.host.pool import Pool
    from lamplighter.host.server import Host

LOOK_S = 0.01
"""Time between two looks at an environment that runs. At the gigabyte a second that a process can fill at most, it is
beyond its memory by about ten megabytes before it is seen."""
SHARE = 0.1
"""Of the host's time, at most, that looking may take: with many environments the looks are further apart."""
LONGEST_S = 0.5
"""But never further apart than this."""
SELDOM = 10
"""Only each tenth look is at environments that run nothing, and at /tmp: counting files is slow."""


class Watchdog:
    """Looks at everything the pools have; made and used on the host's loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._limits = host.survey.watched()
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None
        if self._limits & {"memory", "processes", "tmp"}:
            self._timer = host.loop.call_later(LOOK_S, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        began = time.perf_counter()
        self._looks += 1
        thorough = self._looks % SELDOM == 0
        for pool in self._host.pools.values():
            with contextlib.suppress(OSError):  # a process that goes while it is looked at
                self._look_at_template(pool)
            for environment in list(pool.environments):
                if thorough or environment.running:
                    with contextlib.suppress(OSError):
                        self._look_at(environment, thorough=thorough)
        took = time.perf_counter() - began
        self._timer = self._host.loop.call_later(min(max(LOOK_S, took / SHARE), LONGEST_S), self._look)

    def _look_at_template(self, pool: Pool) -> None:
        """Init has the function's memory, no more."""
        generation = pool.building
        if "memory" not in self._limits or generation is None or generation.stage is not Stage.BUILDING:
            return
        pid = generation.template_pid
        if pid and memory_of(pid, processes.descendants([pid])) > pool.config.memory_mb * MIB:
            generation.overstepped()

    def _look_at(self, environment: Environment, *, thorough: bool) -> None:
        roots = environment.pids
        if not roots:
            return
        worker, config, user = roots[0], environment.pool.config, environment.generation.user
        below = [pid for pid in processes.descendants(roots) if pid != worker]
        # Processes first: counting them is cheap, and reading the memory of a fork bomb's is not.
        if "processes" in self._limits and (thorough or len(below) >= PROCESSES // 2):
            tasks = sum(processes.threads(pid) for pid in (worker, *below))
            if tasks > PROCESSES:
                environment.overstepped(f"it has {tasks:,} processes and threads; allowed: {PROCESSES:,}")
                return
        if "memory" in self._limits:
            used = memory_of(worker, below, above=config.memory_mb * MIB, user=user)
            environment.watched_peak = max(environment.watched_peak, used)
            if used > config.memory_mb * MIB:
                environment.overstepped("", out_of_memory=True)
                return
        if "tmp" in self._limits and thorough:
            held = files.below(environment.tmp) + (files.owned_in_tmp(user) if user else 0)
            with seen_as(user):
                held += files.held_open([worker, *below], environment.tmp, named=not user)
            environment.tmp_used = held
            if held > config.ephemeral_storage_mb * MIB:
                environment.overstepped(
                    f"its files in /tmp take {held / MIB:,.0f} MB; allowed: {config.ephemeral_storage_mb:,} MB"
                )


def memory_of(worker: int, below: list[int], above: int = 0, user: int = 0) -> int:
    """Bytes of memory of a worker and of what it started.

    The worker's resident set has its template's shared pages in it, which count for the function. What it started
    shares pages with it, which must count once: its proportional sets (slow to read) are taken where the resident ones
    add up to more than ``above``.
    """
    own = processes.resident(worker)
    others = sum(processes.resident(pid) for pid in below)
    if below and own + others > above:
        with seen_as(user):
            others = sum(processes.proportional(pid) for pid in below)
    return own + others

"""A host from start to stop: what it owns, its signals, and the order in which things come and go.

Signals: SIGTERM and SIGINT stop intake, let running invocations finish, then end everything; a second one ends at once.
SIGHUP builds new templates from changed code and drains the old. The exit status is 0 after a clean stop, 1 if the host
could not start or not clean up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop

from lamplighter.function.config import HostConfig
from lamplighter.host.admission import Admission
from lamplighter.host.deadlines import Deadlines
from lamplighter.host.disks import Disks
from lamplighter.host.ground import Ground
from lamplighter.host.http import http_front
from lamplighter.host.listener import Listener
from lamplighter.host.logs import HostLog, standard_sinks
from lamplighter.host.pool import Pool
from lamplighter.host.wakefulness import Wakefulness
from lamplighter.host.watchdog import Watchdog
from lamplighter.sandbox import strays
from lamplighter.sandbox.cgroups import MIB
from lamplighter.sandbox.survey import tmp_in_memory

_LOOPBACK = ("127.", "::1", "localhost")
_STRAYS_S = 5.0
_END_S = 10.0
"""Time for everything to be gone once it has been killed; the kernel needs milliseconds."""


class Host:
    """Everything that the pools share. Made and used on one event loop."""

    def __init__(self, config: HostConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.full_report = config.report == "full"
        self.output, self._errors = standard_sinks()
        self.log = HostLog(self._errors, config.log_format)
        self.ground = Ground(config.tmp_store)
        for line in self.ground.said:
            self.log.line(line)
        self.workspace, self.hierarchy = self.ground.workspace, self.ground.hierarchy
        self.keeper_program = self.ground.keeper_program
        self.survey = self.ground.survey
        self.isolated = self.survey.nests != "none"
        self.disks = self._prepare_disks(config)
        self.enforcement = self.survey.held
        self.births = self.hierarchy.version == 2 and self.survey.nests != "user"
        """Whether templates are given leaves to give birth into. A directory that is not root's to detach would lead
        code in a nest up to the host's own file system."""
        refusal = self._refusal()
        if refusal:
            self.disks.close()
            self.ground.close()
            raise OSError(refusal)
        self.children: set[int] = set()
        """Pids of children that somebody here reaps: templates and workers."""
        self._stray = 0
        self._living: set[int] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self.deadlines = Deadlines(loop)
        self.wakefulness = Wakefulness(loop)
        # One thread: building a nest joins namespaces for a moment, and two must not do so in each other's way.
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nests")
        self.pools = {function.name: Pool(self, function) for function in config.functions}
        self.admission = Admission(self, self.pools)
        self.listener = Listener(http_front(self.admission))
        self.watchdog = Watchdog(self)
        self._changed = asyncio.Event()

    def _prepare_disks(self, config: HostConfig) -> Disks:
        sizes = [function.ephemeral_storage_mb * MIB for function in config.functions]
        disks = Disks(self.loop, config.tmp_store, sizes, self.workspace.path, wanted=self.survey.held["tmp"] == "loop")
        if self.survey.held["tmp"] == "loop" and disks.obstacle:
            # A small one could be had, and those that the functions are to have cannot.
            self.survey.replace(tmp_in_memory(disks.obstacle, "another --tmp-store"))
        return disks

    def _refusal(self) -> str:
        """Why this host does not start here, though it could; empty if it does."""
        if self.ground.no_cgroups:
            return self.ground.no_cgroups
        if not self.isolated and os.geteuid() == 0 and not self.config.allow_unisolated:
            whom = "users of their own" if self.survey.held["uid"] != "none" else "root, as the host is"
            return (
                f"functions cannot be isolated here, and root does not run them unisolated. {self.ground.no_nests}. "
                "Run as an unprivileged user, or say --allow-unisolated: functions then see the host's files and "
                f"processes, as {whom}"
            )
        alone = [function.name for function in self.config.functions if function.network == "none"]
        if alone and self.enforcement["network"] != "namespace":
            return f"{', '.join(alone)}: network is 'none', and no network namespace can be made here"
        lacking = self.survey.lacking(self.config.require)
        return "; ".join(
            f"{row.limit} is required and "
            + ("not held here" if row.held_by == "none" else f"only watched here ({row.held_by})")
            + (f": {row.why_not_better}" if row.why_not_better else "")
            + (f". What would help: {row.remedy}" if row.remedy else "")
            for row in lacking
        )

    def _reap_strays(self) -> None:
        """Reap dead children nobody knows. One must be seen twice: a child may be dead before it has been told of."""
        stray = strays.zombie(self.children)
        if stray and stray == self._stray:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(stray, os.WNOHANG)
            stray = strays.zombie(self.children)
        self._stray = stray
        living = set() if self.isolated else self._end_living_strays()
        self._sweep = self.loop.call_later(0.05 if stray or living else _STRAYS_S, self._reap_strays)

    def _end_living_strays(self) -> set[int]:
        """Without pid namespaces the host inherits what a dead worker had started. One must be seen twice, too, while
        nothing is being launched: a worker is born before it has been told of."""
        if any(pool.launching for pool in self.pools.values()):
            self._living = set()
            return set()
        living = strays.living(self.children)
        if found := living & self._living:
            strays.end(found)
        self._living = living
        return living

    def expect_strays(self) -> None:
        """A worker without a pid namespace is gone: look soon for what it has left."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = self.loop.call_later(0.05, self._reap_strays)

    def progress(self) -> None:
        """Something ended: whoever waits for the end should look again."""
        self._changed.set()

    async def start(self) -> None:
        """Bind, then build the templates: a port that is taken is known before anything else is done."""
        await self.listener.start(self.config.listen_host, self.config.listen_port)
        host = f"[{self.listener.host}]" if ":" in self.listener.host else self.listener.host
        self.log.line(f"listening on http://{host}:{self.listener.port}")
        if not self.listener.host.startswith(_LOOPBACK):
            self.log.line("whoever reaches this address may invoke: there is no authentication yet", level="WARN")
        held = ", ".join(f"{limit}: {how}" for limit, how in self.enforcement.items())
        self.log.line(f"enforcement: {held}", level="WARN" if "none" in self.enforcement.values() else "INFO")
        for row in self.survey.rows:
            if row.held_by == "tmpfs":
                self.log.line(f"{row.limit} by {row.held_by}: {row.why_not_better}", level="WARN")
        self._reap_strays()
        for pool in self.pools.values():
            pool.open()

    def reload(self) -> None:
        self.log.line("building new templates")
        for pool in self.pools.values():
            pool.reload()

    async def stop(self, hurry: asyncio.Event) -> bool:
        """Drain, end, clean up; true if nothing is left. ``hurry`` cuts the draining short."""
        self.admission.closed = True
        self.listener.stop_accepting()
        longest = max(pool.config.timeout_s for pool in self.pools.values())
        self.log.line("stopping: finishing what runs")
        draining = self.loop.create_task(self.listener.drain(longest + _END_S))
        hurried = self.loop.create_task(hurry.wait())
        await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            draining.cancel()
            await self.listener.drain(0.0)
        hurried.cancel()
        latest = self.loop.time() + longest + _END_S
        while not hurry.is_set() and any(p.serving for p in self.pools.values()) and self.loop.time() < latest:
            await asyncio.sleep(0.01)  # invocations whose clients have gone
        for pool in self.pools.values():
            pool.close()
        until = self.loop.time() + _END_S
        while not all(pool.empty for pool in self.pools.values()) and self.loop.time() < until:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 0.1)
        return self._close()

    def _close(self) -> bool:
        self.ground.let_go()
        if not self.isolated and (living := strays.living(self.children)):
            strays.end(living)
            strays.reap(self.children)
        # Only a nest that does not end keeps the executor busy, and the lifeline has just ended it.
        self.executor.shutdown(wait=all(pool.empty for pool in self.pools.values()), cancel_futures=True)
        if self._sweep is not None:
            self._sweep.cancel()
        self.deadlines.close()
        self.watchdog.close()
        self.disks.close()
        clean = self.ground.close() and all(pool.empty for pool in self.pools.values())
        if not clean:
            self.log.line("not everything could be removed; the next start will try again", level="ERROR")
        self.log.line("stopped")
        self.output.close()
        self._errors.close()
        return clean


async def _serve(config: HostConfig) -> int:
    loop = asyncio.get_running_loop()
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def on_stop() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    try:
        host = Host(config, loop)
    except OSError as fault:
        print(f"lamplighter: cannot start: {fault}", file=sys.stderr)
        return 1
    loop.add_signal_handler(signal.SIGHUP, host.reload)
    try:
        await host.start()
    except OSError as fault:
        host.log.line(f"cannot listen on {config.listen_host}:{config.listen_port}: {fault.strerror}", level="ERROR")
        await host.stop(hurry)
        return 1
    await stopping.wait()
    return 0 if await host.stop(hurry) else 1


def run(config: HostConfig) -> int:
    """Serve until told to stop; returns the process's exit status."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_serve(config))

"""The execution environments of one function: who serves the next invocation, and how many there are.

An invocation goes to the idle environment used last, else to a parked one, else to one that is launched for it; it
waits while that happens, or, where the function has a queue, for a busy one. At most ``concurrency + queue``
invocations are in the pool at a time; one more is throttled. The refill of parked environments comes after the demand,
one at a time, so that it never disturbs a launch.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import deque
from typing import TYPE_CHECKING

from lamplighter.function.config import FunctionConfig
from lamplighter.host import faults, invoke_api, report
from lamplighter.host.environment import Environment
from lamplighter.host.faults import Fault
from lamplighter.host.generation import Generation, Stage
from lamplighter.host.invocation import Invocation
from lamplighter.sandbox.cgroups import MB_PER_VCPU
from lamplighter.sandbox.native import Exit

if TYPE_CHECKING:
    from lamplighter.host.server import Host

INIT_LIMIT_S = 10.0
"""Lambda's limit for the init phase on demand; an init that fails or exceeds it is run again within an invocation,
under the function's own timeout (AWS's page on the execution environment's lifecycle)."""
RESTORE_LIMIT_S = 10.0
"""Lambda's limit for after-restore hooks."""
REFILL_DELAY_S = 0.05
LAUNCH_TRIES = 3
"""Launches in a row that may fail before an invocation that waits for one is answered with the fault."""
LONGEST_BACKOFF_S = 5.0


class Pool:
    """One function's environments and generations. Everything runs on the host's event loop."""

    restore_limit_s = RESTORE_LIMIT_S

    def __init__(self, host: Host, config: FunctionConfig) -> None:
        self.host = host
        self.config = config
        self.vcpus = config.memory_mb / MB_PER_VCPU
        self.environments: set[Environment] = set()
        self._generations: set[Generation] = set()
        self._current: Generation | None = None
        self._building: Generation | None = None
        self._numbers = 0
        self._idle: list[Environment] = []
        self._parked: deque[Environment] = deque()
        self.waiting: deque[Invocation] = deque()
        """Those that no environment has yet, oldest first. The pool's to change."""
        self._starting: set[Environment] = set()
        self._busy: set[Environment] = set()
        self._learning: set[Environment] = set()
        """Environments that have answered, and serve again once they have told what they learned."""
        self._spawning = 0
        """Environments on their way that are no objects yet: exec takes its time in the executor."""
        self._failures = 0
        self._deaths = 0
        """Templates that died one after the other without a worker ever becoming ready."""
        self.retrying_init = False
        """Whether an exec'd environment's init has run into its limit, and is being tried again."""
        self._refill: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._rebuild: asyncio.TimerHandle | None = None
        self._closing = False
        self._reload_again = False
        self.typical_s = 1.0
        """How long an invocation takes, seconds: a moving average over the last eight or so."""

    # --- life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Build the first generation, and keep the pool tidy."""
        self._build(INIT_LIMIT_S)
        self._sweep_later()

    def reload(self) -> None:
        """Build a generation from the code as it is now; the old one drains once the new one is ready."""
        if self._building is not None:
            self._reload_again = True
        elif not self._closing:
            self._build(INIT_LIMIT_S, reload=True)

    def close(self) -> None:
        """End every environment and generation; :attr:`empty` tells when they are gone."""
        self._closing = True
        for timer in (self._refill, self._sweep, self._rebuild):
            if timer is not None:
                timer.cancel()
        while self.waiting:
            self.waiting.popleft().reply(*invoke_api.shutting_down())
        for generation in list(self._generations):
            generation.retire()
        for environment in list(self.environments):
            environment.end()

    @property
    def empty(self) -> bool:
        return not self._generations and not self.environments

    @property
    def building(self) -> Generation | None:
        """The generation that is being built."""
        return self._building

    @property
    def launching(self) -> bool:
        """Whether there may be processes that the host has not been told of yet."""
        return any(generation.launching for generation in self._generations)

    @property
    def serving(self) -> bool:
        """Whether invocations are under way or waiting."""
        return bool(self._busy or self.waiting)

    @property
    def is_ready(self) -> bool:
        """The template is frozen (or the function runs by exec) and as many environments as wanted are parked."""
        room = self.config.concurrency - (len(self.environments) - len(self._parked))
        return self._current is not None and len(self._parked) >= min(self.config.parked, room)

    def facts(self) -> dict[str, object]:
        """For ``GET /readyz``."""
        current = self._current
        stage = current.stage.value if current else "building" if self._building else "failed"
        facts: dict[str, object] = {
            "template": stage,
            "init_ms": round(current.init_ms, 3) if current else None,
            "parked": len(self._parked),
            "idle": len(self._idle) + len(self._learning),
            "busy": len(self._busy),
            "starting": len(self._starting) + self._spawning,
            "waiting": len(self.waiting),
        }
        if current and current.obstacles:
            facts["obstacles"] = current.obstacles
        return facts

    # --- invocations ------------------------------------------------------------------------------------------------

    def acquire(self, invocation: Invocation) -> None:
        """Serve an invocation, now or soon; or throttle it."""
        while self._idle:
            if self._invoke(self._idle.pop(), invocation):
                return
        while self._parked:
            if self._invoke(self._parked.popleft(), invocation):
                self._refill_later()
                return
        if self._closing:
            invocation.reply(*invoke_api.shutting_down())
        elif len(self._busy) + len(self.waiting) >= self.config.concurrency + self.config.queue:
            invocation.reply(*invoke_api.throttled())
        else:
            self.waiting.append(invocation)
            self._launch_for_waiting()

    def _invoke(self, environment: Environment, invocation: Invocation) -> bool:
        self._busy.add(environment)
        return environment.invoke(invocation)

    def _invoke_waiting(self, environment: Environment) -> None:
        """Give an environment the invocation that has waited longest."""
        invocation = self.waiting.popleft()
        if not self._invoke(environment, invocation):
            self.acquire(invocation)

    def answered(self, elapsed_s: float) -> None:
        """An invocation took ``elapsed_s`` in its environment."""
        self.typical_s += (elapsed_s - self.typical_s) / 8

    def learning(self, environment: Environment) -> None:
        """An environment has answered, and needs a few milliseconds more before it is free."""
        self._busy.discard(environment)
        self._learning.add(environment)
        environment.idle_since = time.monotonic()

    def free(self, environment: Environment) -> None:
        """An environment has answered and could serve again."""
        learned = environment in self._learning
        self._learning.discard(environment)
        if self.config.fresh_per_invocation or environment.generation.superseded:
            environment.end()
            return
        if self.waiting:
            self._invoke_waiting(environment)
            return
        self._busy.discard(environment)
        if learned:
            # Others may have answered since it did, and the one used last comes first.
            bisect.insort(self._idle, environment, key=lambda one: one.idle_since)
        else:
            environment.idle_since = time.monotonic()
            self._idle.append(environment)

    # --- environments -----------------------------------------------------------------------------------------------

    def adopt(self, environment: Environment) -> None:
        """An environment has been launched."""
        self.environments.add(environment)
        self._starting.add(environment)

    def ready(self, environment: Environment) -> None:
        """A launched environment can serve."""
        self._starting.discard(environment)
        self._failures = self._deaths = 0
        self.retrying_init = False
        if self._closing or environment.generation.superseded:
            environment.end()
        elif self.waiting:
            self._invoke_waiting(environment)
            self._refill_later()
        else:
            self._parked.append(environment)
            self._refill_now()

    def parked_of(self, generation: Generation) -> list[Environment]:
        return [one for one in self._parked if one.generation is generation]

    def leaving(self, environment: Environment) -> None:
        """An environment can no longer serve: called once, some time before it is gone."""
        self._starting.discard(environment)
        self._learning.discard(environment)
        self._busy.discard(environment)
        if environment in self._idle:
            self._idle.remove(environment)
        elif environment in self._parked:
            self._parked.remove(environment)

    def gone(self, environment: Environment) -> None:
        """An environment has been released."""
        self.environments.discard(environment)
        if not self._closing:
            self._launch_for_waiting()
            self._refill_later()

    def launch_failed(self, fault: Fault) -> None:
        """A launched environment will never be ready."""
        self._failures += 1
        if not self._closing:
            reason = fault.body.decode(errors="replace")
            self.host.log.line(f"an environment did not start: {reason}", self.config.name, "ERROR")
        functions_own = fault.error_type != "Sandbox.Failure"  # trying again would fail again
        if self.waiting and (functions_own or self._failures >= LAUNCH_TRIES):
            self._answer_fault(self.waiting.popleft(), fault)
        if not self._closing:
            self._launch_for_waiting()
            self._refill_later()

    def exec_done(self, fault: Fault | None) -> None:
        """What was to be exec'd is an environment now (adopted next), or could not even be made."""
        self._spawning -= 1
        if fault is not None:
            self.launch_failed(fault)

    def start_expired(self, environment: Environment) -> None:
        """An environment was not ready in time. Its init is tried once more, under the function's own timeout."""
        again = not environment.generation.forks and not environment.is_retry
        if again:
            self.retrying_init = True
        elif self.waiting:
            self._answer_fault(self.waiting.popleft(), faults.timed_out("", self.config.timeout_s))
        self._failures += 1
        self.host.log.line("an environment was not ready in time", self.config.name, "ERROR")

    @property
    def init_limit_s(self) -> float:
        """How long an exec'd environment's init may take: Lambda's own limit, then the function's timeout."""
        return float(self.config.timeout_s) if self.retrying_init else INIT_LIMIT_S

    def _launch_for_waiting(self) -> None:
        if not self.waiting:
            return
        if self._current is None:
            if self._building is None and self._rebuild is None:
                # The last build failed. Lambda runs init again within the invocation, under the function's timeout.
                self._build(float(self.config.timeout_s), is_retry=True)
            return
        while (
            len(self._starting) + len(self._learning) + self._spawning < len(self.waiting)
            and self._room
            and self._current is not None
            and self._current.takes_requests
        ):
            if not self._launch():
                break

    def launch_more(self) -> None:
        """The template has served a request, and may have room for another."""
        self._launch_for_waiting()

    @property
    def _room(self) -> bool:
        return len(self.environments) + self._spawning < self.config.concurrency

    def _launch(self) -> bool:
        assert self._current is not None
        generation = self._current
        if not generation.forks:
            self._spawning += 1
        try:
            generation.launch()
        except OSError as fault:
            if not generation.forks:
                self._spawning -= 1
            self.host.loop.call_soon(self.launch_failed, faults.sandbox_failure("", str(fault)))
            return False
        return True

    # --- parked environments ----------------------------------------------------------------------------------------

    def _refill_later(self) -> None:
        if self._refill is None and not self._closing:
            backoff = min(LONGEST_BACKOFF_S, REFILL_DELAY_S * 2 ** min(self._failures, 9))
            self._refill = self.host.loop.call_later(backoff, self._refill_now)

    def _refill_now(self) -> None:
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
        if (
            self._current is not None
            and self._current.takes_requests
            and not self._closing
            and not self._starting
            and not self._spawning
            and len(self._parked) < self.config.parked
            and self._room
        ):
            self._launch()

    def _sweep_later(self) -> None:
        self._sweep = self.host.loop.call_later(min(5.0, self.config.idle_timeout_s / 4), self._end_idle)

    def _end_idle(self) -> None:
        before = time.monotonic() - self.config.idle_timeout_s
        for environment in [one for one in self._idle if one.idle_since < before]:
            environment.end()
        self._sweep_later()

    # --- generations ------------------------------------------------------------------------------------------------

    def _build(self, limit_s: float, *, reload: bool = False, is_retry: bool = False) -> None:
        if self._rebuild is not None:
            self._rebuild.cancel()
            self._rebuild = None
        self._numbers += 1
        generation = Generation(self, self._numbers, reload=reload, is_retry=is_retry)
        self._generations.add(generation)
        self._building = generation
        generation.build(limit_s)

    def built(self, generation: Generation) -> None:
        """A template is frozen, or its function is known to run by exec."""
        old, self._current, self._building = self._current, generation, None
        self._failures = 0
        name = self.config.name
        if generation.stage is Stage.UNSAFE:
            found = "; ".join(generation.obstacles)
            self.host.log.line(f"not safe to fork, so each environment runs its own init: {found}", name, "WARN")
        else:
            self.host.log.line(
                f"template frozen in {generation.init_ms:.0f} ms, {generation.resident / 1e6:.0f} MB resident", name
            )
        if old is not None:
            old.retire()
        if generation.reload:
            for other in self._generations - {generation}:
                other.superseded = True
            for environment in [*self._idle, *self._parked]:
                if environment.generation.superseded:
                    environment.end()
        self._after_build()
        self._launch_for_waiting()
        self._refill_now()

    def build_failed(self, generation: Generation, fault: Fault, reason: str) -> None:
        """There will be no template. What waits gets the fault; the next invocation tries again."""
        self._building = None
        if not self._closing:
            self.host.log.line(f"no template: {reason}", self.config.name, "ERROR")
            if fault.status == "timeout" and self.waiting and self._current is None and not generation.is_retry:
                # Lambda runs an init that took too long again, within the invocation and under the function's timeout.
                self._build(float(self.config.timeout_s), is_retry=True)
                return
        if self._current is None:
            while self.waiting:
                self._answer_fault(self.waiting.popleft(), fault)
        self._after_build()

    def _after_build(self) -> None:
        if self._reload_again:
            self._reload_again = False
            self.reload()

    def template_died(self, generation: Generation, exit_: Exit) -> None:
        """A frozen template died: its environments serve on, while a new one is built."""
        if generation is not self._current or self._closing:
            return
        self._current = None
        self._deaths += 1
        self.host.log.line(f"the template died ({exit_}); building another", self.config.name, "ERROR")
        if self._deaths >= LAUNCH_TRIES:
            # It dies whenever it is asked for a worker. Those who wait are told; the next invocation tries again.
            while self.waiting:
                self._answer_fault(self.waiting.popleft(), faults.exited("", exit_, out_of_memory=False))
        if self._building is None:
            delay = min(LONGEST_BACKOFF_S, REFILL_DELAY_S * 2 ** min(self._deaths - 1, 9)) if self._deaths > 1 else 0.0
            self._rebuild = self.host.loop.call_later(delay, self._build, INIT_LIMIT_S)

    def dissolved(self, generation: Generation) -> None:
        """Nothing of a generation is left."""
        self._generations.discard(generation)
        self.host.progress()

    def _answer_fault(self, invocation: Invocation, fault: Fault) -> None:
        """Answer an invocation that no environment has ever heard of."""
        log = report.InvocationLog(self.host.output, self.config.name, "init", self.host.config.log_format)
        log.start(invocation.request_id)
        elapsed = (time.monotonic() - invocation.received) * 1e3 if invocation.received else 0.0
        log.end(report.Facts(elapsed, self.config.memory_mb, 0, status=fault.status, error_type=fault.error_type))
        headers = [
            (b"Content-Type", b"application/json"),
            (b"X-Amz-Executed-Version", b"$LATEST"),
            (b"X-Amz-Function-Error", b"Unhandled"),
        ]
        if invocation.tail:
            headers.append((b"X-Amz-Log-Result", log.tail()))
        body = fault.body.replace(b"RequestId:  Error", b"RequestId: " + invocation.request_id.encode() + b" Error")
        invocation.reply(200, headers, body)

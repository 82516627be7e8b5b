"""One generation of a function: a nest, the template in it, and the environments that come from that template.

A generation is built, serves, and is retired: by newer code (SIGHUP), or because its template died. A retired one keeps
its nest until its last environment is gone.
"""

from __future__ import annotations

import asyncio
import enum
import os
import secrets
import shutil
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lamplighter.function.environment import log_stream_name
from lamplighter.host import faults
from lamplighter.host.environment import Environment
from lamplighter.host.faults import Fault
from lamplighter.host.holdings import Holdings
from lamplighter.host.report import InvocationLog
from lamplighter.host.spawning import make_nest, spawn
from lamplighter.host.template import Request, Template
from lamplighter.host.working_set import WorkingSet
from lamplighter.sandbox.cgroups import MIB, Leaf, Limits
from lamplighter.sandbox.disk import Disk
from lamplighter.sandbox.native import Exit, Process, SandboxFault
from lamplighter.sandbox.nest import Nest
from lamplighter.sandbox.processes import resident

if TYPE_CHECKING:
    from lamplighter.host.pool import Pool

REQUESTS = 32
"""Fork requests under way at most: the control socket holds a few hundred, and the template serves them one by one."""
FORK_MEMORY = 2 * MIB
"""What a living worker may cost its template: the pages that the template has since had to copy for itself (1.1 MiB
seen), and the kernel's bookkeeping."""
LEAST_MEMORY = 8 * MIB
"""A worker's own limit never goes below this, however much of the function's memory its template takes."""


class Stage(enum.Enum):
    BUILDING = "building"
    FROZEN = "ready"
    UNSAFE = "unsafe"
    FAILED = "failed"
    RETIRED = "retired"


class Generation:
    """``pool.built`` or ``pool.build_failed`` is called once; afterwards :meth:`launch` works until it is retired."""

    def __init__(self, pool: Pool, number: int, *, reload: bool, is_retry: bool) -> None:
        self.pool = pool
        self.reload = reload
        """Whether it is built for newer code, and so takes the place of all others once it is ready."""
        self.is_retry = is_retry
        """Whether its init runs within an invocation, because an earlier one failed."""
        self.superseded = False
        """Newer code has taken this one's place: its environments serve no further invocation."""
        self.stage = Stage.BUILDING
        self.resident = 0
        self.init_ms = 0.0
        self.obstacles: list[str] = []
        self.environments: set[Environment] = set()
        self._began = time.monotonic()
        self._loop = pool.host.loop
        self._holdings = Holdings(pool.host, pool.config, f"{pool.config.name}-{number}")
        self._template: Template | None = None
        self._log = InvocationLog(pool.host.output, pool.config.name, "init", pool.host.config.log_format)
        self._awaiting_disks = 0
        self.working_set = WorkingSet()
        self._timer: asyncio.TimerHandle | None = None
        self._ending = False
        self._spawning = 0
        self._overstepped = False

    @property
    def launching(self) -> bool:
        """Whether processes may exist that the host has not been told of yet."""
        return self._spawning > 0 or (self._template is not None and self._template.requests > 0)

    @property
    def template_pid(self) -> int:
        return self._template.pid if self._template is not None else 0

    @property
    def user(self) -> int:
        """Who its processes are to the host, where that is not the host itself and there is no nest; 0 otherwise."""
        return self._holdings.user

    def tmp_of(self, pid: int) -> str:
        """The directory that an environment has in the place of a /tmp, where nothing can be mounted."""
        return f"{self.pool.host.workspace.tmp()}/{pid}"

    def overstepped(self) -> None:
        """A watchdog has found the template beyond its memory."""
        self._overstepped = True
        if self._template is not None:
            self._template.kill_all()

    @property
    def takes_requests(self) -> bool:
        """Whether another launch may be asked for now; ``pool.launch_more`` is called when that becomes true."""
        if not self.forks:
            return True
        template = self._template
        return template is not None and not template.deaf and template.requests + self._awaiting_disks < REQUESTS

    @property
    def forks(self) -> bool:
        """Whether environments are forked from the template; otherwise each is exec'd and runs its own init."""
        return not self.obstacles

    @property
    def isolated(self) -> bool:
        return self.pool.host.isolated

    @property
    def enforcement(self) -> str:
        held = self.pool.host.enforcement
        if self.pool.config.network == "host":
            held = {**held, "network": "none"}  # could be held, and is not to be
        return ",".join(f"{limit}={how}" for limit, how in held.items())

    # --- building ---------------------------------------------------------------------------------------------------

    def build(self, limit_s: float) -> None:
        """Start the template; its init may take ``limit_s`` seconds."""
        self._spawning += 1
        future = self._loop.run_in_executor(self.pool.host.executor, self._start_template)
        future.add_done_callback(self._on_template_started)
        self._timer = self._loop.call_later(limit_s, self._on_init_timeout, limit_s)

    def _start_template(self) -> tuple[Process, socket.socket, int]:
        """In the executor: building a nest blocks for some milliseconds."""
        host, config = self.pool.host, self.pool.config
        nest = self._holdings.take()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process, log_fd = spawn(host, config, nest, "template", theirs.fileno(), self._holdings.leaf, "init")
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return process, ours, log_fd

    def _on_template_started(self, future: asyncio.Future[tuple[Process, socket.socket, int]]) -> None:
        self._spawning -= 1
        try:
            process, control, log_fd = future.result()
        except Exception as fault:
            self._fail(faults.sandbox_failure("", str(fault)), str(fault))
            self._end_if_unused()
            return
        self._template = Template(self, process, control, log_fd, self._log, self._holdings.owner)
        if self.stage is not Stage.BUILDING:
            self._template.kill()

    def _on_init_timeout(self, limit_s: float) -> None:
        self._timer = None
        fault = faults.timed_out("", limit_s)
        if self._template is not None:
            self._template.kill()
        self._fail(fault, f"init did not end within {limit_s:g} s")

    def _fail(self, fault: Fault, reason: str) -> None:
        if self.stage is not Stage.BUILDING:
            return
        self.stage = Stage.FAILED
        self._stop_timer()
        elapsed = (time.monotonic() - self._began) * 1e3
        self._say(
            f"INIT_REPORT Init Duration: {elapsed:.2f} ms\tPhase: init\tStatus: {fault.status}\t"
            f"Error Type: {fault.error_type}\n"
        )
        self.pool.build_failed(self, fault, reason)
        self.retire()

    def on_outcome(self, outcome: dict[str, Any]) -> bool:
        """The template says what came of its init; false if that was not awaited.

        Raises ``KeyError``, ``TypeError`` or ``AttributeError`` for what is no outcome.
        """
        if self.stage is not Stage.BUILDING:
            return False
        kind = outcome.get("outcome")
        if kind == "failed":
            self._fail(Fault(str(outcome["type"]), str(outcome["body"]).encode()), f"init failed: {outcome['type']}")
            return True
        self._stop_timer()
        self.init_ms = (time.monotonic() - self._began) * 1e3
        config = self.pool.config
        memory = config.memory_mb * MIB
        assert self._template is not None
        if kind == "unsafe":
            self.stage = Stage.UNSAFE
            self.obstacles = [str(one) for one in outcome["obstacles"]] or ["it says that it is not safe to fork"]
            # What stands in the way of a fork would live on: a thread keeps its process alive, a daemon runs unbounded.
            nest = self._holdings.nest
            if nest is not None and nest.keeper is not None:
                nest.keeper.kill()
            self._template.kill()
        else:
            self.stage = Stage.FROZEN
            self.resident = min(memory, resident(self._template.pid))
            limits = Limits(memory + config.concurrency * FORK_MEMORY, max(1.0, self.pool.vcpus))
            self._holdings.leaf.configure(limits)
            memory = max(LEAST_MEMORY, memory - self.resident)
        self._holdings.prepare(memory, forks=self.forks)
        self.pool.built(self)
        return True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self, line: str) -> None:
        if self._template is not None:
            self._template.drain_log()
        self._log.write(line.encode())
        self._log.flush()

    # --- launching --------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start an environment; the pool hears of it by ``ready`` or ``launch_failed``. Raises ``OSError`` if the host
        lacks what it takes (descriptors, cgroups): then there is none.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            leaf = self._holdings.take_leaf()
        except OSError:
            ours.close()
            theirs.close()
            raise
        ours.setblocking(False)
        stream = log_stream_name(datetime.now(UTC), "$LATEST", secrets.token_hex(16))
        if not self.forks:
            self._launch_by_exec(leaf, ours, theirs, stream)
        else:
            self._launch_by_fork(leaf, ours, theirs, stream)
        self._holdings.tend_later()

    def _log_for(self, stream: str) -> InvocationLog:
        return InvocationLog(self.pool.host.output, self.pool.config.name, stream, self.pool.host.config.log_format)

    def _launch_by_fork(self, leaf: Leaf, ours: socket.socket, theirs: socket.socket, stream: str) -> None:
        try:
            log_read, log_write = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._holdings.give_back_leaf(leaf)
            ours.close()
            theirs.close()
            raise
        os.set_blocking(log_read, False)
        environment = Environment(self, leaf, ours, log_read, self._log_for(stream))
        self.environments.add(environment)
        self.pool.adopt(environment)
        request = Request(environment, theirs, log_write)
        disks = self.pool.host.disks
        if disks.obstacle or not self.isolated:
            self._ask_for_fork(request, stream, None)
            return
        self._awaiting_disks += 1

        def on_disk(disk: Disk | OSError) -> None:
            self._awaiting_disks -= 1
            self._ask_for_fork(request, stream, disk)

        disks.take(self.pool.config.ephemeral_storage_mb * MIB, on_disk)

    def _ask_for_fork(self, request: Request, stream: str, disk: Disk | OSError | None) -> None:
        """All that a launch takes is there, or the fault that one thing of it could not be made."""
        assert self._template is not None
        environment = request.environment
        network = -1
        try:
            if isinstance(disk, OSError):
                raise disk
            environment.disk = disk
            if disk is not None:
                disk.give_to(self._holdings.owner)
            with environment.leaf.entrance() as entrance:
                placement = [disk.mount] if disk is not None else []
                network = self._holdings.take_network()
                placement += [network] if network >= 0 else []
                placement += [entrance.directory] if self.pool.host.births else []
                placement += entrance.writable
                self._template.ask(request, stream, self.working_set.copy_ahead(environment), placement)
        except OSError as fault:
            lost = self._template.lost_to(fault)
            reason = "" if lost else f"the template cannot be asked for a worker: {fault}"
            self._loop.call_soon(environment.stillborn, reason)
            request.close()
        else:
            environment.limit_start(self.pool.restore_limit_s)
        finally:
            if network >= 0:
                os.close(network)

    def _launch_by_exec(self, leaf: Leaf, ours: socket.socket, theirs: socket.socket, stream: str) -> None:
        self._spawning += 1
        future = self._loop.run_in_executor(self.pool.host.executor, self._start_environment, leaf, theirs, stream)

        def started(done: asyncio.Future[tuple[Nest, Process, int]]) -> None:
            self._spawning -= 1
            theirs.close()
            try:
                nest, process, log_fd = done.result()
            except Exception as fault:
                ours.close()
                self._holdings.give_back_leaf(leaf)
                self.pool.exec_done(faults.sandbox_failure("", str(fault)))
                if self.stage is Stage.RETIRED:
                    self._end_if_unused()
                return
            environment = Environment(self, leaf, ours, log_fd, self._log_for(stream))
            self.environments.add(environment)
            self.pool.exec_done(None)
            self.pool.adopt(environment)
            environment.nest = nest
            environment.is_retry = self.pool.retrying_init
            environment.born(process, None, {})
            environment.limit_start(self.pool.init_limit_s)
            if self.stage is Stage.RETIRED:
                environment.end()

        future.add_done_callback(started)

    def _start_environment(self, leaf: Leaf, theirs: socket.socket, stream: str) -> tuple[Nest, Process, int]:
        """In the executor: a nest of its own for an environment that cannot be forked."""
        host, config = self.pool.host, self.pool.config
        nest = make_nest(host, config, self._holdings.slot)
        try:
            process, log_fd = spawn(host, config, nest, "environment", theirs.fileno(), leaf, stream)
        except BaseException:
            nest.end()
            raise
        return nest, process, log_fd

    def learn(self, environment: Environment, ranges: bytes) -> bool:
        """An environment tells which pages its first invocation wrote to; false if it was not asked."""
        if not self.working_set.take(environment, ranges):
            return False
        known = self.working_set.ranges
        if self._template is not None and known:
            self._template.teach(known)
        for parked in self.pool.parked_of(self):
            if self.working_set.copy_ahead(parked):
                parked.prepare(known)
        return True

    def take_back(self, environment: Environment) -> None:
        """An environment has released its own; its cgroups (and its nest, if it had one) are ours to end."""
        if environment.nest is not None:
            self._loop.run_in_executor(self.pool.host.executor, self._holdings.end_nest, environment.nest)
        self._holdings.give_back_leaf(environment.leaf)
        if environment.disk is not None:
            self.pool.host.disks.give_back(environment.disk)
        if environment.tmp:
            self._loop.run_in_executor(self.pool.host.executor, shutil.rmtree, environment.tmp, True)
        self.environments.discard(environment)
        self.working_set.forget(environment)
        self._holdings.tend_later()
        if self.stage is Stage.RETIRED:
            self._end_if_unused()

    # --- the end ----------------------------------------------------------------------------------------------------

    def on_template_exit(self, exit_: Exit) -> None:
        """The template has died."""
        assert self._template is not None
        if self.stage is Stage.FROZEN:
            self.pool.template_died(self, exit_)
        self._template.abandon_requests()
        if self.stage is Stage.BUILDING:
            out_of_memory = exit_.signal == 9 and (self._overstepped or self._holdings.leaf.oom_kills() > 0)
            fault = faults.exited("", exit_, out_of_memory=out_of_memory)
            self._fail(fault, f"the template ended during init: {exit_}")
        elif self.stage is Stage.FROZEN:
            self.retire()
        elif self.stage is Stage.RETIRED:
            self._end_if_unused()

    def retire(self) -> None:
        """No more launches. The nest goes when the last environment is gone."""
        self._stop_timer()
        self.stage = Stage.RETIRED
        self._holdings.expect_no_launch()
        if self._template is not None:
            self._template.kill()
        self._end_if_unused()

    def give_up_template(self, reason: str) -> None:
        """Kill the template: what it cannot or will not do, another will."""
        if self._template is not None:
            self._template.give_up(reason)

    def _end_if_unused(self) -> None:
        if self.environments or self._spawning or self.template_pid or self._ending:
            return
        self._ending = True
        self._holdings.close()
        if self._template is not None:
            self._template.close()
        future = self._loop.run_in_executor(self.pool.host.executor, self._holdings.give_back)
        future.add_done_callback(self._on_dissolved)

    def _on_dissolved(self, future: asyncio.Future[bool]) -> None:
        self._holdings.release_slot()
        try:
            clean = future.result()
        except (OSError, SandboxFault) as fault:
            self.pool.host.log.line(f"cannot clean up after a generation: {fault}", self.pool.config.name, "ERROR")
        else:
            if not clean:
                self.pool.host.log.line("cgroups of a generation are still in use", self.pool.config.name, "WARN")
        self.pool.dissolved(self)

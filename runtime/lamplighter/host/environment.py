"""One execution environment as the host sees it: a worker with its sandbox, its channel, its log and its deadline.

Guarantees:

1. An invocation given to :meth:`Environment.invoke` is answered exactly once, or handed back to the pool unheard.
2. The worker's death is noticed by its pidfd, whatever it was doing, and its status decides what the caller is told.
3. Once :meth:`Environment.end` is called, or the worker has died, every process, descriptor and cgroup of the
   environment goes, and the pool hears of it once.
4. Nothing that the worker sends or withholds blocks the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import orjson

from lamplighter.host import faults, report
from lamplighter.host.faults import RESPONSE_LIMIT, Fault
from lamplighter.host.framing import Standing
from lamplighter.host.invocation import Header, Invocation
from lamplighter.host.log_pipe import LogPipe
from lamplighter.host.wakefulness import SHORT_S
from lamplighter.sandbox.cgroups import Leaf
from lamplighter.sandbox.disk import Disk
from lamplighter.sandbox.native import Exit, Process, SandboxFault
from lamplighter.sandbox.nest import Nest
from lamplighter.sandbox.processes import doomed, kill_below, pid_of
from lamplighter.worker import channel
from lamplighter.worker.channel import ProtocolFault, Reply

if TYPE_CHECKING:
    from lamplighter.host.generation import Generation

_CONTENT = (b"Content-Type", b"application/json")
_VERSION = (b"X-Amz-Executed-Version", b"$LATEST")
_SUCCESS = Standing(_CONTENT, _VERSION)
_RAW = Standing((b"Content-Type", b"application/octet-stream"), _VERSION)
_FAILURE = Standing(_CONTENT, _VERSION, (b"X-Amz-Function-Error", b"Unhandled"))
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
_LOG_LINGER_S = 1.0
"""Time that output may wait for its invocation to end."""
_LEARNING_S = 1.0
"""Time for a worker to tell which pages its first invocation wrote to; it takes milliseconds."""
_EXIT_GRACE_S = 0.5
"""Time from a closed channel to the process's end: a worker that exits closes its channel a moment before."""
_DOOM_LOOKS, _DOOM_LOOK_S = 10, 0.002
"""How often, and how far apart, to look whether the worker is the one that is killed for memory."""
_MIB = 1_048_576


class State(enum.Enum):
    STARTING = "starting"
    PARKED = "parked"
    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


def timings(said: object) -> dict[str, float]:
    """Stage timings, microseconds, as code inside a sandbox tells them; ``ValueError`` for anything else."""
    if not isinstance(said, dict):
        raise ValueError(f"expected an object, got {type(said).__name__}")
    try:
        return {str(name): float(took) for name, took in said.items()}
    except TypeError as fault:
        raise ValueError(str(fault)) from fault


def _cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) makes it: the pid's complement, and kind 2."""
    return (~pid << 3) | 2


class Environment:
    """Made by :meth:`Generation.launch`; from then on it reports to its pool."""

    def __init__(
        self, generation: Generation, leaf: Leaf, sock: socket.socket, log_fd: int, log: report.InvocationLog
    ) -> None:
        pool = generation.pool
        self.generation = generation
        self.pool = pool
        self.leaf = leaf
        self.log = log
        self.state = State.STARTING
        self.deadline = 0.0
        self.due = 0.0
        self.idle_since = 0.0
        self.invocations = 0
        self.is_retry = False
        """Whether its start is the second try that an invocation waits for."""
        self.prepared = 0
        """Bytes of pages it was asked to copy ahead of need."""
        self.stages: dict[str, float] = {}
        self.init_ms = 0.0
        self.restore_ms = 0.0
        self.nest: Nest | None = None
        """A nest of its own, where it was not forked from a template."""
        self.disk: Disk | None = None
        """What is mounted on its /tmp, where that is neither a tmpfs nor its nest's."""
        self.tmp = ""
        """Its directory in the place of a /tmp of its own, where nothing can be mounted."""
        self.tmp_used = 0
        self.watched_peak = 0
        """Most memory that a watchdog has seen it use, bytes."""
        self._overstepped = False
        """Whether a watchdog ended it for its memory."""
        self._dead = False
        """Whether its worker has been reaped: its pid may be another's."""
        self._timeout = float(pool.config.timeout_s)
        self._sock = sock
        self._process: Process | None = None
        self._keeper: Process | None = None
        self._began = time.monotonic()
        self._invocation: Invocation | None = None
        self._sequence = 0
        self._large: Reply | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._before: tuple[float, float, int] | None = None
        self._loop = pool.host.loop
        self._loop.add_reader(sock.fileno(), self._on_channel)
        self._log_pipe = LogPipe(self._loop, log_fd, log, _LOG_LINGER_S)
        self._looks = 0
        if leaf.oom_fd >= 0:
            self._loop.add_reader(leaf.oom_fd, self._on_out_of_memory)

    # --- birth ------------------------------------------------------------------------------------------------------

    def born(self, process: Process, keeper: Process | None, stages: dict[str, float]) -> None:
        """The template (or the host itself) has started the worker."""
        self._process = process
        self._keeper = keeper
        self.pool.host.children.add(process.pid)
        if not self.generation.isolated:
            self.tmp = self.generation.tmp_of(process.pid)
        self.stages.update(stages)
        self._loop.add_reader(process.pidfd, self._on_exit)
        if self.state is State.ENDED:
            self._kill()

    def stillborn(self, reason: str) -> None:
        """There is no worker. ``reason`` is empty where that says nothing of the next launch: the template has died."""
        if self._invocation is not None:
            # It was ready before the template could tell of it; the invocation has been heard.
            self._answer_fault(faults.exited(self._invocation.request_id, None, out_of_memory=False))
        self.state = State.ENDED
        self.pool.leaving(self)
        self._release()
        try:
            if reason:
                self.pool.launch_failed(faults.sandbox_failure("", reason))
        finally:
            self.pool.gone(self)

    @property
    def running(self) -> bool:
        """Whether it runs anything, as far as the host has asked for it."""
        return self.state in (State.STARTING, State.BUSY)

    @property
    def pids(self) -> list[int]:
        """The worker and its keeper, whose descendants are all that the environment started; empty without a worker."""
        if self._process is None or self._dead:
            return []
        keeper = self.nest.keeper if self.nest is not None else self._keeper
        known = [self._process.pid]
        if keeper is not None and (pid := keeper.pid or pid_of(keeper.pidfd)) > 0:
            known.append(pid)
        return known

    def overstepped(self, reason: str, *, out_of_memory: bool = False) -> None:
        """A watchdog has found it beyond a limit."""
        if out_of_memory:
            self._overstepped = True
            self._kill()  # its death answers, as one by the kernel does
        else:
            self._on_protocol_fault(f"beyond its limits, {reason}")

    def limit_start(self, seconds: float) -> None:
        """Bound the time from here to ready, or to whatever else is to come."""
        self.deadline = time.monotonic() + seconds
        self.pool.host.deadlines.watch(self)

    def _on_ready(self, reply: Reply) -> None:
        elapsed = (time.monotonic() - self._began) * 1e3
        try:
            self.stages.update(timings(orjson.loads(reply.body or b"{}")))
        except ValueError as fault:
            self._on_protocol_fault(f"the worker's stages are no timings: {fault}")
            return
        if self.generation.forks:
            self.restore_ms = elapsed
        else:
            self.init_ms = elapsed
        self.stages["ready"] = elapsed * 1e3
        self.deadline = 0.0
        self.state = State.PARKED
        self.pool.ready(self)
        # The launch ran unthrottled, as Lambda's init does; from here on the function gets its share. Last, so that an
        # invocation that waits does not wait for this as well.
        self.leaf.set_cpu(self.pool.vcpus)

    # --- one invocation ---------------------------------------------------------------------------------------------

    def invoke(self, invocation: Invocation) -> bool:
        """Send an event to the worker; false if it is gone, in which case it has heard nothing of it."""
        now = time.monotonic()
        pool, generation = self.pool, self.generation
        host = pool.host
        self._sequence += 1
        self._invocation = invocation
        wakefulness = host.wakefulness
        wakefulness.running += 1
        invocation.started = now
        self.state = State.BUSY
        self.deadline = now + self._timeout
        if self.due == 0.0 or self.deadline < self.due:
            host.deadlines.watch(self)
        flags = 0
        if generation.working_set.wanted and generation.forks and generation.working_set.ask(self):
            flags = channel.LEARN
        if pool.waiting and wakefulness.worker_may:
            flags |= channel.MORE
        if host.full_report:
            self._before = self._counters()
        try:
            channel.send_event(
                self._sock,
                self._sequence,
                int((time.time() + self._timeout) * 1000),
                invocation.body,
                invocation.request_id,
                invocation.route,
                invocation.trace_id,
                invocation.client_context,
                "",
                invocation.tenant_id,
                flags,
            )
            # The worker is on its way: what follows does not hold it up.
            self.log.start(invocation.request_id)
            if pool.typical_s < SHORT_S:
                wakefulness.stay_awake(now)
        except OSError as fault:
            self.deadline = 0.0
            if fault.errno not in _GONE:
                # The host's own trouble (descriptors, memory): another environment would meet it as well.
                self.log.start(invocation.request_id)
                self._answer_fault(faults.sandbox_failure(invocation.request_id, f"cannot send the event: {fault}"))
                self.end()
                return True
            # Gone between two invocations. Nothing was received, so the pool may give the event to another worker.
            self._invocation = None
            wakefulness.running -= 1
            self.end()
            return False
        return True

    def expire(self) -> None:
        """The deadline has passed: of the invocation, or of the start."""
        invocation = self._invocation
        if invocation is not None:
            self._kill()
            self._answer_fault(faults.timed_out(invocation.request_id, self._timeout))
            self.end()
        elif self.state is State.STARTING:
            if self._process is None:
                # It has not even been forked: the template is stuck, or keeps its workers to itself.
                self.generation.give_up_template("it does not answer")
            self.pool.start_expired(self)
            self.end()
        elif self.state is State.BUSY:
            self._on_protocol_fault("the worker did not tell its working set")

    def _on_channel(self) -> None:
        try:
            if self._large is not None:
                reply: Reply | None = self._large
            else:
                reply = channel.receive_reply(self._sock)
            if reply is not None and reply.flags & channel.LARGE and reply.length <= RESPONSE_LIMIT:
                self._large = reply
                reply.body = channel.receive_body(self._sock, reply.length)
                self._large = None
        except BlockingIOError:
            return
        except (ProtocolFault, OSError) as fault:
            if isinstance(fault, ConnectionError):
                self._on_channel_closed()
            else:
                self._on_protocol_fault(str(fault))
            return
        if reply is None:
            self._on_channel_closed()
        else:
            self._on_reply(reply)

    def _rest(self) -> None:
        """The invocation is over; there may be another."""
        if self.generation.working_set.awaited is self and self.state is State.BUSY and self.deadline == 0.0:
            # It has one thing more to say, and is not to be ended before, nor asked.
            self.limit_start(_LEARNING_S)
            self.pool.learning(self)
            return
        self.deadline = 0.0
        self.state = State.IDLE
        self.pool.free(self)

    def prepare(self, ranges: bytes) -> None:
        """Have a parked worker copy the pages that its first invocation will write to."""
        with contextlib.suppress(OSError):  # a full buffer or a dying worker: it serves without, or not at all
            channel.send_prepare(self._sock, ranges)

    def _on_reply(self, reply: Reply) -> None:
        kind = reply.kind
        invocation = self._invocation
        if (
            kind == channel.WORKING_SET
            and invocation is None
            and self.state is State.BUSY
            and self.generation.learn(self, reply.body)
        ):
            self._rest()
            return
        if invocation is not None:
            if reply.sequence != self._sequence or kind not in (channel.RESPONSE, channel.ERROR):
                self._on_protocol_fault("the worker answered something that it was not asked")
            elif reply.length > RESPONSE_LIMIT:
                self._answer_fault(faults.response_too_large())
                self.end()
            elif kind == channel.RESPONSE:
                self._answer(_RAW if reply.flags & channel.RAW else _SUCCESS, reply.body, "", "", then_rest=True)
            else:
                self._answer(_FAILURE, reply.body, "error", reply.error_type, then_rest=True)
        elif self.state is State.STARTING and kind == channel.READY:
            self._on_ready(reply)
        elif self.state is State.STARTING and kind in (channel.INIT_ERROR, channel.ERROR):
            fault = Fault(reply.error_type, reply.body)
            self.end()
            self.pool.launch_failed(fault)
        else:
            self._on_protocol_fault("the worker sent a message out of turn")

    def _on_protocol_fault(self, reason: str) -> None:
        if self._invocation is not None:
            self._answer_fault(faults.sandbox_failure(self._invocation.request_id, reason))
        self.pool.host.log.line(f"replacing an environment: {reason}", self.pool.config.name, "WARN")
        starting = self.state is State.STARTING
        self.end()
        if starting:
            self.pool.launch_failed(faults.sandbox_failure("", reason))

    def _on_channel_closed(self) -> None:
        # It exits, or it has closed the descriptor and lives on. The pidfd tells; but not for ever.
        self._loop.remove_reader(self._sock.fileno())
        if self._grace is None and self.state is not State.ENDED:
            self._grace = self._loop.call_later(_EXIT_GRACE_S, self._kill)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _answer_fault(self, fault: Fault) -> None:
        self._answer(_FAILURE, fault.body, fault.status, fault.error_type)

    def _answer(
        self, headers: tuple[Header, ...], body: bytes, status: str, error_type: str, *, then_rest: bool = False
    ) -> None:
        invocation = self._invocation
        assert invocation is not None
        pool = self.pool
        self._invocation = None
        pool.host.wakefulness.running -= 1
        self.deadline = 0.0
        elapsed = time.monotonic() - invocation.started
        self._log_pipe.drain()
        memory_mb = pool.config.memory_mb
        try:
            peak = max(self.generation.resident + self.leaf.peak(), self.watched_peak)
            used = min(memory_mb, -(-peak // _MIB))
            full = self._full() if pool.host.full_report else None
        except OSError:  # the answer is worth more than what is said about it
            used, full = 0, None
        facts = report.Facts(
            min(elapsed, self._timeout) * 1e3,
            memory_mb,
            used,
            self.init_ms,
            self.restore_ms,
            status,
            error_type,
            full,
        )
        self.init_ms = self.restore_ms = 0.0
        self.invocations += 1
        pool.answered(elapsed)
        if invocation.tail:
            self.log.end(facts)
            invocation.reply(200, (*headers, (b"X-Amz-Log-Result", self.log.tail())), body)
        elif then_rest and pool.waiting:
            # The worker first: it runs the next event while the answer to this one is written.
            self.log.end(facts)
            try:
                self._rest()
            finally:
                invocation.reply(200, headers, body)
            return
        else:
            invocation.reply(200, headers, body)
            self.log.end(facts)
        if then_rest:
            self._rest()

    def _counters(self) -> tuple[float, float, int] | None:
        """CPU seconds, throttled seconds, and minor and major page faults of the worker so far; None once it is
        gone."""
        if self._process is None:
            return None
        try:
            with open(f"/proc/{self._process.pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            cpu = time.clock_gettime(_cpu_clock(self._process.pid))
        except OSError:
            return None
        usage = self.leaf.usage()
        return usage.cpu_s or cpu, usage.throttled_s, int(fields[7]) + int(fields[9])

    def _full(self) -> dict[str, object]:
        facts: dict[str, object] = {}
        before, now = self._before, self._counters()
        if before is not None and now is not None:
            facts["CPU Time"] = f"{(now[0] - before[0]) * 1e3:.2f} ms"
            facts["Throttled"] = f"{(now[1] - before[1]) * 1e3:.2f} ms"
            facts["Page Faults"] = now[2] - before[2]
        if self.tmp:
            facts["Tmp Used"] = f"{self.tmp_used / _MIB:.1f} MB"
        elif self._process is not None and self.generation.isolated:
            with contextlib.suppress(OSError):
                space = os.statvfs(f"/proc/{self._process.pid}/root/tmp")
                facts["Tmp Used"] = f"{(space.f_blocks - space.f_bfree) * space.f_frsize / _MIB:.1f} MB"
        facts["Enforcement"] = self.generation.enforcement
        facts["Stages"] = ",".join(f"{name}={value:.0f}us" for name, value in self.stages.items())
        return facts

    # --- death ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Kill the worker and all it started. The pool hears :meth:`Pool.gone` when everything has been released."""
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self.pool.leaving(self)
        self._kill()

    def _kill(self) -> None:
        if not self.generation.isolated and (pids := self.pids):
            kill_below(pids)
        keeper = self.nest.keeper if self.nest is not None else self._keeper
        for process in (keeper, self._process):
            if process is not None:
                with contextlib.suppress(SandboxFault):  # and if one cannot be killed, kill the other
                    process.kill()

    def _hear_out(self) -> None:
        """Read what a dead or dying worker has still said."""
        while self._invocation is not None or self.state is State.STARTING:
            before = (self._invocation, self.state)
            self._on_channel()
            if (self._invocation, self.state) == before:
                break

    def _on_exit(self) -> None:
        """The worker is dead. What it said before is still in the channel, and comes first."""
        process = self._process
        assert process is not None
        self._hear_out()
        exit_ = process.reap()
        if exit_ is None:
            return
        self._dead = True
        self._loop.remove_reader(process.pidfd)
        invocation = self._invocation
        starting = self.state is State.STARTING
        fault = None
        if invocation is not None or starting:
            request_id = invocation.request_id if invocation is not None else ""
            fault = self._death(request_id, exit_)
        if invocation is not None and fault is not None:
            self._answer_fault(fault)
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self.pool.leaving(self)
        self._log_pipe.drain()
        self._kill()  # what the worker started, if its keeper still holds it
        self._release()
        try:
            if starting and fault is not None:
                self.pool.launch_failed(fault)
        finally:
            self.pool.gone(self)

    def _on_out_of_memory(self) -> None:
        """The kernel kills for this leaf's limit: the worker, or something that it started.

        Giving hundreds of megabytes back takes a dying worker its time: CPU time, of which a small function has little.
        So one that is doomed goes at full speed, and its caller does not wait for that: nothing undoes a SIGKILL.
        """
        if self.leaf.ran_out():
            self._looks = _DOOM_LOOKS
            self._look_for_doom()

    def _look_for_doom(self) -> None:
        if self._process is None or self._process.pidfd < 0 or self._looks <= 0:
            return
        if doomed(self._process.pid):
            self._looks = 0
            with contextlib.suppress(OSError):
                self.leaf.set_cpu(0.0)
            self._hear_out()
            if self._invocation is not None and self.leaf.oom_kills():
                killed = Exit(os.CLD_KILLED, signal.SIGKILL)
                self._answer_fault(faults.exited(self._invocation.request_id, killed, out_of_memory=True))
                self.end()
        else:  # told before the one to kill is chosen
            self._looks -= 1
            self._loop.call_later(_DOOM_LOOK_S, self._look_for_doom)

    def _death(self, request_id: str, exit_: Exit) -> Fault:
        out_of_memory = exit_.signal == 9 and (self._overstepped or self.leaf.oom_kills() > 0)
        return faults.exited(request_id, exit_, out_of_memory=out_of_memory)

    def _release(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._loop.remove_reader(self._sock.fileno())
        if self.leaf.oom_fd >= 0:
            self._loop.remove_reader(self.leaf.oom_fd)
        self._sock.close()
        self._log_pipe.close()
        self.log.close()
        if self._process is not None:
            self.pool.host.children.discard(self._process.pid)
            self._process.close()
        if self.tmp:
            self.pool.host.expect_strays()
        if self._keeper is not None:
            self._keeper.close()
        self.generation.take_back(self)

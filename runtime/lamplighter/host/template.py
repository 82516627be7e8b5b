"""A template as the host sees it: its process, the control socket it is spoken to by, and its log.

:mod:`lamplighter.template.server` has the messages. What a template says is not believed: it runs user code, which may
have found the socket. One that breaks the protocol is killed, and so loses itself, nobody else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lamplighter.host.environment import Environment, timings
from lamplighter.host.log_pipe import LogPipe
from lamplighter.host.report import InvocationLog
from lamplighter.sandbox.native import Process
from lamplighter.sandbox.processes import child_of_ours, kill_below, runs_as
from lamplighter.template.server import LEARNED, MESSAGE_LIMIT, REQUEST
from lamplighter.worker.channel import receive_descriptors

if TYPE_CHECKING:
    from lamplighter.host.generation import Generation

REFUSALS = 3
"""Forks that may fail one after the other before the template is taken to be broken."""
_FIRST_PID, _PIDS = 100, 30_000
"""Workers get pids of their own: libraries (OpenSSL's generator is one) tell a fork by a changed pid."""


class Request(NamedTuple):
    """A fork asked for: the environment that is to come of it, and the worker's ends of its channel and its log."""

    environment: Environment
    channel: socket.socket
    log: int

    def close(self) -> None:
        """Close the worker's ends: it has them now, or there is no worker."""
        self.channel.close()
        os.close(self.log)


class Template:
    """Made once its process runs; from then on it reports to its generation.

    ``owner`` is the host uid that it and its workers run as, -1 where that is not checked.
    """

    def __init__(
        self,
        generation: Generation,
        process: Process,
        control: socket.socket,
        log_fd: int,
        log: InvocationLog,
        owner: int,
    ) -> None:
        self._generation, self._owner = generation, owner
        self._host = generation.pool.host
        self._loop = self._host.loop
        self._process: Process | None = process
        self._control = control
        self._log = log
        self._requests: deque[Request] = deque()
        self._refusals = 0
        self._next_pid = _FIRST_PID + secrets.randbelow(_PIDS)
        self.deaf = False
        """Whether it has died, even if its end has not been noticed yet: it takes no request."""
        self._host.children.add(process.pid)
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._on_control)
        self._log_pipe = LogPipe(self._loop, log_fd, log, 0.0)
        self._loop.add_reader(process.pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        """0 once it has been reaped."""
        return self._process.pid if self._process is not None else 0

    @property
    def requests(self) -> int:
        """Requests that it has not replied to yet."""
        return len(self._requests)

    # --- what it is told --------------------------------------------------------------------------------------------

    def ask(self, request: Request, stream: str, flags: int, placement: Sequence[int]) -> None:
        """Ask for a worker, which ``placement`` (descriptors) says where to put.

        The environment hears of the reply, or that there is none. Raises ``OSError``; see :meth:`lost_to`.
        """
        if self._process is None:
            # A worker that is being born may hold the socket's other end still, and would take what nobody reads.
            raise BrokenPipeError(errno.EPIPE, "the template has died")
        self._next_pid = _FIRST_PID + (self._next_pid - _FIRST_PID + 1) % _PIDS
        message = REQUEST.pack(self._next_pid, flags) + stream.encode()
        socket.send_fds(self._control, [message], [request.channel.fileno(), request.log, *placement])
        self._requests.append(request)

    def lost_to(self, fault: OSError) -> bool:
        """Whether a request failed because it has died; its pidfd will say so."""
        if fault.errno not in (errno.EPIPE, errno.ECONNRESET):
            return False
        self.deaf = True
        return True

    def teach(self, ranges: bytes) -> None:
        """Tell it the pages that workers write to by their first answer."""
        with contextlib.suppress(OSError):  # workers then take their faults one by one
            self._control.send(REQUEST.pack(0, LEARNED) + ranges)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def kill_all(self) -> None:
        """Kill it and, where no pid namespace ends with it, all that it started."""
        if self._process is not None:
            kill_below([self._process.pid])
            self._process.kill()

    def give_up(self, reason: str) -> None:
        """Kill it: what it cannot or will not do, another will."""
        if self._process is not None:
            self._host.log.line(f"ending the template: {reason}", self._generation.pool.config.name, "WARN")
            self._process.kill()

    # --- what it says -----------------------------------------------------------------------------------------------

    def _on_control(self) -> bool:
        """Take one message; false if there is none."""
        try:
            message, fds = receive_descriptors(self._control, MESSAGE_LIMIT, 4)
        except BlockingIOError:
            return False
        except OSError:
            message, fds = b"", []
        if not message:
            self._loop.remove_reader(self._control.fileno())
            return False
        try:
            said = orjson.loads(message)
            if not self._generation.on_outcome(said):
                if not self._requests:
                    raise ValueError("it was not asked anything")
                handed, fds = fds, []
                self._on_forked(said, handed)
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            self.give_up(f"it broke its protocol: {fault}")
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _on_forked(self, said: dict[str, Any], fds: list[int]) -> None:
        request = self._requests.popleft()
        request.close()
        environment = request.environment
        try:
            if not isinstance(said, dict) or ("fault" not in said and not fds):
                raise ValueError("a reply without a worker")
            if "fault" not in said:
                pid = child_of_ours(fds[0], self._owner)
                keeper = Process(0, fds[1]) if len(fds) > 1 and runs_as(fds[1], self._owner) else None
                stages = timings(said["stages"])
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as fault:
            for fd in fds:
                os.close(fd)
            environment.stillborn(f"the template broke its protocol: {fault}")
            raise ValueError(str(fault)) from fault
        if "fault" in said:
            for fd in fds:
                os.close(fd)
            environment.stillborn(str(said["fault"]))
            self._refusals += 1
            if self._refusals >= REFUSALS:
                self.give_up("it cannot fork any more")
            return
        self._refusals = 0
        for fd in fds[2 if keeper else 1 :]:
            os.close(fd)
        environment.born(Process(pid, fds[0]), keeper, stages)
        self._generation.pool.launch_more()

    def drain_log(self) -> None:
        self._log_pipe.drain()

    # --- its end ----------------------------------------------------------------------------------------------------

    def _on_exit(self) -> None:
        process = self._process
        assert process is not None
        while self._on_control():
            pass  # its last words: an outcome, or workers that live on without it
        exit_ = process.reap()
        if exit_ is None:
            return
        self._loop.remove_reader(process.pidfd)
        self._host.children.discard(process.pid)
        process.close()
        self._process = None
        self.deaf = True
        self._log_pipe.drain()
        self._log.close()
        self._generation.on_template_exit(exit_)

    def abandon_requests(self) -> None:
        """It is dead, and replies to nothing that it was still asked."""
        while self._requests:
            request = self._requests.popleft()
            request.close()
            request.environment.stillborn("")

    def close(self) -> None:
        """Let go of a dead template's socket and log, which children of its own may still have open."""
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._log_pipe.close()

"""The template's life after init: warm, check, freeze, and fork on request.

The control socket (``SOCK_SEQPACKET``) carries, from the template once, its :class:`Outcome` as JSON; then, for each
request of the host, one reply as JSON:

request
    ``u32 pid`` (the worker's, in its namespace), ``u8 flags``, then the log stream's name; with the descriptors
    channel, log, and whatever the fork needs to place the worker. Or, with :data:`LEARNED`, the pages that workers
    write to by their first answer (see :mod:`lamplighter.template.pages`): no descriptors, and no reply.
reply
    ``{"pid": host-side pid, "stages": {name: microseconds}}`` with the descriptors worker pidfd and, where there is a
    pid namespace, keeper pidfd; or ``{"fault": text}``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from lamplighter.template import hooks, restore
from lamplighter.worker.channel import ERROR, receive_descriptors, receive_reply, send_event, send_reply
from lamplighter.worker.context import current
from lamplighter.worker.errors import Frame, frames_of, message_of, payload, stack_trace_of
from lamplighter.worker.loop import invoke_once, serve
from lamplighter.worker.transport import ChannelTransport, Pages

REQUEST = struct.Struct("<IB")
COPY_AHEAD = 1
"""Flag: the worker copies the learned pages at birth."""
LEARNED = 2
"""Flag: this is no request; what follows are the learned pages."""
MESSAGE_LIMIT = 65_536
_MOST_DESCRIPTORS = 16
_REHEARSALS = 16
"""More than CPython's specialising interpreter wants before it settles (8 in 3.11, fewer later)."""
_TMP = "/tmp"  # noqa: S108 - inside the sandbox it is the function's own
LAUNCH_FAULT = "Sandbox.Failure"


class Forked(NamedTuple):
    """What the caller's fork returns; see :class:`lamplighter.sandbox.fork.Forked`, one such."""

    pid: int
    pidfd: int
    keeper_pidfd: int
    stages: dict[str, float]
    problem: Exception | None


Fork = Callable[[int, Sequence[int], bytes], Forked]
"""``fork(pid, descriptors, pages)``: fork this process as ``os.fork`` does; the descriptors are those that came with
the request after the channel and the log, and say where the worker belongs; the pages are for it to copy at once."""


def warm_up(handler: Callable[..., Any], events: Sequence[bytes]) -> None:
    """Run recorded events through the real handler, so that what it does first is done before the freeze.

    A failing event does not fail the function: its fault is printed to the function's log, and the next event runs.
    """
    for number, body in enumerate(events, 1):
        try:
            invoke_once(handler, body, request_id=f"warm-up-{number}")
        except Exception as fault:
            print(f"lamplighter: warm-up event {number} failed: {type(fault).__name__}: {fault}", flush=True)


def rehearse() -> None:
    """Run the runtime's own path (channel, codec, context, loop) a few times with a handler that does nothing.

    What Python prepares on first use, such as specialised bytecode, is then prepared for every worker; without it even
    a trivial handler's first invocation copies pages for it. No user code runs.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    with ours, theirs:
        for number in range(1, _REHEARSALS + 1):
            body = b'{"key": ["text", 1, 2.5, true, null], "other": {"nested": "\\u00e9"}}'
            send_event(ours, number, 2**41, body, f"rehearsal-{number}", "arn", "Root=1")
        ours.shutdown(socket.SHUT_WR)
        serve(
            lambda event, context: {"event": event, "left": context.get_remaining_time_in_millis()},
            ChannelTransport(theirs),
        )
        for _ in range(_REHEARSALS):
            receive_reply(ours)
    if trace is None:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    else:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    current.request_id = ""


def fault_payload(fault: BaseException) -> dict[str, Any]:
    """The error payload of an exception outside any invocation (a hook's)."""
    frames: list[Frame] = frames_of(fault) if isinstance(fault, Exception) else []
    return dict(payload(message_of(fault), type(fault).__name__, stack_trace_of(frames)))


class ForkServer:
    """Forks workers from this process until the host closes the control socket.

    Guarantees: one reply for each request, whose descriptors prove that the worker exists; nothing of the template's
    own (control socket, descriptors of other launches) is open in a worker; a worker never returns from
    :meth:`serve` into the template's code, it ends there.
    """

    def __init__(
        self,
        control: socket.socket,
        handler: Callable[..., Any],
        fork: Fork,
        keep: Sequence[int],
        pages: Pages | None = None,
    ) -> None:
        """``keep``: descriptors of the runtime that the template needs and no worker may have."""
        self._control = control
        self._handler = handler
        self._fork = fork
        self._keep = keep
        self._pages = pages
        self._learned = b""
        self._files = restore.regular_files((control.fileno(), *keep))
        self._tmp = -1
        with contextlib.suppress(OSError):
            if os.listdir(_TMP):
                self._tmp = os.open(_TMP, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def serve(self) -> None:
        """Returns when the host has gone."""
        # Keepers are this process's children; ignoring SIGCHLD makes the kernel reap them.
        disposition = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            message, fds = receive_descriptors(self._control, MESSAGE_LIMIT, _MOST_DESCRIPTORS)
            if not message:
                return
            began = time.perf_counter()
            pid, flags = REQUEST.unpack_from(message)
            if flags & LEARNED:
                self._learned = message[REQUEST.size :]
                continue
            try:
                forked = self._fork(pid, fds[2:], self._learned if flags & COPY_AHEAD else b"")
            except OSError as fault:
                self._reply({"fault": str(fault)}, [])
            else:
                if forked.pid == 0:
                    signal.signal(signal.SIGCHLD, disposition)
                    self._become_worker(message[REQUEST.size :].decode(), fds, forked, began)
                sent = [fd for fd in (forked.pidfd, forked.keeper_pidfd) if fd >= 0]
                self._reply({"pid": forked.pid, "stages": forked.stages}, sent)
                fds += sent
            for fd in fds:
                os.close(fd)

    def _reply(self, message: dict[str, Any], fds: list[int]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [json.dumps(message).encode()], fds)

    def _become_worker(self, log_stream: str, fds: list[int], forked: Forked, began: float) -> NoReturn:
        channel = socket.socket(fileno=fds[0])
        self._control.close()
        os.dup2(fds[1], 1)
        os.dup2(fds[1], 2)
        for fd in (*fds[1:], *self._keep):
            os.close(fd)
        os.environ["AWS_LAMBDA_LOG_STREAM_NAME"] = log_stream
        if forked.problem is not None:
            fail_launch(channel, str(forked.problem))
        stages = forked.stages
        try:
            restore.reopen_files(self._files)
            if self._tmp >= 0 and os.stat(_TMP).st_dev != os.fstat(self._tmp).st_dev:
                restore.copy_tmp(self._tmp)
        except OSError as fault:
            fail_launch(channel, f"cannot copy the template's files: {fault}")
        if self._tmp >= 0:
            os.close(self._tmp)
        restore.reseed()
        transport = ChannelTransport(channel, self._pages)
        hooking = time.perf_counter()
        try:
            hooks.run_after_restore()
        except Exception as fault:
            body = fault_payload(fault)
            print(f"[ERROR] {body['errorType']}: {body['errorMessage']}", flush=True)
            transport.init_failed(json.dumps(body).encode(), "Runtime.AfterRestoreError")
            os._exit(65)
        gc.enable()
        now = time.perf_counter()
        stages["hooks"] = (now - hooking) * 1e6
        stages["worker"] = (now - began) * 1e6
        transport.ready(json.dumps(stages).encode())
        serve(self._handler, transport)
        sys.exit(0)


def fail_launch(channel: socket.socket, reason: str) -> NoReturn:
    """Tell the host that this worker could not be made as it must be, and end."""
    body = json.dumps({"errorMessage": reason, "errorType": LAUNCH_FAULT}).encode()
    with contextlib.suppress(OSError):
        send_reply(channel, ERROR, 0, body, LAUNCH_FAULT)
    os._exit(71)

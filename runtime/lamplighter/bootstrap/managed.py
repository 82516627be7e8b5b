"""Workers forked from one initialised process: for Managed Instances, and for functions that are to survive a crash.

``AWS_LAMBDA_MAX_CONCURRENCY=N`` asks for N pollers, ``LAMPLIGHTER_FORK=1`` for one. Init runs once, in this process;
then come warm-up events, before-snapshot hooks, the look for what a fork would break, and the freeze. Where there is
something, it is named, this program executes itself anew, and each worker runs init for itself, as with awslambdaric.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

from lamplighter.bootstrap.answer import ClientFault
from lamplighter.bootstrap.client import Refused, RuntimeClient
from lamplighter.bootstrap.inherited import InheritedClient
from lamplighter.bootstrap.main import Settings, UsageFault, choose_encoding
from lamplighter.bootstrap.notes import Memory
from lamplighter.bootstrap.pool_transport import PoolTransport
from lamplighter.bootstrap.snapshot import AFTER_RESTORE_EXIT, BEFORE_SNAPSHOT_EXIT
from lamplighter.bootstrap.supervisor import Supervisor, Task
from lamplighter.bootstrap.transport import give_up, say
from lamplighter.template import heap, hooks, restore, safety
from lamplighter.template.server import warm_up
from lamplighter.worker import ending, errors
from lamplighter.worker.context import current
from lamplighter.worker.handler import InitFault
from lamplighter.worker.initialise import initialise, report_init_fault
from lamplighter.worker.loop import serve
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamplighter.worker.handler import Handler

CONCURRENCY = "AWS_LAMBDA_MAX_CONCURRENCY"
FORK = "LAMPLIGHTER_FORK"
_RECYCLE = "LAMPLIGHTER_RECYCLE_AFTER"
_WARM_UP = "LAMPLIGHTER_WARM_UP"
_LOG_SOCKET = "_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET"
_TELEMETRY = "_LAMBDA_TELEMETRY_LOG_FD"
_APART = "_LAMPLIGHTER_INIT_APART"
"""Set for the second execution of this program, once the first has found that init cannot be shared."""
_MOST_WORKERS = 1600
"""The most that Managed Instances allow an environment (``PerExecutionEnvironmentMaxConcurrency``)."""


class PoolSettings:
    """What the environment says of the pool. Raises :class:`~lamplighter.bootstrap.main.UsageFault`."""

    __slots__ = ("apart", "log_socket", "managed", "recycle_after", "warm_up", "workers")

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.managed = CONCURRENCY in environ
        self.workers = _number(environ, CONCURRENCY, _MOST_WORKERS) if self.managed else 1
        self.recycle_after = _number(environ, _RECYCLE, 2**53) if environ.get(_RECYCLE) else 0
        self.warm_up = [name for name in environ.get(_WARM_UP, "").split(os.pathsep) if name]
        self.log_socket = environ.get(_LOG_SOCKET, "") if self.managed else ""
        self.apart = _APART in environ


def _number(environ: Mapping[str, str], name: str, most: int) -> int:
    text = environ[name]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise UsageFault(f"{name} must be a whole number from 1 to {most}, got {text!r}")
    return int(text)


def run(settings: Settings, client: RuntimeClient) -> int:
    """Serve from forked workers. Returns in a worker, with its status; the supervisor ends the process itself.

    Raises :class:`~lamplighter.bootstrap.client.ClientFault`.
    """
    gc.disable()  # what is collected before the freeze is a hole that each worker copies a page for later
    began = _Beginning()
    pool = PoolSettings(os.environ)
    os.environ.pop(_APART, None)
    events = [_event(name) for name in pool.warm_up]
    handler: Handler | None = None
    if not pool.apart:
        try:
            handler = initialise(settings.handler, before_import=lambda: _announce(pool))
        except InitFault as fault:
            _init_failed(client, report_init_fault(fault), fault.error_type)
            return 1
        choose_encoding(settings)
        warm_up(handler, events)
        try:
            hooks.run_before_snapshot()
        except (Exception, SystemExit) as fault:
            _init_failed(client, _logged(fault), "Runtime.BeforeSnapshotError")
            return BEFORE_SNAPSHOT_EXIT
        found = safety.lasting_obstacles(began.descriptors, alone=False)
        if found:
            for obstacle in found:
                say(f"init is not shared, since a fork would break what it made: {obstacle}")
            began.again(with_fork=not settings.snapshot)
        if settings.snapshot:
            try:
                client.restore_next()
            except ClientFault as fault:
                _init_failed(client, _logged(fault), "Runtime.BeforeSnapshotError")
                return BEFORE_SNAPSHOT_EXIT
    one_send = client.takes_one_send() if settings.one_send is None else settings.one_send
    client.close()
    files = restore.regular_files(began.descriptors)
    try:
        memory = Memory(pool.workers)
    except OSError as fault:
        raise UsageFault(f"cannot make {pool.workers} places for workers: {fault.strerror}") from None
    heap.freeze()
    task = Supervisor(memory).run()
    return _work(settings, pool, task, handler, files, one_send)


class _Beginning:
    """What this process was before any code of the function's ran, to be that again."""

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        self._directory = os.getcwd()
        telemetry = self._environ.get(_TELEMETRY, "")
        self.descriptors = frozenset((0, 1, 2, *([int(telemetry)] if telemetry.isdigit() else [])))
        """Those that are the platform's."""

    def again(self, *, with_fork: bool) -> NoReturn:
        """Execute this program anew: with each worker to run init for itself, or in one process without a fork."""
        for child in safety.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in self.descriptors:
                with contextlib.suppress(OSError):
                    os.set_inheritable(int(name), False)
        if with_fork:
            self._environ[_APART] = "1"
        else:
            self._environ.pop(FORK, None)
        os.chdir(self._directory)
        os.execve(sys.executable, sys.orig_argv, self._environ)  # noqa: S606 - what this process was started by


def _announce(pool: PoolSettings) -> None:
    """The line by which AWS's client says that it makes a pool."""
    if pool.managed:
        import logging  # noqa: PLC0415 - it is loaded at this point

        logging.getLogger().debug(
            {
                "event": "runtime_worker_pool_initializing",
                "workerCount": pool.workers,
                "executionEnvironmentMaxConcurrency": pool.workers,
            }
        )


def _event(name: str) -> bytes:
    """A recorded event, from a file that is named in full or as it lies in the function's code."""
    path = os.path.join(os.environ.get("LAMBDA_TASK_ROOT", ""), name)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as fault:
        raise UsageFault(f"{_WARM_UP} names {path}: {fault.strerror}") from None


def _work(
    settings: Settings, pool: PoolSettings, task: Task, handler: Handler | None, files: list[int], one_send: bool
) -> int:
    """A worker's life; its exit status."""
    if pool.log_socket:
        _redirect(pool.log_socket)
    client = InheritedClient(settings.address, task.place)
    try:
        # First of all: somebody waits for this.
        _answer_for_predecessor(client, task)
        if handler is None:
            gc.enable()
            try:
                handler = initialise(settings.handler)
            except InitFault as fault:
                body = report_init_fault(fault)
                if task.first:
                    _init_failed(client, body, fault.error_type)
                return 1
            choose_encoding(settings)
        else:
            restore.reopen_files(files)
            restore.reseed()
            try:
                hooks.run_after_restore()
            except (Exception, SystemExit) as fault:
                body = _logged(fault)
                if task.first:
                    _init_failed(client, body, "Runtime.AfterRestoreError")
                return AFTER_RESTORE_EXIT
            gc.enable()
        serve(
            handler,
            PoolTransport(
                client,
                one_send=one_send,
                exact=settings.strict,
                streaming=settings.streaming,
                most=pool.recycle_after,
                managed=pool.managed,
            ),
        )
    except ClientFault as fault:
        return give_up(fault)
    return 0


def _redirect(path: str) -> None:
    """Standard output and error to the platform's log, each by a connection of its own."""
    for fd in (1, 2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            os.dup2(connection.fileno(), fd)


def _answer_for_predecessor(client: InheritedClient, task: Task) -> None:
    left = client.take_over()
    if left is None:
        return
    message = f"RequestId: {left.request_id} Error: {task.reason}"
    current.request_id = left.request_id
    say(message)
    current.request_id = ""
    try:
        client.fail(left, ending.body(message), ending.EXIT_ERROR)
    except Refused:
        # It was answered after all, or its time was up.
        client.settled()


def _init_failed(client: RuntimeClient, body: bytes, error_type: str) -> None:
    try:
        client.init_error(body, error_type)
    except Refused as refusal:
        if refusal.status != 403:  # another worker was first
            raise


def _logged(fault: BaseException) -> bytes:
    trace = errors.stack_trace_of(errors.frames_of(fault))
    payload = errors.payload(errors.message_of(fault), type(fault).__name__, trace)
    errors.log_fault(payload, output)
    return errors.body_of(payload, output)

"""One worker's life: init, the snapshot where there is one, invocations until the platform ends the process.

Exit statuses: 1 after an init fault or a fault of the Runtime API, 64 and 65 after a failed hook before a snapshot or
after a restore (as AWS's client has them), and whatever the function's own code ends the process with.
"""

from __future__ import annotations

import os
import sys

from lamplighter.bootstrap.answer import ClientFault
from lamplighter.bootstrap.client import RuntimeClient
from lamplighter.bootstrap.transport import RuntimeAPITransport, give_up
from lamplighter.worker.handler import InitFault
from lamplighter.worker.initialise import initialise, report_init_fault
from lamplighter.worker.loop import serve
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UsageFault(ClientFault):
    """The environment or the arguments do not say what to run, or for whom."""


class Settings:
    """What the arguments and the environment say. Raises :class:`UsageFault` or another :class:`ClientFault`."""

    __slots__ = ("address", "fork", "handler", "one_send", "snapshot", "streaming", "strict")

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self.handler = argv[1] if len(argv) > 1 else environ.get("_HANDLER", "")
        if not self.handler:
            raise UsageFault("no handler: name it as an argument, as in 'python -m lamplighter.bootstrap app.handler'")
        self.address = environ.get("AWS_LAMBDA_RUNTIME_API", "")
        if not self.address:
            raise UsageFault(
                "AWS_LAMBDA_RUNTIME_API is not set: this program is started by AWS Lambda, or by something that stands "
                "in for it, such as AWS's emulator"
            )
        fork = environ.get("LAMPLIGHTER_FORK", "")
        if fork not in {"", "0", "1"}:
            raise UsageFault(f"LAMPLIGHTER_FORK may be '0' or '1', got {fork!r}")
        self.fork = fork == "1"
        self.snapshot = environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"
        strict = environ.get("LAMPLIGHTER_STRICT", "")
        if strict not in {"", "awslambdaric"}:
            raise UsageFault(f"LAMPLIGHTER_STRICT may be 'awslambdaric', got {strict!r}")
        self.strict = bool(strict)
        one_send = environ.get("LAMPLIGHTER_ONE_SEND", "")
        if one_send not in {"", "0"}:
            raise UsageFault(f"LAMPLIGHTER_ONE_SEND may be '0', got {one_send!r}")
        self.one_send = None if one_send == "" else False
        mode = environ.get("LAMPLIGHTER_RESPONSE_MODE", "streaming")
        if mode not in {"streaming", "buffered"}:
            raise UsageFault(f"LAMPLIGHTER_RESPONSE_MODE may be 'streaming' or 'buffered', got {mode!r}")
        self.streaming = mode == "streaming"


def main(argv: Sequence[str]) -> int:
    """Serve until there is an end to it; the exit status."""
    if sys.path[:1] == [""]:
        sys.path[0] = os.getcwd()  # started by -c, which is 4 ms faster than -m, whose path this is
    try:
        settings = Settings(argv, os.environ)
        client = RuntimeClient(settings.address)
    except ClientFault as fault:
        return give_up(fault)
    try:
        if "AWS_LAMBDA_MAX_CONCURRENCY" in os.environ or settings.fork:
            from lamplighter.bootstrap import managed  # noqa: PLC0415 - a single process has no use for it

            return managed.run(settings, client)
        return run(settings, client)
    except ClientFault as fault:
        return give_up(fault)


def choose_encoding(settings: Settings) -> None:
    """Decide whether results are written in ASCII."""
    if not settings.strict and "AWS_EXECUTION_ENV" not in os.environ:
        # As AWS's managed runtime of this Python writes results. Nobody sets the variable for a custom runtime.
        output.ascii_only = sys.version_info < (3, 12)


def transport_for(settings: Settings, client: RuntimeClient) -> RuntimeAPITransport:
    """The transport as the settings want it."""
    return RuntimeAPITransport(client, one_send=settings.one_send, exact=settings.strict, streaming=settings.streaming)


def run(settings: Settings, client: RuntimeClient) -> int:
    """Init and serve in this process. Raises :class:`ClientFault` when the Runtime API ends it."""
    try:
        handler = initialise(settings.handler, logging_late=True)
    except InitFault as fault:
        client.init_error(report_init_fault(fault), fault.error_type)
        return 1
    choose_encoding(settings)
    if settings.snapshot:
        from lamplighter.bootstrap.snapshot import through_snapshot  # noqa: PLC0415 - few functions have one

        status = through_snapshot(client)
        if status:
            return status
    serve(handler, transport_for(settings, client))
    return 0

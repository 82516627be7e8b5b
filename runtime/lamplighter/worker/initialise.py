"""The init phase: what happens once a process, before any event.

:func:`initialise` sets up the streams and the logging and imports the handler; what it raises, and that alone, goes to
:func:`report_init_fault`, whose body goes to the platform. Then the process ends with status 1, as on Lambda.
"""

from __future__ import annotations

import io
import os
import sys

from lamplighter.events import decode, reader_of
from lamplighter.worker import errors
from lamplighter.worker.handler import InitFault, resolve
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamplighter.worker.handler import Handler

# The line AWS's runtime writes before an init fault; tools match on it, so it is theirs to the byte.
_INIT_WARNING = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. However, in rare "
    "cases, a Lambda runtime update can cause unexpected function behavior. For functions using managed runtimes, "
    "runtime updates can be triggered by a function change, or can be applied automatically. To determine if the "
    "runtime has been updated, check the runtime version in the INIT_START log entry. If this error correlates with a "
    "change in the runtime version, you may be able to mitigate this error by temporarily rolling back to the previous "
    "runtime version. For more information, see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
)


def initialise(handler_name: str, *, logging_late: bool = False) -> Handler:
    """Set up this process and import ``handler_name``. Configured by ``os.environ`` alone, once a process.

    ``logging_late``: set logging up when it is first imported, not now. For a process that serves; a template had
    better import it once for all its workers. ``sys.path`` is the caller's business. Raises :class:`InitFault` for
    whatever ``Exception`` the handler's module raises; ``SystemExit`` and its kind pass through.
    """
    _unbuffer()
    output.configure(os.environ)
    # As it is now: what the function's code does to its environment does not reconfigure the runtime.
    level = {"AWS_LAMBDA_LOG_LEVEL": os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")}
    if logging_late:
        from lamplighter.worker.late_logging import when_imported  # noqa: PLC0415 - only this mode has a use for it

        when_imported(lambda: _set_up_root_logger(level))
    else:
        _set_up_root_logger(level)
    try:
        handler = resolve(handler_name)
        reader_of(handler, decode)  # a typed handler's type is found, or found wrong, before any event
        return handler
    except InitFault:
        raise
    except Exception as fault:
        trace = errors.stack_trace_of(errors.frames_of(fault))
        raise InitFault(type(fault).__name__, errors.message_of(fault), trace) from fault


def report_init_fault(fault: InitFault) -> bytes:
    """Write the log lines of an init fault, and return its JSON payload."""
    import logging  # noqa: PLC0415 - as above

    logging.warning(_INIT_WARNING)
    payload = errors.payload(fault.message, fault.error_type, fault.stack_trace)
    errors.log_fault(payload, output)
    return errors.body_of(payload, output)


def _set_up_root_logger(environ: dict[str, str]) -> None:
    from lamplighter.worker import logs  # noqa: PLC0415 - it imports logging, and this is where that is due

    logs.set_up_root_logger(environ)


def _unbuffer() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` write at once, as ``python -u`` does.

    A worker can be killed at any instruction, and what it printed must not die with it.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BufferedWriter):
            stream.flush()
            raw = io.FileIO(stream.fileno(), "w", closefd=False)
            unbuffered = io.TextIOWrapper(
                raw,
                encoding=stream.encoding,
                errors=stream.errors,
                newline="\n",
                write_through=True,
            )
            setattr(sys, name, unbuffered)

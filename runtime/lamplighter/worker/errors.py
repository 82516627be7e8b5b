"""What a fault looks like: to the caller, in the log, and to X-Ray. Shapes as observed on awslambdaric 4.2.2."""

from __future__ import annotations

import os
import time

from lamplighter.events import CodecFault, encode
from lamplighter.worker.output import ERROR, JSON, TEXT, Output, frame_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypedDict

    class Payload(TypedDict):
        """The error as the caller gets it, keys in this order."""

        errorMessage: str
        errorType: str
        requestId: str
        stackTrace: list[str]


Frame = tuple[str, int | None, str, str | None]
"""File name, line number, function name, source line."""


class NamedFault(Exception):
    """A fault that Lambda has a name for: ``error_type``. ``str()`` of it is the ``errorMessage``."""

    error_type = "Runtime.Unknown"


_OWN = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")

# Lambda's own runtime shows the frames' indentation as no-break spaces: CloudWatch would trim others.
_INDENT = "\u00a0"


def payload(message: str, error_type: str, stack_trace: list[str], request_id: str = "") -> Payload:
    """The error as the caller gets it. An init fault has no request id."""
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": stack_trace}


def report(fault: Exception, request_id: str, output: Output) -> tuple[bytes, str, bytes]:
    """Log what went wrong with an invocation; its payload as it is sent, its type, and the cause for X-Ray."""
    frames: list[Frame] = []
    message = message_of(fault)
    if isinstance(fault, CodecFault | NamedFault):
        error_type, cause_type = fault.error_type, "LambdaValidationError"
    else:
        error_type = cause_type = type(fault).__name__
        frames = frames_of(fault)
    error = payload(message, error_type, stack_trace_of(frames), request_id)
    try:  # noqa: SIM105 - contextlib is an import that only this would need
        log_fault(error, output)
    except Exception:  # noqa: S110 - the handler may have closed its streams: the caller is told all the same
        pass
    return body_of(error, output), error_type, xray_cause(cause_type, message, frames, ascii_only=output.ascii_only)


def body_of(error: Payload, output: Output) -> bytes:
    """The payload as it is sent."""
    return encode(error, ascii_only=output.ascii_only)[0]


def message_of(exception: BaseException) -> str:
    """``str(exception)``; an exception whose ``__str__`` fails gets a message that says so."""
    try:
        return str(exception)
    except Exception as fault:
        return f"<{type(exception).__name__} whose __str__ raised {type(fault).__name__}>"


def frames_of(exception: BaseException) -> list[Frame]:
    """The exception's frames, outermost first, without the leading ones that are Lamplighter's own.

    Where there are none but our own, they stay: they show the call that failed.
    """
    from traceback import extract_tb  # noqa: PLC0415 - 4 ms that only a fault needs

    trace: TracebackType | None = exception.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OWN):
        trace = trace.tb_next
    summary = extract_tb(trace or exception.__traceback__)
    return [(frame.filename, frame.lineno, frame.name, frame.line) for frame in summary]


def stack_trace_of(frames: list[Frame]) -> list[str]:
    """One string a frame, each with its line end. Repeated frames are counted, not shown."""
    from traceback import format_list  # noqa: PLC0415 - see frames_of

    # Tuples, not frame summaries: Lambda's traces have no line of carets.
    return format_list([(file, line or 0, name, source) for file, line, name, source in frames])


def xray_cause(error_type: str, message: str, frames: list[Frame], *, ascii_only: bool) -> bytes:
    """The JSON of the header ``Lambda-Runtime-Function-XRay-Error-Cause``."""
    stack = [{"label": name, "path": file, "line": line} for file, line, name, _ in frames]
    cause = {
        "working_directory": _working_directory(),
        "exceptions": [{"message": message, "type": error_type, "stack": stack}],
        "paths": list(dict.fromkeys(file for file, _, _, _ in frames)),
    }
    return encode(cause, ascii_only=ascii_only)[0]


def log_fault(error: Payload, output: Output) -> None:
    """Write the fault to the log, in the form that is configured."""
    if output.as_json:
        record = {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": "ERROR", **error}
        text = encode(record, ascii_only=output.ascii_only)[0].decode()
        output.sink.log_error([text], frame_type(ERROR, JSON))
    else:
        output.sink.log_error(text_lines(error), frame_type(ERROR, TEXT))


def text_lines(error: Payload) -> list[str]:
    """The lines of the text form: ``[ERROR] Type: message``, then the trace, if only its header."""
    head = "[ERROR]"
    if error["errorType"]:
        head += f" {error['errorType']}"
    if error["errorMessage"]:
        head += f"{':' if error['errorType'] else ''} {error['errorMessage']}"
    lines = [head, "Traceback (most recent call last):"]
    for entry in error["stackTrace"]:
        for line in entry.splitlines() or [""]:
            text = line.lstrip(" ")
            lines.append(_INDENT * (len(line) - len(text)) + text)
    return lines


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the handler removed it
        return ""

"""How the end of a runtime's process is told to the caller whose invocation it took with it: Lambda's words."""

from __future__ import annotations

from lamplighter.events import encode

EXIT_ERROR = "Runtime.ExitError"

_SIGNALS = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
}
"""Names as Go's syscall package has them for Linux, which the service's messages show."""


def reason(*, status: int = 0, signal: int = 0) -> str:
    """Why there is no answer, for a process that ended with ``status``, or by ``signal``."""
    if signal:
        return f"Runtime exited with error: signal: {_SIGNALS.get(signal, f'signal {signal}')}"
    if status:
        return f"Runtime exited with error: exit status {status}"
    return "Runtime exited without providing a reason"


def body(message: str) -> bytes:
    """What the caller gets: the service's payload for a runtime that ended."""
    return encode({"errorType": EXIT_ERROR, "errorMessage": message}, ascii_only=True)[0]

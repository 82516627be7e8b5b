"""What the caller of an invocation gets when the platform, not the handler, ends it: Lambda's payloads, to the byte.

All come back as HTTP 200 with ``X-Amz-Function-Error: Unhandled``, as recorded on the service.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from lamplighter.sandbox.native import Exit
from lamplighter.worker import ending

RESPONSE_LIMIT = 6_291_556
"""Bytes of a response: 6 MiB and 100 (the emulator's source; the number in the service's own message)."""


class Fault(NamedTuple):
    """``status`` and ``error_type`` are for the REPORT, ``body`` for the caller."""

    error_type: str
    body: bytes
    status: str = "error"


def _fault(error_type: str, message: str, status: str = "error") -> Fault:
    return Fault(error_type, orjson.dumps({"errorType": error_type, "errorMessage": message}), status)


def timed_out(request_id: str, timeout_s: float) -> Fault:
    message = f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"
    return _fault("Sandbox.Timedout", message, "timeout")


def exited(request_id: str, exit_: Exit | None, *, out_of_memory: bool) -> Fault:
    """The process ended in the middle of an invocation, or of init.

    Out of memory is told apart by the type the service's REPORT shows, ``Runtime.OutOfMemory``; its text is that of any
    killed process.
    """
    reason = ending.reason(status=exit_.status, signal=exit_.signal) if exit_ else ending.reason()
    return _fault(
        "Runtime.OutOfMemory" if out_of_memory else ending.EXIT_ERROR, f"RequestId: {request_id} Error: {reason}"
    )


def response_too_large() -> Fault:
    message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)."
    return _fault("Function.ResponseSizeTooLarge", message)


def sandbox_failure(request_id: str, reason: str) -> Fault:
    """The host could not give the invocation a sandbox, or its worker broke the protocol."""
    return _fault("Sandbox.Failure", f"RequestId: {request_id} Error: {reason}")

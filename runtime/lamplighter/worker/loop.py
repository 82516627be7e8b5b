"""The loop: next event, decode, handler, encode, answer.

:func:`serve` is the hot path: nothing is imported, looked up in the environment or kept between events that need not
be. Only ``Exception`` is caught. ``sys.exit()``, ``KeyboardInterrupt`` and ``os._exit()`` in a handler end the process
with the status Python gives them, and the platform reports the exit, as on Lambda.
"""

from __future__ import annotations

import os
import sys
import time

from lamplighter.events import CodecFault, decode, encode
from lamplighter.worker import errors
from lamplighter.worker.context import ContextFault, FunctionFacts, LambdaContext, current
from lamplighter.worker.event import Event
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from lamplighter.worker.handler import Handler
    from lamplighter.worker.output import Output
    from lamplighter.worker.transport import Transport

_TRACE_ID = "_X_AMZN_TRACE_ID"
_JSON = "application/json"

LONGEST_TIMEOUT_MS = 900_000
"""The longest timeout Lambda allows a function, from AWS's quotas: the time a warm-up event sees as remaining."""


def serve(handler: Handler, transport: Transport) -> None:
    """Run invocations until the transport has no more. Call it after the fork: it reads the environment."""
    facts = FunctionFacts.read(os.environ)
    environ = os.environ
    while (event := transport.next()) is not None:
        _answer(handler, event, facts, transport, environ)
        # An idle worker must not hold on to its last payload.
        del event


def _answer(
    handler: Handler, event: Event, facts: FunctionFacts, transport: Transport, environ: MutableMapping[str, str]
) -> None:
    current.request_id = event.request_id
    current.tenant_id = event.tenant_id or None
    if event.trace_id:
        environ[_TRACE_ID] = event.trace_id
    elif _TRACE_ID in environ:
        del environ[_TRACE_ID]
    try:
        body, is_json = _run(handler, event, facts)
    except Exception as fault:
        _fail(fault, event, transport, output)
        return
    _flush()
    transport.respond(event, body, is_json)


def _run(handler: Handler, event: Event, facts: FunctionFacts) -> tuple[bytes, bool]:
    context = LambdaContext(event, facts)
    payload = decode(event.body) if event.content_type == _JSON else event.body
    return encode(handler(payload, context), ascii_only=output.ascii_only)


def invoke_once(
    handler: Handler,
    body: bytes,
    *,
    request_id: str,
    function_arn: str = "",
    deadline_ms: int = 0,
    client_context: str = "",
) -> tuple[bytes, bool]:
    """Run one recorded event outside any invocation, to warm the function up; returns what :func:`serve` would send.

    ``deadline_ms`` is in epoch milliseconds; by default the handler sees the longest timeout Lambda allows. Whatever
    the handler raises is the caller's; so are the faults of decoding, encoding and the client context. No log line is
    written but the handler's own, and no trace of the event stays behind.
    """
    deadline = deadline_ms or int(time.time() * 1000) + LONGEST_TIMEOUT_MS
    event = Event(body, request_id, function_arn, deadline, client_context=client_context)
    current.request_id = request_id
    try:
        return _run(handler, event, FunctionFacts.read(os.environ))
    finally:
        current.request_id = ""
        _flush()


def _fail(fault: Exception, event: Event, transport: Transport, output: Output) -> None:
    frames: list[errors.Frame] = []
    message = errors.message_of(fault)
    if isinstance(fault, CodecFault | ContextFault):
        error_type = fault.error_type
        cause_type = "LambdaValidationError"
    else:
        error_type = cause_type = type(fault).__name__
        frames = errors.frames_of(fault)
    payload = errors.payload(message, error_type, errors.stack_trace_of(frames), event.request_id)
    try:  # noqa: SIM105 - contextlib is an import that only this would need
        errors.log_fault(payload, output)
    except Exception:  # noqa: S110 - the handler may have closed its streams: the caller is told all the same
        pass
    body = errors.body_of(payload, output)
    cause = errors.xray_cause(cause_type, message, frames, ascii_only=output.ascii_only)
    _flush()
    transport.fail(event, body, error_type, cause)


def _flush() -> None:
    """What a handler printed must be out before its answer is. Its streams may be of its own making, or closed."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # noqa: S110 - what cannot be flushed is lost; the answer need not be
        pass

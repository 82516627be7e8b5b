"""The loop: next event, decode, handler, encode, answer.

:func:`serve` is the hot path: nothing is imported, looked up in the environment or kept between events that need not
be. Only ``Exception`` is caught. ``sys.exit()``, ``KeyboardInterrupt`` and ``os._exit()`` in a handler end the process
with the status Python gives them, and the platform reports the exit, as on Lambda.
"""

from __future__ import annotations

import os
import sys
import time

from lamplighter.events import MarshalError, decode, encode, reader_of
from lamplighter.worker import errors
from lamplighter.worker.context import FunctionFacts, LambdaContext, current
from lamplighter.worker.event import Event
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from lamplighter.worker.handler import Handler
    from lamplighter.worker.streams import Stream
    from lamplighter.worker.transport import Transport

    Reader = Callable[[bytes], object]
    """Decodes an event's body: into plain values, or into the type that a typed handler names."""

_TRACE_ID = "_X_AMZN_TRACE_ID"
_JSON = "application/json"

LONGEST_TIMEOUT_MS = 900_000
"""The longest timeout Lambda allows a function, from AWS's quotas: the time a warm-up event sees as remaining."""


def serve(handler: Handler, transport: Transport) -> None:
    """Run invocations until the transport has no more. Call it after the fork: it reads the environment."""
    facts = FunctionFacts.read(os.environ)
    environ = os.environ
    read = reader_of(handler, decode)
    while (event := transport.next()) is not None:
        _answer(handler, read, event, facts, transport, environ)
        # An idle worker must not hold on to its last payload.
        del event


def _answer(
    handler: Handler,
    read: Reader,
    event: Event,
    facts: FunctionFacts,
    transport: Transport,
    environ: MutableMapping[str, str],
) -> None:
    current.request_id = event.request_id
    current.tenant_id = event.tenant_id or None
    if event.trace_id:
        environ[_TRACE_ID] = event.trace_id
    elif _TRACE_ID in environ:
        del environ[_TRACE_ID]
    stream = None
    try:
        result = _call(handler, read, event, facts)
        try:
            body, is_json = encode(result, ascii_only=output.ascii_only)
        except MarshalError:
            stream = _stream_of(result)
            if stream is None:
                raise
    except Exception as fault:
        report = errors.report(fault, event.request_id, output)
        _flush()
        transport.fail(event, *report)
        return
    if stream is not None:
        from lamplighter.worker import streams  # noqa: PLC0415 - loaded already

        streams.answer(stream, event, transport, _flush)
        return
    _flush()
    transport.respond(event, body, is_json)


def _call(handler: Handler, read: Reader, event: Event, facts: FunctionFacts) -> object:
    context = LambdaContext(event, facts)
    payload = read(event.body) if event.content_type == _JSON else event.body
    return handler(payload, context)


def _stream_of(result: object) -> Stream | None:
    """What has no JSON form may be a result in pieces."""
    from lamplighter.worker import streams  # noqa: PLC0415 - few functions stream

    return streams.stream_of(result)


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
        result = _call(handler, reader_of(handler, decode), event, FunctionFacts.read(os.environ))
        try:
            return encode(result, ascii_only=output.ascii_only)
        except MarshalError:
            stream = _stream_of(result)
            if stream is None:
                raise
        from lamplighter.worker import streams  # noqa: PLC0415 - loaded already

        return streams.collect(stream)
    finally:
        current.request_id = ""
        _flush()


def _flush() -> None:
    """What a handler printed must be out before its answer is. Its streams may be of its own making, or closed."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # noqa: S110 - what cannot be flushed is lost; the answer need not be
        pass

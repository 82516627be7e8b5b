"""The Runtime API as the loop's transport: what to send together, and what to make of a refusal."""

from __future__ import annotations

import sys

from lamplighter.bootstrap.answer import ClientFault
from lamplighter.bootstrap.client import Refused, RuntimeClient
from lamplighter.worker import errors
from lamplighter.worker.event import Event
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamplighter.bootstrap.stream import ResponseStream
    from lamplighter.worker.transport import Sink

TOO_LARGE = "Function.ResponseSizeTooLarge"
_ALONE = 262_144
"""A body of more bytes than this is sent alone: it may be refused as too large, and then the caller must be told before
the next event is asked for."""
_JSON = "application/json"


class RuntimeAPITransport:
    """One invocation at a time over a :class:`RuntimeClient`.

    Once it knows that the server takes it, an answer and the request for the next event go out in one send.
    """

    __slots__ = ("_client", "_exact", "_one_send", "_streaming")

    def __init__(
        self, client: RuntimeClient, *, one_send: bool | None = None, exact: bool = False, streaming: bool = True
    ) -> None:
        """``one_send``: whether to send two requests at once; ``None`` asks the server before the first event.

        ``exact``: only the content type ``application/json`` to the letter is JSON, as for awslambdaric.
        ``streaming``: results in pieces are sent as they come, not collected.
        """
        self._client = client
        self._one_send = one_send
        self._exact = exact
        self._streaming = streaming

    def next(self) -> Event:
        """Wait for the next event. Raises :class:`ClientFault`: there will be no more."""
        client = self._client
        if self._one_send is None:
            self._one_send = client.takes_one_send()
        while True:
            try:
                event = client.next()
            except Refused as refusal:
                if refusal.event is None:
                    raise
                self._refused(refusal)
                continue
            if event.content_type != _JSON and not self._exact:
                # The API's only format. AWS's client dies of an event without a type, and takes one with a parameter
                # for bytes.
                kind = event.content_type.partition(";")[0].strip().lower()
                if kind in {"", _JSON}:
                    event.content_type = _JSON
            return event

    def respond(self, event: Event, body: bytes, is_json: bool) -> None:
        """Answer with the handler's result."""
        try:
            self._client.respond(
                event,
                body,
                _JSON if is_json else "application/unknown",
                then_next=self._one_send is True and len(body) <= _ALONE,
            )
        except Refused as refusal:
            self._refused(refusal, len(body))

    def fail(self, event: Event, body: bytes, error_type: str, cause: bytes) -> None:
        """Answer with an error."""
        try:
            self._client.fail(event, body, error_type, cause, then_next=self._one_send is True and len(body) <= _ALONE)
        except Refused as refusal:
            self._refused(refusal, len(body))

    def stream(self, event: Event, content_type: str) -> Sink | None:
        """Begin to answer in pieces."""
        return _Streaming(self._client.stream(event, content_type), self._refused) if self._streaming else None

    def _refused(self, refusal: Refused, size: int = 0) -> None:
        """An answer was not accepted. Raises the refusal where there is no going on.

        - 413: the caller gets an error that says so.
        - 400, 410: the invocation is over, by its time limit for example; the next one is not.
        - Else the platform and this process disagree on where they are, or the platform is broken.
        """
        event = refusal.event
        if event is None or refusal.status not in {400, 410, 413}:
            raise refusal
        say(str(refusal))
        if refusal.status != 413:
            return
        message = f"Response payload size exceeded maximum allowed payload size{_limit(refusal.body)}."
        if refusal.what != "a response":
            message = f"The error's payload was too large ({size} bytes)"
        payload = errors.payload(message, TOO_LARGE, [], event.request_id)
        errors.log_fault(payload, output)
        try:
            self._client.fail(event, errors.body_of(payload, output), TOO_LARGE)
        except Refused as again:
            # The platform told the caller itself; that is what the emulator does.
            if again.status not in {400, 403, 410}:
                raise


class _Streaming:
    """A response in pieces whose refusal is the transport's business."""

    __slots__ = ("_refused", "_stream")

    def __init__(self, stream: ResponseStream, refused: Callable[[Refused], None]) -> None:
        self._stream = stream
        self._refused = refused

    def write(self, data: bytes, /) -> bool:
        try:
            self._stream.write(data)
        except Refused as refusal:
            self._refused(refusal)
            return False
        return True

    def end(self) -> None:
        try:
            self._stream.end()
        except Refused as refusal:
            self._refused(refusal)

    def fail(self, body: bytes, error_type: str, cause: bytes, /) -> None:
        try:
            self._stream.fail(body, error_type, cause)
        except Refused as refusal:
            self._refused(refusal)


def say(message: str) -> None:
    """A line of the runtime's own in the function's log, at level WARNING."""
    import logging  # noqa: PLC0415 - only trouble needs it

    logging.getLogger("lamplighter").warning(message)


def give_up(fault: ClientFault) -> int:
    """Say why this process ends, and its exit status."""
    try:
        sys.stderr.write(f"lamplighter: {fault}\n")
        sys.stderr.flush()
    except Exception:  # noqa: S110 - the function may have closed it
        pass
    return 1


def _limit(body: bytes) -> str:
    """`` (N bytes)`` as it stands in the platform's own words."""
    text = body[:500].decode("utf-8", "replace")
    start, end = text.rfind(" ("), text.rfind(" bytes)")
    return text[start : end + 7] if 0 <= start < end and text[start + 2 : end].isdigit() else ""

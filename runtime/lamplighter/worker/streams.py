"""Results in pieces: a generator, or one of the two classes that :mod:`lamplighter.streaming` shows to functions.

Where the transport can, pieces leave as they come; elsewhere they are collected and sent whole, so that the same
function works in both. This module is loaded when a handler returns what has no JSON form, and not before.
"""

from __future__ import annotations

from lamplighter.events import encode
from lamplighter.worker import errors
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lamplighter.worker.event import Event
    from lamplighter.worker.transport import Sink, Transport

    Piece = bytes | bytearray | memoryview | str
    Write = Callable[[Piece], None]
    Body = Iterable[Piece] | Callable[[Write], object]

HTTP = "application/vnd.awslambda.http-integration-response"
"""The content type that tells a function URL or API Gateway to take status and headers from the prelude."""
BINARY = "application/octet-stream"
DELIMITER = b"\0" * 8
"""What ends the prelude."""
COLLECTED_LIMIT = 6_291_556
"""Bytes of a whole result: Lambda's limit for one."""
_Generator = type(_ for _ in ())


class TooLarge(errors.NamedFault):
    """A collected result has grown beyond what may be sent whole."""

    error_type = "Function.ResponseSizeTooLarge"


class StreamStopped(Exception):
    """What ``write`` raises, and a generator does not see: the invocation is over, and nobody wants the rest."""


class Stream:
    """A result in pieces. ``body`` is an iterable of bytes or text, or a function that is given ``write`` to call.

    Text is sent as UTF-8. The first piece, even an empty one, begins the answer: an exception before it is the
    function's error as always, one after it cuts the answer short and marks it as failed.
    """

    def __init__(self, body: Body, *, content_type: str = BINARY) -> None:
        if not (callable(body) or hasattr(type(body), "__iter__")) or isinstance(body, str | bytes):
            raise TypeError(f"body must be an iterable of bytes or str, or a function of write, not {type(body)}")
        if not (content_type.isascii() and content_type.isprintable()):
            raise ValueError(f"content_type must be printable ASCII, got {content_type!r}")
        self.body = body
        self.content_type = content_type

    def prelude(self) -> bytes:
        """What goes before the first piece."""
        return b""

    def whole(self, body: bytes) -> tuple[bytes, bool]:
        """The result where it must be sent whole, and whether it is JSON."""
        return body, False


class HTTPStream(Stream):
    """The same for a function URL or API Gateway, with the response's status, headers and cookies.

    Sent whole, it is the object that both take from functions that do not stream.
    """

    def __init__(
        self,
        body: Body,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        cookies: Sequence[str] = (),
    ) -> None:
        super().__init__(body, content_type=HTTP)
        if not 100 <= status <= 599:
            raise ValueError(f"status must be between 100 and 599, got {status}")
        self.status = status
        self.headers = dict(headers or {})
        self.cookies = list(cookies)

    def _head(self) -> dict[str, object]:
        head: dict[str, object] = {"statusCode": self.status, "headers": self.headers}
        if self.cookies:
            head["cookies"] = self.cookies
        return head

    def prelude(self) -> bytes:
        """Status, headers and cookies as JSON, and the delimiter."""
        return encode(self._head(), ascii_only=True)[0] + DELIMITER

    def whole(self, body: bytes) -> tuple[bytes, bool]:
        """The object with ``statusCode``, ``headers`` and ``body``; what is not UTF-8 goes as base64."""
        try:
            text, is_base64 = body.decode(), False
        except UnicodeDecodeError:
            from binascii import b2a_base64  # noqa: PLC0415 - few bodies are not text

            text, is_base64 = b2a_base64(body, newline=False).decode(), True
        return encode({**self._head(), "body": text, "isBase64Encoded": is_base64}, ascii_only=output.ascii_only)


def stream_of(result: object) -> Stream | None:
    """``result`` as a stream; ``None`` if it is none."""
    if isinstance(result, Stream):
        return result
    return Stream(result) if isinstance(result, _Generator) else None


def answer(stream: Stream, event: Event, transport: Transport, flush: Callable[[], None]) -> None:
    """Answer ``event`` with ``stream``: whatever the function does, there is exactly one answer.

    ``flush`` is called before the answer ends. Raises what the transport raises, and no ``Exception`` of the
    function's.
    """
    sending = _Sending(stream, event, transport)
    try:
        _run(stream, sending.write)
        sending.begin()
    except Exception as fault:
        if sending.broken is not None:
            raise sending.broken from None
        if sending.stopped:
            return
        report = errors.report(fault, event.request_id, output)
        flush()
        if sending.sink is None:
            transport.fail(event, *report)
        else:
            sending.sink.fail(*report)
        return
    if sending.broken is not None:  # and the function did not let it out
        raise sending.broken
    if sending.stopped:
        return
    flush()
    if sending.sink is None:
        transport.respond(event, *stream.whole(bytes(sending.collected)))
    else:
        sending.sink.end()


def collect(stream: Stream) -> tuple[bytes, bool]:
    """Run ``stream`` to its end; the result as it is sent whole. Raises what the function raises."""
    collected = bytearray()
    _run(stream, lambda piece: collected.extend(_bytes(piece)))
    return stream.whole(bytes(collected))


def _run(stream: Stream, write: Write) -> None:
    body = stream.body
    if not hasattr(type(body), "__iter__"):
        body(write)  # type: ignore[operator]  # checked when the stream was made
        return
    try:
        for piece in body:  # type: ignore[union-attr]
            write(piece)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


class _Sending:
    """One stream on its way."""

    def __init__(self, stream: Stream, event: Event, transport: Transport) -> None:
        self._stream = stream
        self._event = event
        self._transport = transport
        self._begun = False
        self.sink: Sink | None = None
        self.collected = bytearray()
        self.broken: Exception | None = None
        """What the transport raised: no exception of the function's, wherever it shows."""
        self.stopped = False
        """The platform takes no more of it, and was answered."""

    def begin(self) -> None:
        """Send what precedes the first piece, unless that was done."""
        if self._begun:
            return
        prelude = self._stream.prelude()
        self._begun = True
        self._guarded(lambda: self._open(prelude))

    def write(self, piece: Piece) -> None:
        """Send one piece, or collect it."""
        data = _bytes(piece)
        self.begin()
        sink = self.sink
        if sink is None:
            self.collected += data
            if len(self.collected) > COLLECTED_LIMIT:
                raise TooLarge(
                    f"Response payload size exceeded maximum allowed payload size ({COLLECTED_LIMIT} bytes)."
                )
        elif data:
            self._guarded(lambda: sink.write(data))

    def _open(self, prelude: bytes) -> bool:
        self.sink = self._transport.stream(self._event, self._stream.content_type)
        return not prelude or self.sink is None or self.sink.write(prelude)

    def _guarded(self, step: Callable[[], bool]) -> None:
        if self.broken is not None:
            raise self.broken
        if not self.stopped:
            try:
                self.stopped = not step()
            except Exception as fault:
                self.broken = fault
                raise
        if self.stopped:
            raise StreamStopped("the platform takes no more of this response")


def _bytes(piece: Piece) -> bytes:
    if isinstance(piece, str):
        return piece.encode("utf-8", "backslashreplace")
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"a stream's pieces must be bytes or str, not {type(piece).__name__}")

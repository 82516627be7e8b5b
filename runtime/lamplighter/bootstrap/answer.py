"""One HTTP/1.1 answer at a time from a stream socket: as much of RFC 9112 as a client of the Runtime API meets.

Lengths and chunks, trailers, interim answers, connections that the server closes; nothing that is compressed, upgraded
or cached. The heads that come every time are read by ``native/http/head.c``, all others here. Whatever a server sends,
the outcome is an answer or one of two faults, within bounds of size and time.
"""

from __future__ import annotations

import time

from lamplighter._http import parse_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    EventFields = tuple[str, str, int, str, str, str, str, str, str]

HEAD_LIMIT = 2 << 20
"""Bytes a head or the trailers may have: twice the 1 MB that Lambda allows a request's line and headers."""
BODY_LIMIT = 64 << 20
"""Bytes a body may have: ten times what Lambda allows an event."""
_RECEIVE = 65_536
_HEX = b"0123456789abcdefABCDEF"
_INTERIM = 32
"""Interim (1xx) answers before the real one."""


class ClientFault(Exception):
    """The Runtime API cannot be used. ``str()`` of it says why."""


class Gone(ClientFault):
    """The connection ended, or could not be made, before the first byte of an answer."""


class Malformed(ClientFault):
    """What came is not one whole answer of HTTP/1.1."""


class Answer:
    """One answer. ``event`` is what its head says of an event, in the order in which :class:`Event` takes it, or
    ``None`` if it has no request id."""

    __slots__ = ("body", "closes", "event", "status")

    def __init__(self, status: int, body: bytes, closes: bool, event: EventFields | None) -> None:
        self.status = status
        self.body = body
        self.closes = closes
        """The server will read nothing more from this connection."""
        self.event = event


class Reader:
    """Reads answers from one connection, whose socket has a receive timeout of ``patience_s`` seconds.

    Waiting for the first byte of an answer has no limit; once it is there, the rest must come within that time.
    """

    __slots__ = ("_patience_s", "_rest", "_sock")

    def __init__(self, sock: socket, patience_s: float) -> None:
        self._sock = sock
        self._patience_s = patience_s
        self._rest = b""

    def read(self) -> Answer:
        """The next answer. Raises :class:`Gone`, or :class:`Malformed`, after which the connection is of no use."""
        data = self._rest or self._first()
        common = parse_head(data)
        if common is None:
            return self._uncommon(data)
        at, status, length, event = common
        missing = length - (len(data) - at)
        if missing == 0:
            body, self._rest = data[at:], b""
        elif missing < 0:
            body, self._rest = data[at : at + length], data[at + length :]
        else:
            _check(length)
            body, self._rest = self._of_length(data[at:], length, time.monotonic() + self._patience_s), b""
        return Answer(status, body, False, event)

    def _uncommon(self, data: bytes) -> Answer:
        for _ in range(_INTERIM):
            end = data.find(b"\r\n\r\n")
            if end < 0:
                data, end = self._whole_head(data)
            line, *lines = data[:end].split(b"\r\n")
            # "HTTP/1.1 200 OK": the version, one space, three digits.
            code = line[9:12]
            if not (line[:7].upper() == b"HTTP/1." and line[8:9] == b" " and code.isdigit() and line[12:13] in b" "):
                raise Malformed(f"not an answer of HTTP/1.1: {line[:80]!r}")
            status = int(code)
            if status >= 200:
                return self._with_body(status, line[7:8] != b"1", _fields(lines), data, end + 4)
            if status == 101:
                break
            data = data[end + 4 :] or self._receive(time.monotonic() + self._patience_s)
        raise Malformed(f"no answer among the interim ones: {line[:80]!r}")

    def _with_body(self, status: int, closes: bool, fields: dict[bytes, bytes], data: bytes, at: int) -> Answer:
        event = _event_fields(fields)
        if b"close" in fields.get(b"connection", b"").lower():
            closes = True
        if b"transfer-encoding" in fields:
            body = self._chunked(fields[b"transfer-encoding"], data[at:])
        elif status in {204, 304}:
            body, self._rest = b"", data[at:]
        elif b"content-length" in fields:
            length = _length(fields[b"content-length"])
            if len(data) - at >= length:
                body, self._rest = data[at : at + length], data[at + length :]
            else:
                until = time.monotonic() + self._patience_s
                body, self._rest = self._of_length(data[at:], length, until), b""
        else:
            body, closes = self._until_closed(data[at:]), True
        return Answer(status, body, closes, event)

    def _first(self) -> bytes:
        while True:
            try:
                data = self._sock.recv(_RECEIVE)
            except BlockingIOError:  # the socket's receive timeout: nobody has called, and that is nobody's fault
                continue
            except TimeoutError:
                raise Gone("no answer in time") from None
            except OSError as fault:
                raise Gone(f"the connection is gone: {fault.strerror or fault}") from None
            if not data:
                raise Gone("the server closed the connection without an answer")
            return data

    def _receive(self, until: float, size: int = _RECEIVE) -> bytes:
        """More of an answer that has begun."""
        try:
            data = self._sock.recv(size)
        except (BlockingIOError, TimeoutError):
            raise Malformed(f"the answer stopped in the middle for {self._patience_s:g} s") from None
        except OSError as fault:
            raise Malformed(f"the answer was cut: {fault.strerror or fault}") from None
        if not data:
            raise Malformed("the answer was cut: the server closed the connection")
        if time.monotonic() > until:
            raise Malformed(f"the answer took longer than {self._patience_s:g} s")
        return data

    def _whole_head(self, data: bytes) -> tuple[bytes, int]:
        until = time.monotonic() + self._patience_s
        while True:
            if data[:7].upper() != b"HTTP/1."[: len(data)]:
                raise Malformed(f"not an answer of HTTP/1.1: {data[:80]!r}")
            searched = max(0, len(data) - 3)
            data += self._receive(until)
            end = data.find(b"\r\n\r\n", searched)
            if end >= 0:
                return data, end
            if len(data) > HEAD_LIMIT:
                raise Malformed(f"the answer's head has more than {HEAD_LIMIT} bytes")

    def _of_length(self, begun: bytes, length: int, until: float) -> bytes:
        parts = [begun]
        missing = length - len(begun)
        while missing:
            part = self._receive(until, min(missing, 1 << 20))
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _until_closed(self, begun: bytes) -> bytes:
        until = time.monotonic() + self._patience_s
        parts = [begun]
        size = len(begun)
        while True:
            try:
                part = self._sock.recv(_RECEIVE)
            except OSError as fault:
                raise Malformed(f"the answer has no length and no end: {fault.strerror or fault}") from None
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > BODY_LIMIT or time.monotonic() > until:
                raise Malformed("the answer has no length and no end")

    def _chunked(self, coding: bytes, data: bytes) -> bytes:
        if coding.lower() != b"chunked":
            raise Malformed(f"a transfer coding that is not known here: {coding[:80]!r}")
        until = time.monotonic() + self._patience_s
        parts: list[bytes] = []
        size = at = 0
        while True:
            line, data, at = self._line(data, at, until)
            digits = line.partition(b";")[0].strip()
            if not digits or len(digits) > 16 or digits.strip(_HEX):
                raise Malformed(f"a chunk's length is no number: {line[:80]!r}")
            length = int(digits, 16)
            if length == 0:
                break
            size += length
            if size > BODY_LIMIT:
                raise Malformed(f"the answer's body has more than {BODY_LIMIT} bytes")
            end = at + length
            if len(data) < end + 2:
                data, at, end = self._of_length(data[at:], length + 2, until), 0, length
            if data[end : end + 2] != b"\r\n":
                raise Malformed("a chunk does not end where its length says")
            parts.append(data[at:end])
            at = end + 2
        trailers = 0
        while line:
            line, data, at = self._line(data, at, until)
            trailers += len(line)
            if trailers > HEAD_LIMIT:
                raise Malformed(f"the answer's trailers have more than {HEAD_LIMIT} bytes")
        self._rest = data[at:]
        return b"".join(parts)

    def _line(self, data: bytes, at: int, until: float) -> tuple[bytes, bytes, int]:
        """The line at ``at``, without its end; then the data it lies in, and where the next one begins."""
        while True:
            end = data.find(b"\r\n", at)
            if end >= 0:
                return data[at:end], data, end + 2
            if len(data) - at > HEAD_LIMIT:
                raise Malformed(f"a line of the answer has more than {HEAD_LIMIT} bytes")
            data, at = data[at:] + self._receive(until), 0


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    """The headers in ``lines``, by name in lower case; of two of one name, the first."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # A line that starts with a space goes on with the one before: long obsolete.
        if not colon or not name or name != name.strip():
            raise Malformed(f"a line that is no header: {line[:80]!r}")
        value = value.strip()
        first = fields.setdefault(name.lower(), value)
        if first != value and name.lower() == b"content-length":
            raise Malformed(f"more than one length: {first!r} and {value[:80]!r}")
    return fields


def _event_fields(fields: dict[bytes, bytes]) -> EventFields | None:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    request_id = text(b"lambda-runtime-aws-request-id")
    if not request_id:
        return None
    if not (request_id.isascii() and request_id.isprintable()) or " " in request_id:
        raise Malformed(f"a request id that fits no path: {request_id[:80]!r}")
    deadline = fields.get(b"lambda-runtime-deadline-ms", b"")
    return (
        request_id,
        text(b"lambda-runtime-invoked-function-arn"),
        int(deadline) if deadline.isdigit() and len(deadline) < 19 else 0,
        text(b"lambda-runtime-trace-id"),
        text(b"lambda-runtime-client-context"),
        text(b"lambda-runtime-cognito-identity"),
        text(b"lambda-runtime-aws-tenant-id"),
        text(b"content-type"),
        text(b"lambda-runtime-invocation-id"),
    )


def _length(text: bytes) -> int:
    """The body's length."""
    if not (text.isdigit() and len(text) < 20):
        raise Malformed(f"a length that is no number: {text[:80]!r}")
    return _check(int(text))


def _check(length: int) -> int:
    if length > BODY_LIMIT:
        raise Malformed(f"the answer's body has {length} bytes, more than {BODY_LIMIT}")
    return length

"""One HTTP/1.1 answer at a time from a stream socket: as much of RFC 9112 as a client of the Runtime API meets.

Lengths and chunks, trailers, interim answers, connections that the server closes; nothing that is compressed, upgraded
or cached. Whatever a server sends, the outcome is an answer or one of two faults, within bounds of size and time.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

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
    """One answer. ``fields`` are its headers by name in lower case; of two of one name, the first."""

    __slots__ = ("body", "closes", "fields", "status")

    def __init__(self, status: int, fields: dict[bytes, bytes], body: bytes, closes: bool) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.closes = closes
        """The server will read nothing more from this connection."""


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
        if b"connection" in fields and b"close" in fields[b"connection"].lower():
            closes = True
        if b"transfer-encoding" in fields:
            body = self._chunked(fields[b"transfer-encoding"], data[at:])
        elif status in {204, 304}:
            body, self._rest = b"", data[at:]
        elif b"content-length" in fields:
            length = _length(fields[b"content-length"])
            have = len(data) - at
            if have == length:
                body, self._rest = data[at:], b""
            elif have > length:
                body, self._rest = data[at : at + length], data[at + length :]
            else:
                until = time.monotonic() + self._patience_s
                body, self._rest = self._of_length(data[at:], length, until), b""
        else:
            body, closes = self._until_closed(data[at:]), True
        return Answer(status, fields, body, closes)

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


_known: dict[bytes, bytes] = {}
"""Names as servers write them, and in lower case: a server writes the same ones every time."""
_KNOWN_LIMIT = 256


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    """The headers in ``lines``."""
    fields: dict[bytes, bytes] = {}
    known = _known
    for line in reversed(lines):  # so that the first of one name stays
        name, colon, value = line.partition(b":")
        if name in known:
            fields[known[name]] = value.strip()
        else:
            fields[_name(name, colon)] = value.strip()
    if len(fields) != len(lines):
        lengths = {line.partition(b":")[2].strip() for line in lines if line[:15].lower() == b"content-length:"}
        if len(lengths) > 1:
            raise Malformed(f"more than one length: {sorted(lengths)!r}")
    return fields


def _name(name: bytes, colon: bytes) -> bytes:
    lower = name.lower()
    if not colon or not name or name != name.strip():  # also a line that goes on with the one before, long obsolete
        raise Malformed(f"a line that is no header: {name[:80]!r}")
    if len(_known) < _KNOWN_LIMIT and len(name) < 100:
        _known[name] = lower
    return lower


def _length(text: bytes) -> int:
    """The body's length."""
    if not (text.isdigit() and len(text) < 20):
        raise Malformed(f"a length that is no number: {text[:80]!r}")
    length = int(text)
    if length > BODY_LIMIT:
        raise Malformed(f"the answer's body has {length} bytes, more than {BODY_LIMIT}")
    return length

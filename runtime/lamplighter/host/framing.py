"""HTTP/1.1 framing rules as pure functions: which heads are refused, and how an answer is written.

llhttp, in its strict mode, already refuses what is malformed: repeated or odd ``Content-Length``, both framings at
once, folded lines, bare line feeds, spaces before a colon. What it lets pass and RFC 9112 does not is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from lamplighter.host import invoke_api
from lamplighter.host.invocation import Header
from lamplighter.host.invoke_api import Answer, Refusal, wire_error

FRAMING_HEADERS = frozenset((b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"))
"""The request headers HTTP itself needs here, in lower case."""

MAY_REPEAT = (b"connection", b"x-amzn-trace-id")
"""Headers of interest that may come twice: a list, and one that every hop may add to (the last one counts)."""

PERSIST = b""
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"
"""Only HTTP/1.0 clients need to be told."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}
_WITHOUT_BODY = (204, 304)


class Unanswerable(Exception):
    """An answer that HTTP cannot carry; the text says why."""


class Standing(tuple[Header, ...]):
    """Headers that many answers have, put into their form once. ``rendered`` is what :func:`render_head` writes."""

    rendered: bytes

    def __new__(cls, *headers: Header) -> Standing:
        """Raises :class:`Unanswerable`."""
        standing = super().__new__(cls, headers)
        standing.rendered = _render_fields(headers)
        return standing


def _render_fields(headers: Sequence[Header]) -> bytes:
    try:
        fields = b"".join([b"%b: %b\r\n" % header for header in headers])
    except TypeError as fault:
        raise Unanswerable(f"a header is not a pair of bytes: {fault}") from fault
    count = len(headers)
    if fields.count(b"\n") != count or fields.count(b"\r") != count:
        raise Unanswerable("a header contains a line break")
    return fields


def render_head(
    status: int, preamble: bytes, request_id: str, headers: Sequence[Header], length: int, persistence: bytes
) -> bytes:
    """Status line and headers, to the empty line. ``preamble`` is the ``Date`` line and the request id's header name.

    Raises :class:`Unanswerable` for an unknown status, a header that is not a pair of bytes, or a line break in one:
    nothing a function returns may split a response.
    """
    line = _STATUS_LINES.get(status)
    if line is None:
        raise Unanswerable(f"{status!r} is not a final HTTP status")
    fields = headers.rendered if type(headers) is Standing else _render_fields(headers)
    if status in _WITHOUT_BODY:
        return b"%b%b%b\r\n%b%b\r\n" % (line, preamble, request_id.encode(), fields, persistence)
    return b"%b%b%b\r\nContent-Length: %d\r\n%b%b\r\n" % (
        line,
        preamble,
        request_id.encode(),
        length,
        fields,
        persistence,
    )


def has_body(status: int) -> bool:
    """False for the statuses whose answers end at the empty line (RFC 9112 section 6.3)."""
    return status not in _WITHOUT_BODY


def judge_framing(version: str, headers: dict[bytes, bytes], repeated: bytes, fields: int, most_fields: int) -> int:
    """The ``Content-Length``, 0 if there is none. Raises :class:`Refusal`; the connection must then be closed.

    ``headers`` are those of interest, ``repeated`` one of them that came twice, ``fields`` the number of all.
    """
    if version not in ("1.1", "1.0"):
        raise Refusal(
            wire_error(505, "HttpVersionNotSupportedException", f"HTTP/{version} is not supported; use HTTP/1.1")
        )
    if fields > most_fields:
        raise Refusal(head_too_large(f"made of {fields} header fields", f"{most_fields} fields"))
    if repeated:
        raise Refusal(bad_request(f"The header {repeated.decode()} may be given only once"))
    if version == "1.1" and b"host" not in headers:
        raise Refusal(bad_request("An HTTP/1.1 request must have a Host header"))
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            raise Refusal(bad_request("HTTP/1.0 has no Transfer-Encoding; use Content-Length"))
        if coding.strip().lower() != b"chunked":
            raise Refusal(invoke_api.not_supported("The only Transfer-Encoding supported is chunked"))
    return int(headers.get(b"content-length", b"0"))


def without_upgrade(target: bytes, method: bytes, version: str, persistent: bool, headers: dict[bytes, bytes]) -> bytes:
    """The head again, with the headers of interest but for the wish to upgrade."""
    kept = {name: value for name, value in headers.items() if name not in (b"connection", b"upgrade")}
    kept[b"connection"] = b"keep-alive" if persistent else b"close"
    fields = b"".join([b"%b: %b\r\n" % field for field in kept.items()])
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version.encode(), fields)


def bad_request(message: str) -> Answer:
    """400 for a request that is not HTTP as it should be."""
    return wire_error(400, "BadRequestException", message)


def head_too_large(what: str, allowed: str) -> Answer:
    """431."""
    return wire_error(431, "RequestHeaderFieldsTooLargeException", f"The request's head is {what}; allowed: {allowed}")


def too_slow(message: str) -> Answer:
    """408."""
    return wire_error(408, "RequestTimeoutException", message)


def expectation_failed() -> Answer:
    """417."""
    return wire_error(417, "ExpectationFailedException", "The only expectation allowed is 100-continue")

"""One client connection: an ``asyncio.Protocol`` around llhttp (by httptools).

This is the hot path. A warm keep-alive invocation costs: one ``data_received``, one parser run in C with a callback a
header and two more, one ``perform``, one ``reply``, one ``write``. No task, future, timer or log line is made for it;
slow clients are found by the front's sweep over all connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import httptools

from lamplighter.host import framing, invoke_api
from lamplighter.host.framing import CLOSE, KEEP_ALIVE, PERSIST
from lamplighter.host.invocation import Header
from lamplighter.host.invoke_api import Answer, Refusal
from lamplighter.host.operations import Fixed, Operation

if TYPE_CHECKING:
    from lamplighter.host.http import Front

_log = logging.getLogger(__name__)

_SLICE = 4_096
_PARTS = 64
"""Body parts gathered before they are copied together, so that tiny chunks do not cost an object each."""
_JOIN_LIMIT = 65_536
"""Bytes of body copied behind their head; a larger body is written after it."""
_SHORT_LENGTH = 6
"""Digits of a Content-Length that cannot pass the limit of an invocation."""

_OF_INTEREST = framing.FRAMING_HEADERS | invoke_api.INVOKE_HEADERS
_NOTHING = Fixed(invoke_api.service_exception())


class _Cut(Exception):
    """Stops the parser: the connection's input is over, whatever else has come."""


class Exchange:
    """One request and its answer. Guarantees: the answer is sent in the order of requests, and at most once."""

    __slots__ = ("_connection", "answer", "answered", "headless", "persistence", "request_id")

    def __init__(self, connection: Connection, request_id: str, persistence: bytes, headless: bool) -> None:
        self._connection = connection
        self.request_id = request_id
        self.persistence = persistence
        self.headless = headless
        self.answered = False
        self.answer: tuple[int, Sequence[Header], bytes] | None = None

    def reply(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Answer. Dropped when the client is gone; a second call is a fault of the caller, logged and ignored."""
        if self.answered:
            _log.error("request %s was answered a second time, with status %d: ignored", self.request_id, status)
            return
        self.answered = True
        connection = self._connection
        pending = connection.pending
        if connection.transport is None:
            return
        if pending[0] is self and not connection.flushing:
            pending.popleft()
            connection.send(self, status, headers, body)
        else:
            self.answer = (status, headers, body)
            if pending[0] is self:
                connection.flush()


class Connection(asyncio.Protocol):
    """One client connection: parses requests, has them performed, and writes the answers in order.

    ``pending`` holds the exchanges not yet answered, oldest first. ``_held`` holds the youngest of them, parsed but not
    yet performed, because the pipeline is full or the client does not read its answers; while there are any,
    nothing is read. They come from one read, which bounds them.
    """

    __slots__ = (
        "__weakref__",
        "_barren",
        "_body",
        "_completed",
        "_continue_due",
        "_cut",
        "_cut_short",
        "_eof",
        "_fields",
        "_front",
        "_gathered",
        "_head_bytes",
        "_headers",
        "_headless",
        "_held",
        "_in_body",
        "_lingering",
        "_operation",
        "_options",
        "_parser",
        "_paused",
        "_persistence",
        "_pipeline",
        "_repeated",
        "_size",
        "_stamp",
        "_unsent",
        "_upgrade",
        "_url",
        "_write_paused",
        "flushing",
        "on_body",
        "on_url",
        "pending",
        "transport",
    )

    def __init__(self, front: Front) -> None:
        self._front = front
        self._pipeline = front.limits.pipeline
        self.transport: asyncio.Transport | None = None
        self.pending: deque[Exchange] = deque()
        self._held: deque[tuple[Operation, Any, bytes, Exchange]] = deque()
        self._stamp = front.now
        self._cut = False  # no more input is taken
        self._cut_short = False  # and some may still be on its way
        self._eof = False  # the client has shut down its side
        self._lingering = False
        self._paused = False  # reading is paused, by us
        self._write_paused = False  # writing is paused, by the transport
        self._unsent = 0
        self.flushing = False
        self._continue_due = False

        # The request that is being parsed
        self._headers: dict[bytes, bytes] = {}
        self._fields = 0
        self._repeated = b""
        self._head_bytes = 0
        self._in_body = False
        self._completed = False
        self._operation: Operation = _NOTHING
        self._options: Any = None
        self._persistence = PERSIST
        self._headless = False
        self._upgrade = b""
        self._size = 0  # bytes of body so far, at the end of the last read
        self._barren = 0  # bytes of chunk framing since the body last grew
        self._gathered: bytearray | None = None
        self._url: list[bytes] = []
        self._body: list[bytes] = []
        self.on_url = self._url.append  # called by the parser without a Python frame
        self.on_body = self._body.append
        self._parser = httptools.HttpRequestParser(self)

    # --- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are not its subclasses
        self._front.opened(self)
        if self._front.draining:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.pending.clear()
        self._held.clear()
        self._body.clear()
        self._gathered = None
        self._cut = True
        # The parser holds methods of this object: let reference counting free both.
        del self._parser, self.on_url, self.on_body
        self._front.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._cut:
            return
        size = len(data)
        if size > _SLICE and self._head_bytes + size > self._front.limits.head_bytes:
            # A head too long could hide in this read: look after every slice of it.
            for at in range(0, size, _SLICE):
                self.data_received(data[at : at + _SLICE])
            return
        in_body = self._in_body
        self._completed = False
        self._feed(data)
        if self._in_body:
            self._gather(size if in_body and not self._completed else 0)
        elif self._completed:
            self._head_bytes = 0
        else:
            self._heard_head(size)
        if self._held or self._write_paused or len(self.pending) >= self._pipeline:
            self._pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        if not self._cut and (self._in_body or self._head_bytes):
            self._refuse(framing.bad_request("The request ended before it was complete"))
        return bool(self.pending)

    def pause_writing(self) -> None:
        assert self.transport is not None
        self._write_paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self._stamp = self._front.now
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._stamp = self._front.now
        self.flush()

    # --- the parser's calls (on_url and on_body go straight to their lists)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        name = name.lower()
        if name in _OF_INTEREST:
            if name in self._headers and name not in framing.MAY_REPEAT:
                self._repeated = name
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._cut:
            raise _Cut
        url = self._url
        target = url[0] if len(url) == 1 else b"".join(url)
        url.clear()
        front = self._front
        parser = self._parser
        headers = self._headers
        found = front.routes.find(target) or front.routes.resolve(target)
        method = parser.get_method()
        operation = found.get(method)
        self._in_body = True
        length = headers.get(b"content-length")
        if (
            operation is not None
            and length is not None
            and len(length) <= _SHORT_LENGTH
            and len(headers) == 2
            and b"host" in headers
            and not self._repeated
            and self._fields <= front.limits.head_fields
            and method != b"HEAD"
            and parser.should_keep_alive()
        ):
            self._operation = operation
            self._options = None
            self._persistence = PERSIST
            self._headless = False
        else:
            self._judge(target, method, operation or found.other(method))
        headers.clear()

    def on_message_complete(self) -> None:
        if self._upgrade:
            return
        body = self._body
        if self._gathered is None:
            payload = body[0] if len(body) == 1 else b"".join(body)
        else:
            self._gathered += b"".join(body)
            payload = bytes(self._gathered)
            self._gathered = None
        body.clear()
        self._in_body = False
        self._completed = True
        self._fields = 0
        self._size = 0
        self._continue_due = False
        if self._headers:  # trailers
            self._headers.clear()
            self._repeated = b""
        operation = self._operation
        options = self._options
        if len(payload) > operation.body_limit:  # chunked: a Content-Length was judged with the head
            operation = Fixed(invoke_api.request_too_large(operation.body_limit, operation.name))
        front = self._front
        exchange = Exchange(self, front.identifiers.request_id(), self._persistence, self._headless)
        if self._persistence is CLOSE:
            self._cut = True
        pending = self.pending
        pending.append(exchange)
        if len(pending) > self._pipeline or self._held or self._write_paused:
            self._held.append((operation, options, payload, exchange))
        else:
            self._perform(operation, options, payload, exchange)

    # --- requests

    def _judge(self, target: bytes, method: bytes, operation: Operation) -> None:
        """Everything about a head that is not the plain case. Either sets the request up, or cuts the input off."""
        headers = self._headers
        version = self._parser.get_http_version()
        persistent = self._parser.should_keep_alive()
        self._headless = method == b"HEAD"
        try:
            length = framing.judge_framing(
                version, headers, self._repeated, self._fields, self._front.limits.head_fields
            )
        except Refusal as refusal:
            self._refuse(refusal.answer)
            raise _Cut from None
        if b"upgrade" in headers and self._parser.should_upgrade():
            # No upgrade is offered (RFC 9110 section 7.8 lets a server ignore it; h2c is what clients ask for). The
            # parser now takes the body for the new protocol's bytes, so it is given the head again without the wish.
            self._upgrade = framing.without_upgrade(target, method, version, persistent, headers)
            return
        self._persistence = (PERSIST if version == "1.1" else KEEP_ALIVE) if persistent else CLOSE
        self._options = None
        refused: Answer | None = None
        try:
            self._options = operation.accept(headers)
        except Refusal as refusal:
            refused = refusal.answer
        if length > operation.body_limit:
            self._refuse(refused or invoke_api.request_too_large(operation.body_limit, operation.name))
            raise _Cut
        self._operation = operation if refused is None else Fixed(refused)
        if method == b"CONNECT":  # what follows is a tunnel's bytes, not requests
            self._refuse(refused or invoke_api.method_not_allowed("CONNECT", "POST"))
            raise _Cut
        expect = headers.get(b"expect")
        if expect is None or version == "1.0":
            return
        if expect.lower() != b"100-continue":
            refused = framing.expectation_failed()
        if refused is not None:
            self._refuse(refused)
            raise _Cut
        if length or b"transfer-encoding" in headers:
            self._continue_due = True
            if not self.pending:
                self._send_continue()

    def _perform(self, operation: Operation, options: Any, body: bytes, exchange: Exchange) -> None:
        try:
            operation.perform(exchange, options, body)
        except Exception:
            _log.exception("%s failed for request %s", operation.name, exchange.request_id)
            if not exchange.answered:
                exchange.reply(*invoke_api.service_exception())

    def _refuse(self, answer: Answer) -> None:
        """Answer, after what is pending, a request that will not be read to its end; then close."""
        self._cut = self._cut_short = True
        self._in_body = False
        self._head_bytes = 0
        self._body.clear()
        self._gathered = None
        exchange = Exchange(self, self._front.identifiers.request_id(), CLOSE, self._headless)
        self.pending.append(exchange)
        exchange.reply(*answer)

    # --- input

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            again, self._upgrade = self._upgrade, b""
            if again and not self._cut:
                self._fields = 0
                self._feed(again + data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as fault:
            if not isinstance(fault.__context__, _Cut):
                _log.error("the HTTP front failed while parsing", exc_info=fault.__context__)
                if not self._cut:
                    self._refuse(invoke_api.service_exception())
        except httptools.HttpParserError as fault:
            if not self._cut:
                self._headless = False
                self._refuse(framing.bad_request(f"This is not a well-formed request: {fault}"))

    def _heard_head(self, count: int) -> None:
        """``count`` bytes came and the head they belong to is not complete."""
        if self._cut:
            return
        if not self._head_bytes:
            self._stamp = self._front.now
        self._head_bytes += count
        limit = self._front.limits.head_bytes
        if self._head_bytes > limit:
            self._headless = False
            self._refuse(framing.head_too_large("too long", f"{limit} bytes"))

    def _gather(self, count: int) -> None:
        """``count`` bytes came, and the body is not complete: bound what it takes, and note its progress."""
        self._stamp = self._front.now
        self._head_bytes = 0
        body = self._body
        size = sum(map(len, body))
        if self._gathered is not None:
            size += len(self._gathered)
        if len(body) > _PARTS:
            if self._gathered is None:
                self._gathered = bytearray()
            self._gathered += b"".join(body)
            body.clear()
        if size > self._operation.body_limit:
            self._refuse(invoke_api.request_too_large(self._operation.body_limit, self._operation.name))
            return
        if size != self._size:
            self._size = size
            self._barren = 0
            return
        self._barren += count
        if self._barren > self._front.limits.head_bytes:
            allowed = f"{self._front.limits.head_bytes} bytes"
            self._refuse(framing.head_too_large("too long in its chunk framing", allowed))

    def _pause_reading(self) -> None:
        """The pipeline is full, or answers pile up."""
        if not self._paused and not self._lingering and self.transport is not None:
            self._paused = True
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._paused = False
        self._stamp = self._front.now
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # --- answers

    def send(self, exchange: Exchange, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Write the answer of the exchange that was just taken off the front of ``pending``."""
        transport = self.transport
        assert transport is not None
        front = self._front
        pending = self.pending
        persistence = exchange.persistence
        if front.draining and not pending and not self._in_body and not self._head_bytes:
            persistence = CLOSE
        try:
            head = framing.render_head(status, front.preamble, exchange.request_id, headers, len(body), persistence)
        except framing.Unanswerable as fault:
            _log.error("request %s was given an answer that HTTP cannot carry: %s", exchange.request_id, fault)
            status, headers, body = invoke_api.service_exception("The host made an answer that HTTP cannot carry")
            head = framing.render_head(status, front.preamble, exchange.request_id, headers, len(body), persistence)
        if exchange.headless or not framing.has_body(status):
            body = b""
        if len(body) <= _JOIN_LIMIT:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._stamp = front.now
        if persistence is CLOSE:
            self._finish()
        elif pending or self._paused or self._eof or self._continue_due:
            self.flush()

    def flush(self) -> None:
        """Go on with whatever can go on: answers whose turn has come, requests that were held, reading."""
        if self.flushing or self.transport is None:
            return
        self.flushing = True
        pending, held = self.pending, self._held
        try:
            while True:
                if pending and (answer := pending[0].answer) is not None:
                    self.send(pending.popleft(), *answer)
                elif held and not self._write_paused and len(pending) - len(held) < self._pipeline:
                    operation, options, body, exchange = held.popleft()
                    self._perform(operation, options, body, exchange)
                else:
                    break
        finally:
            self.flushing = False
        if self._lingering or self.transport is None:
            return
        if self._eof and not pending:
            self.transport.close()
            return
        if self._continue_due and not pending:
            self._send_continue()
        if self._paused and not self._write_paused and not held and len(pending) <= self._pipeline // 2:
            self._resume_reading()

    def _send_continue(self) -> None:
        self._continue_due = False
        if self._in_body and not self._cut and self.transport is not None:
            self.transport.write(framing.CONTINUE)

    def _finish(self) -> None:
        """The last answer is written: close, so that the client still gets it."""
        transport = self.transport
        assert transport is not None
        self._cut = True
        if self._eof or not self._cut_short:
            transport.close()
            return
        # Closing with unread input makes the kernel send a reset, which can overtake the answer.
        self._lingering = True
        self._stamp = self._front.now
        transport.write_eof()
        if self._paused:
            self._resume_reading()

    # --- the front's calls

    def drain(self) -> None:
        """Close if nothing is under way."""
        if self.transport is not None and not self.pending and not self._in_body and not self._head_bytes:
            self.transport.close()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        if self.transport is not None:
            self.transport.abort()

    def check(self, now: float) -> None:
        """The sweep: is this client too slow?"""
        transport = self.transport
        if transport is None:
            return
        limits = self._front.limits
        age = now - self._stamp
        if self._lingering:
            if age > limits.linger_seconds:
                transport.abort()
        elif self._write_paused:
            self._check_writing(transport, now, age)
        elif self._paused:
            return
        elif self._in_body:
            if age > limits.body_seconds:
                self._refuse(framing.too_slow(f"No byte of the body came for {limits.body_seconds:g} seconds"))
        elif self._head_bytes:
            if age > limits.head_seconds:
                self._headless = False
                self._refuse(framing.too_slow(f"The headers were not complete within {limits.head_seconds:g} seconds"))
        elif not self.pending and age > limits.idle_seconds:
            if transport.is_closing():  # and the client does not take the rest of its answer
                transport.abort()
            else:
                transport.close()

    def _check_writing(self, transport: asyncio.Transport, now: float, age: float) -> None:
        unsent = transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._stamp = now
        elif age > self._front.limits.write_seconds:
            transport.abort()
        self._unsent = unsent

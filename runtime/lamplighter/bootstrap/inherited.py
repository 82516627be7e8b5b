"""A Runtime API client whose connection outlives its process: every step is noted, and a successor goes on from there.

The kernel counts what was sent and read on a TCP connection (``struct tcp_info`` of linux/tcp.h). Those counters belong
to the connection, not to a process, so a note that says "up to byte 1234 that request goes" can be checked after its
writer was killed, between any two of its instructions.
"""

from __future__ import annotations

import _socket
import fcntl
import struct
import termios
from typing import NamedTuple

from lamplighter.bootstrap import notes
from lamplighter.bootstrap.answer import Answer, ClientFault, Reader
from lamplighter.bootstrap.client import PATIENCE_S, Refused, RuntimeClient
from lamplighter.bootstrap.notes import Note, Place
from lamplighter.worker.event import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamplighter.bootstrap.stream import ResponseStream

_REQUEST_ID = b"\r\nlambda-runtime-aws-request-id:"
_INVOCATION_ID = b"\r\nlambda-runtime-invocation-id:"
_LENGTH = b"\r\ncontent-length:"

# Offsets in struct tcp_info, and its size up to where bytes_sent and bytes_retrans (since Linux 4.19) end.
_RECEIVED, _NOT_SENT, _SENT = 128, 144, 200
_TCP_INFO = 216


def _traffic(sock: _socket.socket) -> tuple[int, int] | None:
    """Bytes sent (or waiting in the kernel to be) and bytes read in the connection's life; ``None`` if unknown."""
    try:
        unread, before = _unread(sock), -1
        # What comes between the two calls would be counted by one of them alone.
        while unread != before:
            before = unread
            facts = sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _TCP_INFO)
            unread = _unread(sock)
    except OSError:
        return None
    if len(facts) < _TCP_INFO:
        return None
    (received,) = struct.unpack_from("=Q", facts, _RECEIVED)
    (waiting,) = struct.unpack_from("=I", facts, _NOT_SENT)
    sent, again = struct.unpack_from("=QQ", facts, _SENT)
    return sent - again + waiting, received - unread


def _unread(sock: _socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))[0])


_ENDLESS = 2**63
_GLANCE = 8192
"""Bytes that are looked at before they are read: AWS's server sends an event's id among the first few hundred."""
_LONGEST_LINE = 1024
"""Bytes that are kept of what was read without finding an id, in case it lies across the edge."""


class NotedSocket(_socket.socket):
    """A connected socket that notes each request before it is sent, and each event's id before it is read."""

    __slots__ = (
        "_after",
        "_ask",
        "_before",
        "_edge",
        "_event",
        "_looking",
        "_place",
        "_tail",
        "asks",
        "due",
        "read",
        "sent",
    )

    def settle(self, place: Place, ask: bytes, sent: int = 0, read: int = 0, *, asks: bool = False) -> None:
        """Make this socket the connection of ``place``. ``ask`` is the request for the next event, to know it by."""
        self._place = place
        self._ask = ask
        self.sent = self._before = self._after = sent
        self.read = self._edge = read
        self.asks = asks
        """A request for the next event is on its way."""
        self.due = False
        """An answer was posted, and the API has said nothing to it yet."""
        self._looking = asks
        self._tail = b""
        note = place.read()
        # Still so: a new connection changes nothing about what there is to be answered.
        self._event = (note.request_id, note.invocation_id)

    def intend(self, first: bytes, size: int) -> None:
        """Note that ``size`` bytes are going to be sent, beginning with ``first``."""
        self._before, self._after = self.sent, self.sent + size
        answers = first.startswith(b"POST /2018-06-01/runtime/invocation/")
        self.asks = self._looking = first.endswith(self._ask)
        self.due = answers
        self._tail = b""
        self._edge = self.read
        if answers or self.asks:
            self._note(notes.ANSWERING if answers else notes.ASKING)

    def sendall(self, data: bytes, flags: int = 0, /) -> None:  # type: ignore[override]  # a buffer; here always bytes
        if self.sent >= self._after:
            self.intend(data, len(data))
        super().sendall(data, flags)
        self.sent += len(data)

    def intend_stream(self) -> None:
        """Note that an answer of unknown length is going to be sent: if not all of it, then none that counts."""
        self._before, self._after = self.sent, _ENDLESS
        self.asks, self.due = False, True
        self._edge = self.read
        self._note(notes.ANSWERING)

    def send(self, data: memoryview, flags: int = 0, /) -> int:  # type: ignore[override]  # as above
        sent = super().send(data, flags)
        self.sent += sent
        return sent

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if flags:
            # A look at what is there.
            return super().recv(size, flags)
        if self._looking:
            size = self._look(super().recv(_GLANCE, _socket.MSG_PEEK)) or size
        data = super().recv(size)
        self.read += len(data)
        return data

    def _look(self, data: bytes) -> int:
        """Note what is about to be read: an event, by its id, or the answer before it. How many bytes that is, if it
        matters."""
        head = (self._tail + data).lower()
        at = head.find(_REQUEST_ID)
        end = head.find(b"\r\n", at + 2)
        if at >= 0 and end >= 0:
            self._looking = False
            text = self._tail + data
            self._event = (
                text[at + len(_REQUEST_ID) : end].strip().decode("utf-8", "replace"),
                _value(text, head, _INVOCATION_ID),
            )
            self._note(notes.ARRIVING)
            return 0
        if not self._tail and 0 < (whole := _size_of_answer(head)) <= len(data):
            self._note(notes.ANSWERING, ahead=self.read + whole)
            return whole
        self._tail = (self._tail + data)[-_LONGEST_LINE:]
        return len(data)

    def note_event(self, event: Event) -> None:
        """An event was read to its end."""
        self.asks = self.due = self._looking = False
        self._event = (event.request_id, event.invocation_id)
        self._before = self._after = self.sent
        self._edge = self.read
        self._note(notes.RUNNING)
        self._place.count_event()

    @property
    def holds_event(self) -> bool:
        """The next event is read in part already."""
        return self.asks and not self._looking

    def note_refused(self) -> None:
        """The API has no event, but a fault."""
        self.asks = self._looking = False
        self.note_answered()

    def note_answered(self) -> None:
        """The API has said what it thinks of an answer."""
        self.due = False
        self._before = self._after = self.sent
        self._edge = self.read
        self._note(notes.ASKING if self.asks else notes.ANSWERED)

    def _note(self, step: int, ahead: int = 0) -> None:
        edge = self._edge
        self._place.write(step, self.asks, self.due, self._before, self._after, edge, ahead or edge, *self._event)


def _value(text: bytes, lower: bytes, name: bytes) -> str:
    at = lower.find(name, 0, lower.find(b"\r\n\r\n") + 2)
    if at < 0:
        return ""
    at += len(name)
    return text[at : text.find(b"\r\n", at)].strip().decode("utf-8", "replace")


def _size_of_answer(lower: bytes) -> int:
    """The bytes of the answer at the front, if its head says so; else 0."""
    end = lower.find(b"\r\n\r\n")
    at = lower.find(_LENGTH, 0, end)
    if at < 0:
        return 0
    digits = lower[at + len(_LENGTH) : lower.find(b"\r\n", at + 2)].strip()
    return end + 4 + int(digits) if digits.isdigit() else 0


class Standing(NamedTuple):
    """Where a predecessor left its connection and its invocation."""

    usable: bool
    """The connection is between two answers: what is read next begins one."""
    due: bool
    """The first of them answers what was posted."""
    asked: bool
    """The next one, or the one behind it, brings an event."""
    owed: bool
    """The invocation that the note names has to be answered."""


def standing(note: Note, sent: int, read: int) -> Standing:
    """Where the writer of ``note`` was, given what its connection has ``sent`` and ``read`` in all."""
    answering = note.step == notes.ANSWERING
    if sent == note.before != note.after:
        # Its last request never left it.
        usable, due, asked, owed = read == note.read, False, False, answering
    elif sent == note.after:
        usable, due, asked, owed = read in {note.read, note.ahead}, note.due, note.asks, False
        if note.step == notes.ARRIVING:
            # Read in part, it is lost with the connection; not at all, it is there to be read.
            usable = read == note.read
            owed = not usable
        elif note.step == notes.RUNNING:
            owed = True
        elif read != note.read:
            due = False
    else:
        # Cut off in the middle of a request; or another connection than the note is about.
        usable, due, asked, owed = False, False, False, notes.ARRIVING <= note.step <= notes.ANSWERING
    return Standing(usable, due and usable, asked and usable, owed)


class InheritedClient(RuntimeClient):
    """A :class:`RuntimeClient` at a place of the pool: it goes on where the place's last holder was when it ended."""

    __slots__ = ("_place",)

    def __init__(self, address: str, place: Place, patience_s: float = PATIENCE_S) -> None:
        super().__init__(address, patience_s)
        self._place = place

    def take_over(self) -> Event | None:
        """Take up the predecessor's connection; the invocation that it left unanswered, if there is one."""
        note = self._place.read()
        fd = self._place.kept()
        found = Standing(False, False, False, notes.ARRIVING <= note.step <= notes.ANSWERING)
        if fd >= 0:
            sock = NotedSocket(fileno=fd)
            traffic = _traffic(sock)
            if traffic is not None:
                found = standing(note, *traffic)
            if traffic is None or not found.usable:
                sock.close()
                self._place.drop()
            else:
                sock.settle(self._place, self._next, *traffic, asks=found.asked)
                self._sock, self._reader = sock, Reader(sock, self._patience_s)
                self._asked = found.asked
                sock.due = found.due
                if found.due:
                    self._read_due()
        return Event(b"", note.request_id, invocation_id=note.invocation_id) if found.owed else None

    def settled(self) -> None:
        """The invocation that :meth:`take_over` named is over."""
        self._answered(then_next=False)

    def _read_due(self) -> None:
        """Read what the API said to an answer of the predecessor's. Whatever it is, that invocation is over."""
        sock = self._noted()
        try:
            self._read()
        except ClientFault:
            return
        if sock is not None and self._sock is sock and not sock.holds_event:
            sock.note_answered()

    def next(self) -> Event:
        try:
            event = super().next()
        except Refused as refusal:
            sock = self._noted()
            if sock is not None and refusal.event is None:
                sock.note_refused()
            raise
        sock = self._noted()
        if sock is not None:
            sock.note_event(event)
        return event

    def respond(self, event: Event, body: bytes, content_type: str, *, then_next: bool = False) -> None:
        super().respond(event, body, content_type, then_next=then_next)
        self._answered(then_next)

    def fail(self, event: Event, body: bytes, error_type: str, cause: bytes = b"", *, then_next: bool = False) -> None:
        super().fail(event, body, error_type, cause, then_next=then_next)
        self._answered(then_next)

    def stream(self, event: Event, content_type: str) -> ResponseStream:
        stream = super().stream(event, content_type)
        sock = self._noted()
        if sock is not None:
            sock.intend_stream()
            stream.then(sock.note_answered)
        return stream

    def _answered(self, then_next: bool) -> None:
        sock = self._noted()
        if sock is not None and not then_next:
            sock.note_answered()

    def _settle(self, what: str, request: bytes, event: Event) -> None:
        super()._settle(what, request, event)
        sock = self._noted()
        if sock is not None and not sock.holds_event:
            sock.note_answered()

    def _send_and_read(self, request: bytes, body: bytes) -> Answer:
        if body:
            sock = self._connection()[0]
            if isinstance(sock, NotedSocket):
                sock.intend(request, len(request) + len(body))
        return super()._send_and_read(request, body)

    def close(self) -> None:
        """Close the connection, here and in the mailbox: it is of no use any more."""
        super().close()
        self._place.drop()

    def _connected(self) -> _socket.socket:
        sock = NotedSocket(fileno=super()._connected().detach())
        sock.settle(self._place, self._next)
        self._place.keep(sock.fileno())
        return sock

    def _noted(self) -> NotedSocket | None:
        return self._sock if isinstance(self._sock, NotedSocket) else None

"""How the loop gets events and gives answers: a small protocol, and the one that speaks the host's channel."""

from __future__ import annotations

import contextlib
import socket
from typing import Protocol

from lamplighter.worker.channel import (
    ERROR,
    INIT_ERROR,
    RANGES_LIMIT,
    RAW,
    READY,
    RESPONSE,
    WORKING_SET,
    receive_event,
    send_reply,
)
from lamplighter.worker.event import Event


class Transport(Protocol):
    """One invocation at a time: ``next``, then exactly one of ``respond`` and ``fail``."""

    def next(self) -> Event | None:
        """Wait for the next event; ``None`` when there will be no more."""

    def respond(self, event: Event, body: bytes, is_json: bool) -> None:
        """Answer with the handler's result."""

    def fail(self, event: Event, body: bytes, error_type: str, cause: bytes) -> None:
        """Answer with an error: ``body`` is its JSON payload, ``cause`` the one X-Ray wants."""

    def stream(self, event: Event, content_type: str) -> Sink | None:
        """Begin to answer in pieces, in place of ``respond``; ``None`` where a result must be sent whole."""


class Sink(Protocol):
    """An answer in pieces: any number of ``write``, then exactly one of ``end`` and ``fail``."""

    def write(self, data: bytes, /) -> bool:
        """Send one piece, which is not empty. ``False``: it was refused, and that is dealt with; send no more."""

    def end(self) -> None:
        """The answer is whole."""

    def fail(self, body: bytes, error_type: str, cause: bytes, /) -> None:
        """The answer ends here, and is an error: ``body`` is its JSON payload."""


class Pages(Protocol):
    """A forked process's pages: those it shares with its template are copied as it writes to them, one fault each.

    Both sides of this are pairs of native ``u64``: page number and count of pages.
    """

    def private(self) -> bytes:
        """The pages this process has written to since its fork."""

    def populate(self, ranges: bytes, /) -> object:
        """Copy these pages now, where they exist."""


class ChannelTransport:
    """The worker's end of the channel, over a blocking ``SOCK_SEQPACKET`` socket.

    When the host has gone, answers fall on the floor and :meth:`next` says ``None``: nobody is left to be told.
    """

    __slots__ = ("_pages", "_sock", "_soon")

    def __init__(self, sock: socket.socket, pages: Pages | None = None) -> None:
        """``pages``: where this process can tell and choose which of its pages are private."""
        self._sock = sock
        self._pages = pages
        self._soon = False

    def ready(self, stages: bytes = b"") -> None:
        """Tell the host that init is done; ``stages`` is a JSON object of what each step took, in microseconds."""
        self._send(READY, 0, stages, "", 0)

    def init_failed(self, body: bytes, error_type: str) -> None:
        """Tell the host that init failed; ``body`` is the error's JSON payload."""
        self._send(INIT_ERROR, 0, body, error_type, 0)

    def next(self) -> Event | None:
        """Wait for the next event. Raises :class:`~lamplighter.worker.channel.ProtocolFault`."""
        try:
            event = receive_event(self._sock, self._pages.populate if self._pages else None, soon=self._soon)
        except ConnectionResetError:
            return None
        self._soon = event is not None and event.more
        return event

    def respond(self, event: Event, body: bytes, is_json: bool) -> None:
        """Answer with the handler's result."""
        self._send(RESPONSE, event.sequence, body, "", 0 if is_json else RAW)
        if event.learn:
            self._tell_working_set(event)

    def fail(self, event: Event, body: bytes, error_type: str, cause: bytes) -> None:
        """Answer with an error. The channel has no use for the cause."""
        self._send(ERROR, event.sequence, body, error_type, 0)
        if event.learn:
            self._tell_working_set(event)

    def stream(self, event: Event, content_type: str) -> None:
        """The channel carries whole results only."""

    def _tell_working_set(self, event: Event) -> None:
        ranges = b""
        with contextlib.suppress(OSError):  # it is only a hint
            ranges = self._pages.private()[:RANGES_LIMIT] if self._pages is not None else b""
        self._send(WORKING_SET, event.sequence, ranges, "", 0)

    def _send(self, kind: int, sequence: int, body: bytes, error_type: str, flags: int) -> None:
        try:  # noqa: SIM105 - suppress() would cost more than making the message
            send_reply(self._sock, kind, sequence, body, error_type, flags)
        except (BrokenPipeError, ConnectionResetError):
            pass

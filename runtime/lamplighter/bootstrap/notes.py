"""What a worker was about when it died: a few bytes that it shares with its successor, and the connection it had.

A worker may be killed at any instruction, and the Runtime API has then an invocation open that nobody will answer, or
a parked request for the next event that nobody will read; AWS's own server hands events to such a request all the same.
So a worker notes each step before it takes it, in memory that it shares with the supervisor, and leaves a copy of its
connection in a :class:`Place`'s mailbox, where the kernel keeps it open. Whoever takes the place over reads the note,
asks the kernel how far the connection really got, and goes on from there.

A note is written into one of two halves and becomes valid by a single byte, so that a half-written one never counts::

    u8 half that is valid | 7 bytes free | u64 events taken so far
    2 x (u8 step | u8 asks, 1, and due, 2 | u16 length of the request id | u16 of the invocation id | 2 bytes free |
         u64 before | u64 after | u64 read | u64 ahead | the ids)
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
from typing import NamedTuple

FRESH = 0
"""Nothing was said on the connection."""
ASKING = 1
"""A request for the next event, and nothing else, is sent or about to be."""
ARRIVING = 2
"""An event with this id has come; it is read in part, or not at all."""
RUNNING = 3
"""An event was read, and is not answered."""
ANSWERING = 4
"""Its answer is sent or about to be; with ``asks``, a request for the next event behind it."""
ANSWERED = 5
"""Nothing is open."""

_HEAD = struct.Struct("<BBHHxxQQQQ")
_INT = struct.Struct("@i")
_EVENTS = struct.Struct("<Q")
_HALF = 1024
_FIRST = 16
_PLACE = 4096
"""A page for each place, so that workers do not write to one another's."""
_ROOM = _HALF - _HEAD.size


class Note(NamedTuple):
    """``before`` and ``after``: bytes sent on the connection in its life, before the last request and with all of it.

    ``asks``: a request for the next event is in it; ``due``: so is an answer that the API has not judged yet. ``read``:
    bytes read up to the end of the last answer; ``ahead``: the same once the one under way is read.
    """

    step: int
    asks: bool
    due: bool
    before: int
    after: int
    read: int
    ahead: int
    request_id: str
    invocation_id: str


class Memory:
    """The notes of ``count`` places, in memory that is shared by every process forked from this one."""

    def __init__(self, count: int) -> None:
        self._map = mmap.mmap(-1, count * _PLACE)
        self.places = [Place(self._map, number) for number in range(count)]


class Place:
    """One worker's place in the pool, which outlives the worker. Used by one process at a time."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self.number = number
        self._memory = memory
        self._at = number * _PLACE
        self._in, self._out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._out.setblocking(False)

    def write(
        self,
        step: int,
        asks: bool,
        due: bool,
        before: int,
        after: int,
        read: int,
        ahead: int,
        request_id: str = "",
        invocation_id: str = "",
    ) -> None:
        """Replace the note, as a whole or not at all."""
        first = request_id.encode()
        second = invocation_id.encode()
        if len(first) + len(second) > _ROOM:
            # No id of the platform's is a tenth as long. An answer without the second id is accepted.
            first, second = first[:_ROOM], b""
        half = 1 - self._memory[self._at]
        start = self._at + _FIRST + half * _HALF
        self._memory[start : start + _HEAD.size + len(first) + len(second)] = b"".join(
            (_HEAD.pack(step, asks | due << 1, len(first), len(second), before, after, read, ahead), first, second)
        )
        self._memory[self._at] = half

    def read(self) -> Note:
        """The note as it is."""
        start = self._at + _FIRST + self._memory[self._at] * _HALF
        step, flags, first, second, before, after, read, ahead = _HEAD.unpack_from(self._memory, start)
        at = start + _HEAD.size
        request_id = self._memory[at : at + first].decode("utf-8", "replace")
        invocation_id = self._memory[at + first : at + first + second].decode("utf-8", "replace")
        return Note(step, bool(flags & 1), bool(flags & 2), before, after, read, ahead, request_id, invocation_id)

    @property
    def events(self) -> int:
        """How many events were taken at this place so far, by all who held it."""
        return int(_EVENTS.unpack_from(self._memory, self._at + 8)[0])

    def count_event(self) -> None:
        """One more event was taken."""
        _EVENTS.pack_into(self._memory, self._at + 8, self.events + 1)

    def keep(self, connection: int) -> None:
        """Keep a connection, by its descriptor, for whoever holds this place next; it replaces the one kept so far."""
        self.drop()
        socket.send_fds(self._in, [b"c"], [connection])

    def kept(self) -> int:
        """A descriptor of the connection that is kept, the caller's to close; -1 if there is none. It stays kept."""
        return self._receive(socket.MSG_PEEK)

    def drop(self) -> None:
        """Let go of the connection that is kept."""
        fd = self._receive(0)
        if fd >= 0:
            os.close(fd)

    def _receive(self, flags: int) -> int:
        # Not socket.recv_fds: it takes flags, and ignores them (CPython 3.11 to 3.13).
        try:
            _, messages, _, _ = self._out.recvmsg(1, socket.CMSG_LEN(_INT.size), flags | socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return -1
        return int(_INT.unpack_from(messages[0][2])[0]) if messages else -1

    def close(self) -> None:
        """Close the mailbox, in a process that does not hold this place."""
        with contextlib.suppress(OSError):
            self._in.close()
        with contextlib.suppress(OSError):
            self._out.close()

"""The channel: how one invocation travels between the host and a worker.

A ``SOCK_SEQPACKET`` pair keeps message bounds, so every message is one ``send`` and one ``recv``. A message of up to
:data:`MESSAGE_LIMIT` bytes carries its body; a larger body travels as a memfd in a second, one-byte message whose only
purpose is its descriptor. Layouts (little-endian, no padding):

``INVOKE`` (host to worker)::

    u8 kind | u8 flags | u32 sequence | i64 deadline, epoch ms | u32 body length
    u16 lengths of: request id, function ARN, trace id, client context, cognito identity, tenant id
    the six strings (UTF-8), then the body unless LARGE is set

``READY``, ``RESPONSE``, ``ERROR``, ``INIT_ERROR`` (worker to host)::

    u8 kind | u8 flags | u32 sequence | u32 body length | u16 error type length
    the error type (UTF-8), then the body unless LARGE is set

``PREPARE`` (host to worker)::

    u8 kind, then the pages to make private: pairs of native u64, page number and count

``WORKING_SET`` (worker to host) is laid out as a reply; its body is such pairs. It follows the RESPONSE to an INVOKE
with LEARN set: the pages that one invocation wrote to, which another worker does well to have before its first.

The worker answers with the sequence number it was given; the host treats any other number as a protocol fault and
replaces the environment. Both ends live in this module, so that the layout is written once.
"""

from __future__ import annotations

import array
import os
import socket
import stat
import struct
from collections.abc import Callable

from lamplighter.worker.event import Event

INVOKE = 1
READY = 2
RESPONSE = 3
ERROR = 4
INIT_ERROR = 5
WORKING_SET = 6
PREPARE = 7

LARGE = 1
"""Flag: the body follows as a memfd in the next message."""
RAW = 2
"""Flag on RESPONSE: the handler returned bytes; they are not JSON (content type ``application/unknown``)."""
LEARN = 4
"""Flag on INVOKE: send a WORKING_SET once this one is answered."""

MESSAGE_LIMIT = 65_536
"""Bytes a message may have. Well under the kernel's default send buffer (212,992 bytes), and small enough that a
receive buffer of this size comes from the heap, not from ``mmap``."""
MORE = 8
"""Flag on INVOKE: other invocations wait, the next will be sent as soon as this one is answered, and there are
processors to spare: stay awake for it."""

_YIELDS = 60
"""Tries to receive an event that is on its way before going to sleep: some 150 µs at most."""
RANGES_LIMIT = 61_440
"""Bytes of page ranges in one message."""

_INVOKE = struct.Struct("<BBIqIHHHHHH")
_REPLY = struct.Struct("<BBIIH")


class ProtocolFault(Exception):
    """The other end sent something that is not a message of this channel."""


class Reply:
    """What a worker says: READY, RESPONSE, ERROR or INIT_ERROR. ``length`` is the body's, in bytes."""

    __slots__ = ("body", "error_type", "flags", "kind", "length", "sequence")

    def __init__(self, kind: int, flags: int, sequence: int, error_type: str, length: int, body: bytes) -> None:
        self.kind = kind
        self.flags = flags
        self.sequence = sequence
        self.error_type = error_type
        self.length = length
        self.body = body


def send_event(
    sock: socket.socket,
    sequence: int,
    deadline_ms: int,
    body: bytes,
    request_id: str,
    function_arn: str = "",
    trace_id: str = "",
    client_context: str = "",
    cognito_identity: str = "",
    tenant_id: str = "",
    flags: int = 0,
) -> None:
    """Host end: send one invocation. Raises ``OSError`` if the worker is gone or its buffer is full.

    The caller keeps the six strings, together, under half of :data:`MESSAGE_LIMIT`.
    """
    texts = (request_id, function_arn, trace_id, client_context, cognito_identity, tenant_id)
    joined = "".join(texts)
    strings = joined.encode()
    # Of ASCII, and that is what they mostly are, characters are bytes.
    lengths = map(len, texts) if len(strings) == len(joined) else [len(text.encode()) for text in texts]
    size = len(body)
    large = size + len(strings) + _INVOKE.size > MESSAGE_LIMIT
    head = _INVOKE.pack(INVOKE, flags | LARGE if large else flags, sequence, deadline_ms, size, *lengths)
    if large:
        _send_large(sock, head + strings, body)
    else:
        sock.send(b"".join((head, strings, body)))


def send_prepare(sock: socket.socket, ranges: bytes) -> None:
    """Host end: ask a worker to make pages private. Raises ``OSError`` if it is gone or its buffer is full."""
    sock.send(bytes((PREPARE,)) + ranges[:RANGES_LIMIT])


def receive_event(
    sock: socket.socket, prepare: Callable[[bytes], object] | None = None, *, soon: bool = False
) -> Event | None:
    """Worker end: wait for the next invocation; ``None`` once the host has closed the channel.

    ``prepare`` is called with the pages of each PREPARE that comes before it. ``soon`` says that the event before this
    one had MORE set.
    """
    data = _receive_soon(sock) if soon else sock.recv(MESSAGE_LIMIT)
    while data and data[0] == PREPARE:
        if prepare is not None:
            prepare(data[1:])
        data = sock.recv(MESSAGE_LIMIT)
    if not data:
        return None
    if len(data) < _INVOKE.size or data[0] != INVOKE:
        raise ProtocolFault(f"expected an INVOKE message, got {len(data)} bytes starting with {data[:1]!r}")
    (
        _,
        flags,
        sequence,
        deadline_ms,
        length,
        of_request_id,
        of_arn,
        of_trace_id,
        of_context,
        of_identity,
        of_tenant_id,
    ) = _INVOKE.unpack_from(data)
    at = _INVOKE.size
    request_id = data[at : (at := at + of_request_id)].decode()
    function_arn = data[at : (at := at + of_arn)].decode()
    trace_id = data[at : (at := at + of_trace_id)].decode()
    client_context = cognito_identity = tenant_id = ""
    if of_context or of_identity or of_tenant_id:  # few callers send any
        client_context = data[at : (at := at + of_context)].decode()
        cognito_identity = data[at : (at := at + of_identity)].decode()
        tenant_id = data[at : (at := at + of_tenant_id)].decode()
    body = receive_body(sock, length) if flags & LARGE else data[at:]
    if len(body) != length:
        raise ProtocolFault(f"the event's header promises {length} bytes, {len(body)} came")
    event = Event(
        body, request_id, function_arn, deadline_ms, trace_id, client_context, cognito_identity, tenant_id, sequence
    )
    if flags:
        event.learn = bool(flags & LEARN)
        event.more = bool(flags & MORE)
    return event


def _receive_soon(sock: socket.socket) -> bytes:
    """Receive what is on its way, staying runnable for a moment: to sleep and be woken costs more than the wait."""
    for _ in range(_YIELDS):
        try:
            return sock.recv(MESSAGE_LIMIT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            os.sched_yield()
    return sock.recv(MESSAGE_LIMIT)


def send_reply(
    sock: socket.socket, kind: int, sequence: int, body: bytes = b"", error_type: str = "", flags: int = 0
) -> None:
    """Worker end: send READY, a result, or an error."""
    name = error_type.encode()
    if _REPLY.size + len(name) + len(body) > MESSAGE_LIMIT:
        _send_large(sock, _REPLY.pack(kind, flags | LARGE, sequence, len(body), len(name)) + name, body)
    else:
        sock.send(b"".join((_REPLY.pack(kind, flags, sequence, len(body), len(name)), name, body)))


def receive_reply(sock: socket.socket) -> Reply | None:
    """Host end: the next message; ``None`` at end of file, ``BlockingIOError`` if none is there yet.

    Where ``flags & LARGE``, the body is empty and :func:`receive_body` fetches it: a separate step, because a worker
    that promises a body and never sends it must not stop the host.
    """
    data = sock.recv(MESSAGE_LIMIT)
    if not data:
        return None
    if len(data) < _REPLY.size or not READY <= data[0] <= WORKING_SET:
        raise ProtocolFault(f"expected a reply, got {len(data)} bytes starting with {data[:1]!r}")
    kind, flags, sequence, length, name_length = _REPLY.unpack_from(data)
    at = _REPLY.size + name_length
    try:
        error_type = data[_REPLY.size : at].decode() if name_length else ""
    except UnicodeDecodeError as fault:
        raise ProtocolFault("the error type is not UTF-8") from fault
    body = data[at:]
    if len(body) != (0 if flags & LARGE else length):
        raise ProtocolFault(f"the reply's header promises {length} bytes, {len(body)} came")
    return Reply(kind, flags, sequence, error_type, length, body)


def receive_body(sock: socket.socket, length: int) -> bytes:
    """Either end: fetch the body of a LARGE message. ``BlockingIOError`` if a non-blocking socket has none yet."""
    _, fds = receive_descriptors(sock, 1, 4)
    try:
        if len(fds) != 1:
            raise ProtocolFault(f"a large body must come with one descriptor, got {len(fds)}")
        facts = os.fstat(fds[0])
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != length:
            raise ProtocolFault(f"the header promises {length} bytes, the descriptor holds something else")
        body = os.pread(fds[0], length, 0)
        if len(body) != length:
            raise ProtocolFault(f"the header promises {length} bytes, the descriptor gave {len(body)}")
        return body
    finally:
        for fd in fds:
            os.close(fd)


def receive_descriptors(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Receive up to ``size`` bytes and ``most`` descriptors, which no program that is executed inherits.

    ``socket.recv_fds`` would take the flag for that, and ignore it (CPython 3.11 to 3.13).
    """
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_LEN(most * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds.tolist()


def _send_large(sock: socket.socket, head: bytes, body: bytes) -> None:
    fd = os.memfd_create("lamplighter-body", os.MFD_CLOEXEC)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(fd, view) :]
        # Only now: a header without its body would leave the other end waiting.
        sock.send(head)
        socket.send_fds(sock, [b"L"], [fd])
    finally:
        os.close(fd)

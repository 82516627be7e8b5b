"""The Runtime API, version 2018-06-01, over one connection that is kept.

:class:`RuntimeClient` knows the paths and headers, and what may be sent again: a request on a kept connection that
turns out to be dead is repeated once on a new one, as every HTTP client does, so that an answer may be posted twice,
and is accepted once. What the API's answers mean is :mod:`lamplighter.bootstrap.transport`'s business.
"""

from __future__ import annotations

import _socket
import sys

from lamplighter.bootstrap import VERSION
from lamplighter.bootstrap.answer import Answer, ClientFault, Gone, Malformed, Reader
from lamplighter.worker.event import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamplighter.bootstrap.stream import ResponseStream

_BASE = "/2018-06-01/runtime/"
_CONNECT_S = 5.0
PATIENCE_S = 60.0
"""Within this time an answer that has begun must end, and a request must be taken."""
PROBE_S = 0.25
"""How long a server may take to show that it answers two requests of one send."""
CAUSE_LIMIT = 1 << 20
"""An X-Ray cause of this many bytes or more is left out, as awslambdaric does: a server need not take such a head."""
_JOIN_LIMIT = 65_536
"""A body up to here is copied behind its head: one system call costs more than the copy."""


class AddressFault(ClientFault):
    """``AWS_LAMBDA_RUNTIME_API`` is not ``host:port``."""


class Refused(ClientFault):
    """The Runtime API answered with a status other than success."""

    def __init__(self, what: str, status: int, body: bytes, event: Event | None = None) -> None:
        text = body[:500].decode("utf-8", "replace").strip()
        super().__init__(f"the Runtime API answered {status} to {what}{': ' if text else ''}{text}")
        self.what = what
        self.status = status
        self.body = body
        self.event = event
        """Whose answer was refused."""


def split_address(address: str) -> tuple[str, int]:
    """``host:port``, ``[v6 address]:port`` or ``v6 address:port`` as host and port. Raises :class:`AddressFault`."""
    host, colon, port = address.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    sound = host and colon and port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65_536
    try:
        if not host.isascii():
            host = host.encode("idna").decode()
    except UnicodeError:
        sound = False
    if not sound or not host.isprintable() or " " in host or "/" in host:
        raise AddressFault(f"AWS_LAMBDA_RUNTIME_API must be host:port, without a scheme, got {address!r}")
    return host, int(port)


class RuntimeClient:
    """A client of the Runtime API. It connects when it first has something to say; not for several threads at once.

    Guarantees: waiting for an event has no time limit and lets Python's signal handlers run; everything else ends
    within bounds; an event is handed out once for each time the server sends it; nothing is sent behind a request for
    the next event, which the server would only read once that is answered.
    """

    __slots__ = ("_address", "_asked", "_early", "_next", "_owed", "_patience_s", "_reader", "_sock", "_tail")

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        """``address`` is the value of ``AWS_LAMBDA_RUNTIME_API``. Raises :class:`AddressFault`."""
        host, port = split_address(address)
        self._address = address
        self._patience_s = patience_s
        self._sock: _socket.socket | None = None
        self._reader: Reader | None = None
        self._owed: tuple[str, bytes, Event] | None = None
        """What was posted together with a request for the next event, and is not answered yet."""
        self._asked = False
        """A request for the next event is on its way."""
        self._early: list[Event] = []
        """Events that came when none was asked for."""
        version = sys.version_info
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        agent = f"lamplighter/{VERSION} python/{version.major}.{version.minor}.{version.micro}"
        self._tail = f" HTTP/1.1\r\nHost: {where}\r\nUser-Agent: {agent}\r\n"
        self._next = f"GET {_BASE}invocation/next{self._tail}\r\n".encode()

    def next(self) -> Event:
        """Wait for the next event. Raises :class:`ClientFault`.

        :class:`Refused` is about the answer that was posted together with the request for this event, if it has an
        ``event``; :meth:`next` may then be called again.
        """
        if self._owed is not None:
            self._settle(*self._owed)
        if self._early:
            return self._early.pop(0)
        if self._asked:
            try:
                answer = self._read()
            except Gone:
                # The server is free to close a connection before it has read all that came. It has not answered this
                # request, so it is asked again.
                answer = self._exchange(self._next)
            self._asked = False
        else:
            answer = self._exchange(self._next)
        if answer.status != 200:
            raise Refused("a request for the next event", answer.status, answer.body)
        event = _event(answer)
        if event is None:
            raise Malformed("the Runtime API sent an event without the header Lambda-Runtime-Aws-Request-Id")
        return event

    def respond(self, event: Event, body: bytes, content_type: str, *, then_next: bool = False) -> None:
        """Post the result of ``event``. ``then_next``: ask for the next event in the same send.

        Raises :class:`ClientFault`; with ``then_next`` a refusal is raised by :meth:`next`.
        """
        echo = _echo(event) if event.invocation_id else ""
        head = (
            f"POST {_BASE}invocation/{event.request_id}/response{self._tail}Content-Type: {content_type}\r\n"
            f"{echo}Content-Length: {len(body)}\r\n\r\n"
        )
        self._answer("a response", head.encode(), body, event, then_next)

    def fail(self, event: Event, body: bytes, error_type: str, cause: bytes = b"", *, then_next: bool = False) -> None:
        """Post an error as the outcome of ``event``; ``body`` is its JSON payload, ``cause`` the one X-Ray wants."""
        head = self._error_head(f"invocation/{event.request_id}/error", body, error_type, cause, _echo(event))
        self._answer("an error", head, body, event, then_next)

    def stream(self, event: Event, content_type: str) -> ResponseStream:
        """Begin to post the result of ``event`` in pieces. Nothing else may be called until it has ended."""
        from lamplighter.bootstrap.stream import MODE, ResponseStream, has_spoken  # noqa: PLC0415 - few functions stream

        head = (
            f"POST {_BASE}invocation/{event.request_id}/response{self._tail}Content-Type: {content_type}\r\n"
            f"{_echo(event)}{MODE}\r\n"
        )
        if self._sock is not None and has_spoken(self._sock):
            self.close()
        sock, _ = self._connection()

        def finish(whole: bool) -> Answer:
            answer = self._read()
            if not whole:
                self.close()
            if answer.status // 100 != 2:
                raise Refused("a response", answer.status, answer.body, event)
            return answer

        return ResponseStream(sock, head.encode(), finish)

    def init_error(self, body: bytes, error_type: str, cause: bytes = b"") -> None:
        """Post why the function could not be initialised."""
        self._post("an init error", self._error_head("init/error", body, error_type, cause) + body)

    def restore_next(self) -> None:
        """Wait until this process is restored from a snapshot. The connection does not outlive that."""
        answer = self._exchange(f"GET {_BASE}restore/next{self._tail}\r\n".encode())
        self.close()
        if answer.status != 200:
            raise Refused("a request for the restore", answer.status, answer.body)

    def restore_error(self, body: bytes, error_type: str, cause: bytes = b"") -> None:
        """Post why the function could not take up its work after a restore."""
        self._post("a restore error", self._error_head("restore/error", body, error_type, cause) + body)

    def takes_one_send(self) -> bool:
        """Does this server answer two requests that come in one send?

        Asked with the request that HTTP has for this: ``OPTIONS *`` concerns no resource (RFC 9110, 9.3.7). A server
        that does not know it answers with an error, or hangs up; both are fine. A server that takes anything for a
        request for the next event loses nothing: such an answer is kept, and is the next event.
        """
        options = f"OPTIONS *{self._tail}"
        probe = f"{options}Content-Length: 2\r\n\r\n{{}}{options}\r\n".encode()
        answered = 0
        try:
            sock, reader = self._connection()
            sock.sendall(probe)
            for _ in range(2):
                sock.settimeout(PROBE_S)
                answer = reader.read()
                sock.settimeout(None)
                event = _event(answer) if answer.status == 200 else None
                if event is not None:
                    self._early.append(event)
                if answer.closes:
                    break
                answered += 1
        except (ClientFault, OSError):
            answered = 0
        if answered == 2 and not self._early:
            return True
        self.close()
        return False

    def close(self) -> None:
        """Close the connection, if there is one."""
        sock, self._sock, self._reader = self._sock, None, None
        self._asked = False
        if sock is not None:
            sock.close()

    def _error_head(self, path: str, body: bytes, error_type: str, cause: bytes, echo: str = "") -> bytes:
        head = (
            f"POST {_BASE}{path}{self._tail}Content-Type: application/json\r\n"
            f"Lambda-Runtime-Function-Error-Type: {_header_value(error_type)}\r\n"
            f"{echo}Content-Length: {len(body)}\r\n"
        ).encode("utf-8", "backslashreplace")
        if cause and len(cause) < CAUSE_LIMIT:
            head += b"Lambda-Runtime-Function-XRay-Error-Cause: " + cause + b"\r\n"
        return head + b"\r\n"

    def _post(self, what: str, request: bytes) -> None:
        answer = self._exchange(request)
        if answer.status // 100 != 2:
            raise Refused(what, answer.status, answer.body)

    def _answer(self, what: str, head: bytes, body: bytes, event: Event, then_next: bool) -> None:
        if self._asked:
            # On this connection it would wait for an event to come.
            aside = RuntimeClient(self._address, self._patience_s)
            try:
                aside._answer(what, head, body, event, then_next=False)
            finally:
                aside.close()
            return
        if not then_next:
            answer = self._exchange(head + body) if len(body) <= _JOIN_LIMIT else self._exchange(head, body)
            if answer.status // 100 != 2:
                raise Refused(what, answer.status, answer.body, event)
            return
        self._owed = what, head + body, event
        try:
            sock = self._sock or self._connection()[0]
            sock.sendall(b"".join((head, body, self._next)))
            self._asked = True
        except OSError:
            # Whatever of it arrived: the next call reads no answer from here, and sends it again.
            self.close()

    def _settle(self, what: str, request: bytes, event: Event) -> None:
        """Read the answer to what was posted together with the request for the next event."""
        self._owed = None
        again = False
        try:
            answer = self._read() if self._sock is not None else self._exchange(request)
        except Gone:
            again = True
            answer = self._exchange(request)
        if answer.status // 100 != 2 and not (again and answer.status in {400, 403}):
            raise Refused(what, answer.status, answer.body, event)

    def _exchange(self, request: bytes, body: bytes = b"") -> Answer:
        """Send a request and read its answer; if a kept connection turns out to be dead, once more on a new one."""
        kept = self._sock is not None
        try:
            return self._send_and_read(request, body)
        except Gone:
            if not kept:
                raise
        return self._send_and_read(request, body)

    def _send_and_read(self, request: bytes, body: bytes) -> Answer:
        sock = self._sock or self._connection()[0]
        broken = False
        try:
            sock.sendall(request)
            if body:
                sock.sendall(body)
        except BlockingIOError:
            self.close()
            raise Malformed(f"the server took nothing of a request for {self._patience_s:g} s") from None
        except OSError:
            # A server may answer before it has read everything, and hang up: what it said comes first.
            broken = True
        answer = self._read()
        if broken:
            self.close()
        return answer

    def _read(self) -> Answer:
        assert self._reader is not None
        try:
            answer = self._reader.read()
        except BaseException:
            self.close()
            raise
        if answer.closes:
            self.close()
        return answer

    def _connection(self) -> tuple[_socket.socket, Reader]:
        if self._sock is None or self._reader is None:
            self._sock = self._connected()
            self._reader = Reader(self._sock, self._patience_s)
        return self._sock, self._reader

    def _connected(self) -> _socket.socket:
        host, port = split_address(self._address)
        reason = "it has no address"
        try:
            # Bytes: for a string Python would load its IDNA codec, 5 ms.
            found = _socket.getaddrinfo(host.encode("ascii"), port, 0, _socket.SOCK_STREAM)
        except OSError as fault:
            raise Gone(f"cannot find the Runtime API at {self._address}: {fault}") from None
        for family, kind, protocol, _, where in found:
            try:
                sock = _socket.socket(family, kind, protocol)
            except OSError as fault:
                reason = fault.strerror or str(fault)
                continue
            try:
                sock.settimeout(_CONNECT_S)
                sock.connect(where)
                sock.settimeout(None)
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                for option in (_socket.SO_RCVTIMEO, _socket.SO_SNDTIMEO):
                    sock.setsockopt(_socket.SOL_SOCKET, option, _timeval(self._patience_s))
                return sock
            except OSError as fault:
                sock.close()
                reason = fault.strerror or str(fault)
            except BaseException:
                sock.close()
                raise
        raise Gone(f"cannot connect to the Runtime API at {self._address}: {reason}")


def _event(answer: Answer) -> Event | None:
    """The event in an answer to ``next``; ``None`` if it has no request id."""
    if answer.event is None:
        return None
    request_id, arn, deadline_ms, trace, context, identity, tenant, content_type, invocation_id = answer.event
    return Event(
        answer.body,
        request_id,
        arn,
        deadline_ms,
        trace,
        context,
        identity,
        tenant,
        content_type=content_type,
        invocation_id=invocation_id,
    )


def _echo(event: Event) -> str:
    return f"Lambda-Runtime-Invocation-Id: {event.invocation_id}\r\n" if event.invocation_id else ""


def _header_value(text: str) -> str:
    """``text`` on one line: a class may have any name."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    micros = int((seconds - whole) * 1e6)
    return whole.to_bytes(8, sys.byteorder) + micros.to_bytes(8, sys.byteorder)

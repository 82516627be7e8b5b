"""A response in pieces over the Runtime API: chunked, and marked as failed by trailers when it is cut short.

The connection is taken for as long as the response lasts. What was sent of it is gone, so nothing is sent again; but a
kept connection is looked at before it is used.
"""

from __future__ import annotations

import _socket

from lamplighter.bootstrap.answer import Answer, Gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MODE = (
    "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
    "Transfer-Encoding: chunked\r\n"
    "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
)


def is_dead(sock: _socket.socket) -> bool:
    """Has the server closed this idle connection, or said something on it that nobody asked for?"""
    try:
        sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class ResponseStream:
    """One response on its way. After :meth:`end` or :meth:`fail` the connection is free again."""

    __slots__ = ("_finish", "_head", "_sock")

    def __init__(self, sock: _socket.socket, head: bytes, finish: Callable[[bool], Answer]) -> None:
        """``finish(whole)`` reads the server's answer, and raises what a refusal is to raise."""
        self._sock = sock
        self._head = head
        self._finish = finish

    def write(self, data: bytes, /) -> None:
        """Send one piece, which is not empty. Raises :class:`ClientFault`."""
        self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """The response is whole. Raises :class:`ClientFault`."""
        self._send(b"0\r\n\r\n")
        self._finish(True)

    def fail(self, body: bytes, error_type: str, cause: bytes, /) -> None:
        """The response ends here, and is an error. X-Ray has no place for a cause in a trailer."""
        from binascii import b2a_base64  # noqa: PLC0415 - only a failed stream needs it

        name = "".join(c if c.isprintable() else "?" for c in error_type)
        trailers = b"Lambda-Runtime-Function-Error-Type: %b\r\nLambda-Runtime-Function-Error-Body: %b\r\n\r\n"
        self._send(b"0\r\n" + trailers % (name.encode("utf-8", "backslashreplace"), b2a_base64(body, newline=False)))
        self._finish(True)

    def _send(self, data: bytes) -> None:
        view = memoryview(self._head + data)
        self._head = b""
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                # The socket's time limit. How long a reader may take is for the platform to say, as with any handler.
                continue
            except OSError as fault:
                # A server may refuse a response before it has read all of it: what it said comes first.
                self._finish(False)
                raise Gone(f"the response was cut: {fault.strerror or fault}") from None

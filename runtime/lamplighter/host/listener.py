"""The listening socket's life: start, say where, stop accepting, and let what is under way come to its end."""

from __future__ import annotations

import asyncio

from lamplighter.host.http import Front


class Listener:
    """Serves one :class:`~lamplighter.host.http.Front` on one address, for as long as its event loop runs."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._server: asyncio.Server | None = None
        self._address = ("", 0)

    async def start(self, host: str, port: int, *, backlog: int = 1_024) -> None:
        """Bind and listen. ``port`` 0 lets the kernel choose. Raises ``OSError`` if the address cannot be had.

        A name that has several addresses is bound at each of them; they then share the port only if it was given.
        """
        if self._server is not None:
            raise RuntimeError(f"already listening on {self._address[0]}:{self._address[1]}")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._front, host, port, backlog=backlog)
        self._address = self._server.sockets[0].getsockname()[:2]

    @property
    def host(self) -> str:
        """The (first) bound address."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The (first) bound port."""
        return self._address[1]

    def stop_accepting(self) -> None:
        """Close the listening socket; connections live on. May be called again."""
        if self._server is not None:
            self._server.close()

    async def drain(self, seconds: float) -> int:
        """Stop accepting, close idle connections, and wait for the busy ones to get their answers.

        What is left after ``seconds`` is aborted; returns how many connections that were.
        """
        self.stop_accepting()
        return await self._front.drain(seconds)

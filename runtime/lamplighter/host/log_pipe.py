"""The pipe that a sandboxed process writes its log to, read on the event loop."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios

from lamplighter.host.report import InvocationLog

_READ_BYTES = 65_536
_count = array.array("i", (0,))
"""Where the kernel writes how many bytes are in a pipe."""
_READS_AT_ONCE = 16
"""Reads of a pipe in one go: a function that never stops writing must not keep the host to itself."""


class LogPipe:
    """Reads into ``log`` whatever comes, and has it written out ``linger_s`` later, or at once if that is 0.

    The descriptor, which does not block, is the pipe's from here on; the log stays the caller's.
    """

    __slots__ = ("_fd", "_flusher", "_linger_s", "_log", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, log: InvocationLog, linger_s: float) -> None:
        self._loop, self._fd, self._log, self._linger_s = loop, fd, log, linger_s
        self._flusher: asyncio.TimerHandle | None = None
        loop.add_reader(fd, self._on_readable)

    def drain(self) -> None:
        """Read what is in the pipe by now; of a closed one, nothing."""
        if self._fd < 0:
            return
        try:
            for _ in range(_READS_AT_ONCE):
                # Asked first: mostly there is nothing, and a read of nothing costs an exception.
                fcntl.ioctl(self._fd, termios.FIONREAD, _count)
                if not _count[0]:
                    return
                self._log.write(os.read(self._fd, _READ_BYTES))
        except OSError:
            return

    def close(self) -> None:
        """Read no more. Closing it again does no harm."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._fd)
            return
        self._log.write(data)
        if not self._linger_s:
            self._log.flush()
        elif self._flusher is None and self._log.pending:
            self._flusher = self._loop.call_later(self._linger_s, self._flush)

    def _flush(self) -> None:
        self._flusher = None
        self._log.flush()

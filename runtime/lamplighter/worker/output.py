"""Where a worker's log lines go: standard output, or the telemetry descriptor AWS hands to its own runtimes.

``print()`` is not this module's business: it writes to file descriptor 1, whatever the sink.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc cost some 4 ms to import
    from collections.abc import Mapping, MutableMapping
    from typing import Protocol
else:
    Protocol = object

# The telemetry frame types, observed on awslambdaric 4.2.2: 0xa55a0002 | level << 2 | 1 where the format is text.
_FRAME_TYPE = 0xA55A0002
TEXT = 1
JSON = 0
NO_LEVEL = 0
DEBUG = 2
INFO = 3
WARNING = 4
ERROR = 5
CRITICAL = 6


def frame_type(level: int, form: int) -> int:
    """The telemetry frame type of a record: ``level`` is one of the constants above, ``form`` TEXT or JSON."""
    return _FRAME_TYPE | level << 2 | form


DEFAULT_FRAME_TYPE = frame_type(NO_LEVEL, TEXT)


class LogSink(Protocol):
    """What takes log lines. Both methods raise ``OSError`` if the lines cannot be written."""

    def log(self, message: str, frame: int = DEFAULT_FRAME_TYPE) -> None:
        """Write ``message`` as it is: it brings its own line end."""

    def log_error(self, lines: list[str], frame: int) -> None:
        """Write a fault's lines as one record."""


class StandardSink:
    """``sys.stdout``, as it is at the moment of writing: a handler may have replaced it."""

    __slots__ = ()

    def log(self, message: str, frame: int = DEFAULT_FRAME_TYPE) -> None:
        out = sys.stdout
        try:
            out.write(message)
        except UnicodeEncodeError:
            # A message with a lone surrogate, or a standard output in ASCII. A log line must not end the process.
            out.write(message.encode(out.encoding, "backslashreplace").decode(out.encoding))

    def log_error(self, lines: list[str], frame: int) -> None:
        # A carriage return keeps the lines one CloudWatch event; only the last one ends it.
        self.log("\r".join(lines) + "\n")


class FramedSink:
    """The telemetry descriptor. Each record is a frame, all numbers big-endian::

    u32 frame type | u32 message length in bytes | u64 time, epoch microseconds | the message, UTF-8
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def log(self, message: str, frame: int = DEFAULT_FRAME_TYPE) -> None:
        text = message.encode("utf-8", "backslashreplace")
        stamp = time.time_ns() // 1000
        view = memoryview(
            b"".join((frame.to_bytes(4, "big"), len(text).to_bytes(4, "big"), stamp.to_bytes(8, "big"), text))
        )
        while view:
            view = view[os.write(self._fd, view) :]

    def log_error(self, lines: list[str], frame: int) -> None:
        self.log("\n".join(lines), frame)


class Output:
    """How this process writes: set once at init, inherited by every fork."""

    __slots__ = ("as_json", "ascii_only", "sink")

    def __init__(self) -> None:
        self.sink: LogSink = StandardSink()
        self.as_json = False
        """``AWS_LAMBDA_LOG_FORMAT`` is JSON."""
        self.ascii_only = True
        """JSON is written in ASCII."""

    def configure(self, environ: MutableMapping[str, str]) -> None:
        """Read the environment. A telemetry descriptor is used once: its variable is removed.

        Raises ``ValueError`` if that variable is not a number.
        """
        self.as_json = environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
        self.ascii_only = results_are_ascii(environ)
        fd = environ.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
        self.sink = StandardSink() if fd is None else FramedSink(int(fd))


output = Output()


def results_are_ascii(environ: Mapping[str, str]) -> bool:
    """Are results escaped to ASCII? Up to Python 3.11 on Lambda, and wherever ``AWS_EXECUTION_ENV`` is not set.

    The list of values is awslambdaric 4.2.2's.
    """
    return environ.get("AWS_EXECUTION_ENV") not in {
        "AWS_Lambda_python3.12",
        "AWS_Lambda_python3.13",
        "AWS_Lambda_python3.14",
        "AWS_Lambda_python3.15",
    }

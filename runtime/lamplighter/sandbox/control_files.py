"""Control files of cgroups: read, written and opened as the kernel wants it, on either version.

Nothing here knows what the files mean; :mod:`lamplighter.sandbox.cgroups` does.
"""

from __future__ import annotations

import errno
import os


def read(path: str) -> str:
    # Paths in it are the kernel's bytes, as any path in this process is.
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def read_or_nothing(path: str) -> str:
    """The same; empty where it cannot be read."""
    try:
        return read(path)
    except OSError:
        return ""


def write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def open_all(paths: list[str], flags: int) -> list[int]:
    """A descriptor for each path; none is left open where one cannot be opened."""
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(os.open(path, flags | os.O_CLOEXEC))  # noqa: PERF401 - so that what is open can be closed
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def field(text: str, name: str) -> int:
    """One value of a file of lines ``name value``; 0 if it is not there."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def remove_directory(path: str) -> bool:
    """Remove a cgroup; false while a process or another cgroup is inside."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as fault:
        if fault.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True

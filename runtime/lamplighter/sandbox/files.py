"""What files take on disk, and whose they are: for hosts that cannot give each environment a file system of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable

TMP = "/tmp"  # noqa: S108 - the functions', by Lambda's contract
_DELETED = " (deleted)"
_Taken = dict[tuple[int, int], int]
"""Bytes on disk by device and inode: further names of a file take nothing, nor do holes."""


def below(directory: str) -> int:
    """Bytes that the files below a directory take."""
    taken: _Taken = {}
    _walk(directory, taken)
    return sum(taken.values())


def owned_in_tmp(user: int) -> int:
    """Bytes that a user's files in /tmp take, with all below directories of theirs."""
    taken: _Taken = {}
    for entry in _entries_of(user):
        if stat.S_ISDIR(os.lstat(entry).st_mode):
            _walk(entry, taken)
        else:
            _add(entry, taken)
    return sum(taken.values())


def remove_owned_in_tmp(user: int) -> None:
    """Remove what a user has left in /tmp."""
    for entry in _entries_of(user):
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(entry).st_mode):
                shutil.rmtree(entry, ignore_errors=True)  # by descriptors: no link leads it astray
            else:
                os.unlink(entry)


def held_open(pids: Iterable[int], counted: str, *, named: bool) -> int:
    """Bytes of files that processes have open and that nobody finds by name below the directory ``counted``: deleted
    ones that were there or in /tmp, and, if ``named``, those that are in /tmp still.
    """
    taken: _Taken = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    where = os.readlink(f"/proc/{pid}/fd/{name}")
                    inside = where.startswith(f"{counted}/")
                    if where.endswith(_DELETED):
                        if inside or where.startswith(f"{TMP}/"):
                            _add(f"/proc/{pid}/fd/{name}", taken, follow=True)
                    elif named and not inside and where.startswith(f"{TMP}/"):
                        _add(where, taken)
    return sum(taken.values())


def _entries_of(user: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError), os.scandir(TMP) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid == user:
                    found.append(entry.path)
    return found


def _walk(directory: str, taken: _Taken) -> None:
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                _add(os.path.join(place, name), taken)


def _add(path: str, taken: _Taken, *, follow: bool = False) -> None:
    facts = os.stat(path, follow_symlinks=follow)
    taken[facts.st_dev, facts.st_ino] = facts.st_blocks * 512

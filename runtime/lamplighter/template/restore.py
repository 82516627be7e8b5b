"""What a worker must do for itself before it serves: everything a copy may not share with its template.

Entropy: ``random``'s generator is reseeded by CPython's own after-fork hook; OpenSSL notices a fork by its pid, which
is why workers get pids of their own, and is fed anyway; numpy's global generator knows nothing of forks. A generator
that a function made itself (``random.Random()``) cannot be found: an after-restore hook must reseed it, as under
SnapStart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Collection, Iterable


def reseed() -> None:
    """Give this process entropy of its own, in the modules that are loaded."""
    loaded = sys.modules
    if "_ssl" in loaded:
        loaded["_ssl"].RAND_add(os.urandom(32), 32.0)
    if "tempfile" in loaded:
        setattr(loaded["tempfile"], "_name_sequence", None)  # noqa: B010 - a private name that typeshed does not have
    if "uuid" in loaded:
        # uuid1 keeps the last timestamp, and the host's clock sequence with it.
        setattr(loaded["uuid"], "_last_timestamp", None)  # noqa: B010 - as above
    if "numpy.random" in loaded:
        loaded["numpy.random"].seed()


def regular_files(own: Collection[int]) -> list[int]:
    """Descriptors of regular files in this process, without the runtime's ``own``."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        with contextlib.suppress(OSError):
            if fd > 2 and fd not in own and stat.S_ISREG(os.fstat(fd).st_mode):
                found.append(fd)
    return found


def reopen_files(files: Iterable[int]) -> None:
    """Give files that init opened for reading a position of their own: a fork shares it with every other worker."""
    for fd in files:
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)
            inheritable = os.get_inheritable(fd)
            position = os.lseek(fd, 0, os.SEEK_CUR)
            fresh = os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
            try:
                os.lseek(fresh, position, os.SEEK_SET)
                os.dup2(fresh, fd, inheritable)
            finally:
                os.close(fresh)


def copy_tmp(source: int) -> None:
    """Copy what init left in the template's /tmp (an open directory) into this worker's own, still empty one."""
    import shutil  # noqa: PLC0415 - only functions that leave something there pay for it

    origin = f"/proc/self/fd/{source}"
    # By name: listing the descriptor itself would move a position that all workers share, and skip what another reads.
    for entry in os.listdir(origin):
        target = f"/tmp/{entry}"  # noqa: S108 - the sandbox's own
        facts = os.stat(entry, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            shutil.copytree(f"{origin}/{entry}", target, symlinks=True, ignore=_uncopyable)
        elif stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
            shutil.copy2(f"{origin}/{entry}", target, follow_symlinks=False)


def _uncopyable(directory: str, names: list[str]) -> list[str]:
    """Sockets, FIFOs and devices: they stand for something in the template that a copy would not."""
    found = []
    for name in names:
        mode = os.lstat(f"{directory}/{name}").st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            found.append(name)
    return found

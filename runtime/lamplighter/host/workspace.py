"""What one running host owns outside its own memory: a directory, a name, and uid ranges; and what dead hosts left.

A host is alive as long as it holds the lock on ``lock`` in its directory: the kernel drops the lock with the process,
however it ended, so the next start can tell what is left over from what is in use, and remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from lamplighter.host import disks
from lamplighter.sandbox import disk, hierarchy

_SLOTS = 4_096
"""Uid ranges to choose from: 4,096 of 65,536 ids each end below 2**31."""


class Workspace:
    """``path`` is this host's directory; ``name`` is unique among all hosts that share it."""

    def __init__(self, base: Path) -> None:
        self._base = base
        _make_private(base)
        (base / "slots").mkdir(mode=0o700, exist_ok=True)
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.path = base / self.name
        with _exclusive(base):
            self.path.mkdir(mode=0o700)
            self._lock = _locked(self.path / "lock")
        assert self._lock >= 0, "a fresh directory's lock was taken"
        self._slots: dict[int, int] = {}

    def claim_slot(self) -> int:
        """A uid range that no other host on this machine uses; kept until :meth:`close`."""
        first = secrets.randbelow(_SLOTS)
        for at in range(_SLOTS):
            slot = (first + at) % _SLOTS
            if slot not in self._slots:
                fd = _locked(self._base / "slots" / str(slot))
                if fd >= 0:
                    self._slots[slot] = fd
                    return slot
        raise OSError(f"all {_SLOTS} uid ranges are in use")

    def release_slot(self, slot: int) -> None:
        os.close(self._slots.pop(slot))

    def staging(self) -> str:
        """An empty directory on which a nest's root is mounted, in the nest's own mount namespace only."""
        path = self.path / "staging"
        path.mkdir(exist_ok=True)
        return str(path)

    def tmp(self) -> str:
        """The directory of those that environments have in the place of a /tmp, where nothing can be mounted.

        Environments of other users than the host's make their own in it, and see none of the others'.
        """
        path = self.path / "tmp"
        if not path.is_dir():
            path.mkdir(mode=0o700)
            path.chmod(0o1733)
            for way in (self.path, self._base):
                way.chmod(0o711)
        return str(path)

    def close(self) -> None:
        for fd in self._slots.values():
            os.close(fd)
        self._slots.clear()
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def default_base() -> Path:
    """``/run/lamplighter`` for root; else the user's runtime directory, or one of theirs under the temporary one."""
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/lamplighter")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "lamplighter"
    return Path(os.environ.get("TMPDIR", "/tmp")) / f"lamplighter-{os.geteuid()}"  # noqa: S108 - made private below


def remove_leftovers(base: Path, bases: dict[str, str]) -> list[str]:
    """Remove directories and cgroups of hosts that are dead; returns a line for each, for the log."""
    _make_private(base)
    with _exclusive(base):
        return _remove_leftovers(base, bases)


def _remove_leftovers(base: Path, bases: dict[str, str]) -> list[str]:
    lines: list[str] = []
    trees = hierarchy.stale(bases)
    alive: set[str] = set()
    devices: set[int] = set()
    if base.is_dir():
        for path in sorted(base.iterdir()):
            if path.name == "slots" or not path.is_dir():
                continue
            try:
                lock = _locked(path / "lock")
            except FileNotFoundError:
                continue  # its host has just removed it
            if lock < 0:
                alive.add(path.name)
                continue
            devices |= disks.noted(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            lines.append(f"removed what host {path.name} left in {base}")
    for name, paths in trees.items():
        if name in alive:
            continue
        # A tree without a directory of ours may be a host's whose /run we cannot see: an occupied one is left alone.
        if hierarchy.remove_stale(paths):
            lines.append(f"removed the cgroups that host {name} left")
    disk.remove_devices(devices)  # last: their users are gone with the cgroups
    return lines


@contextlib.contextmanager
def _exclusive(base: Path) -> Iterator[None]:
    """Hold other hosts' comings and goings off: one that is about to lock its new directory must not look dead."""
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make_private(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise OSError(f"{path} must be a directory of uid {os.geteuid()} that nobody else can write")


def _locked(path: Path) -> int:
    """Open and lock a file; -1 if another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    os.close(fd)
    return -1

"""Disks for /tmp: what a function writes there lies on the host's disk, and does not count as its memory.

Each is a sparse image without a name, on a loop device that lets go of it by itself, with an ext4 of exactly the wanted
size, mounted nowhere until an environment takes it. It lasts as long as somebody holds its mount, so nothing has to be
looked for after a crash. A disk is never used twice: another environment's data cannot be on it.

Making one takes about 1.5 ms, on a machine that was idle as well: the ext4 is made once for a size, by ``mke2fs`` in
memory, and its few blocks that are not empty are copied into each image.

Project quota could bound directories of one file system for less; that takes one mounted with ``prjquota`` and
CONFIG_QFMT_V2 (ext4) or CONFIG_XFS_QUOTA in the kernel. It is not done here: :class:`Disk` is the place for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lamplighter._sandbox import ffi, lib
from lamplighter.sandbox.native import fault, raised

BLOCK = 4_096
MIB = 1_048_576
_FEATURES = "^has_journal,^resize_inode,^metadata_csum,sparse_super2,uninit_bg"
_SUPERBLOCK = 1_024
_OVERHEAD = struct.Struct("<I")
_OVERHEAD_AT = _SUPERBLOCK + 0x248
"""``s_overhead_clusters`` of the superblock (the kernel's ext4 documentation): blocks that no file can ever have."""
_MKE2FS_S = 60
_REMOVERS = 16
_MAX_LOOP = "/sys/module/loop/parameters/max_loop"


class Image(NamedTuple):
    """An empty ext4: its size, and the parts of it that are not zero."""

    size: int
    parts: tuple[tuple[int, bytes], ...]


class Disk:
    """One mounted disk. :attr:`mount` is the descriptor of its mount; :meth:`close` ends it for everybody."""

    __slots__ = ("device", "mount")

    def __init__(self, mount: int, device: int) -> None:
        self.mount = mount
        self.device = device

    def give_to(self, owner: int) -> None:
        """Make its root the directory of a uid and gid of the host, as /tmp is its function's own on Lambda."""
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.mount)
        try:
            os.fchown(root, owner, owner)
        finally:
            os.close(root)

    def close(self) -> None:
        """Let go of it; what its users had not written yet never is. They are expected to be dead."""
        if self.mount >= 0:
            lib.ll_disk_discard(self.mount, fault())
            os.close(self.mount)
            self.mount = -1


def build(size: int, inodes: int, store: str) -> Image:
    """Make an image whose files can have exactly ``size`` bytes, and whose root is a /tmp.

    Raises ``OSError`` that says which part of that this machine cannot do.
    """
    program = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise OSError(errno.ENOENT, "there is no mke2fs (install e2fsprogs)")
    fd = os.memfd_create("lamplighter-disk", os.MFD_CLOEXEC)
    try:
        total = size
        for _ in range(4):  # what it keeps for itself depends on the size
            os.ftruncate(fd, 0)
            os.ftruncate(fd, total)
            _make_file_system(program, fd, inodes)
            wanted = size + BLOCK * _OVERHEAD.unpack(os.pread(fd, _OVERHEAD.size, _OVERHEAD_AT))[0]
            if wanted == total:
                break
            total = wanted
        image = Image(total, _parts(fd, total))
    finally:
        os.close(fd)
    return _as_tmp(image, store)


def _make_file_system(program: str, fd: int, inodes: int) -> None:
    command = [program, "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0", "-I", "256", "-N", str(inodes)]
    command += ["-O", _FEATURES, "-E", "lazy_itable_init=1,nodiscard", f"/proc/self/fd/{fd}"]
    done = subprocess.run(  # noqa: S603 - a program of the system's
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        pass_fds=(fd,),
        timeout=_MKE2FS_S,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(errno.EIO, f"mke2fs cannot make an ext4: {done.stderr.strip()}")


def _parts(fd: int, size: int) -> tuple[tuple[int, bytes], ...]:
    """What is not zero in a file, in pieces of whole blocks."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as end:
            if end.errno == errno.ENXIO:
                return tuple(found)
            raise
        until = min(size, os.lseek(fd, at, os.SEEK_HOLE))
        while at < until:
            block = os.pread(fd, BLOCK, at)
            if block.count(0) != len(block):
                if found and found[-1][0] + len(found[-1][1]) == at:
                    found[-1] = (found[-1][0], found[-1][1] + block)
                else:
                    found.append((at, block))
            at += len(block)


def _as_tmp(image: Image, store: str) -> Image:
    """Make the root of an image a directory that anybody can write to, without ``lost+found``; by mounting it."""
    fd = _unnamed(store)
    try:
        _fill(fd, image)
        disk = _mount(fd)
        try:
            # O_PATH, as the mount's own descriptor is, can be neither read nor changed by.
            root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=disk.mount)
            try:
                os.rmdir("lost+found", dir_fd=root)
                os.fchmod(root, 0o1777)
            finally:
                os.close(root)
        finally:
            os.close(disk.mount)  # not discarded: this is to be written
            remove_made([disk.device])
        return Image(image.size, _parts(fd, image.size))
    finally:
        os.close(fd)


def _unnamed(store: str) -> int:
    """A file without a name in a directory."""
    with contextlib.suppress(OSError):
        return os.open(store, os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
    # A file system that cannot: the name lasts for a moment.
    fd, path = tempfile.mkstemp(prefix="lamplighter-", dir=store)
    os.unlink(path)
    return fd


def _fill(fd: int, image: Image) -> None:
    os.ftruncate(fd, image.size)
    for at, part in image.parts:
        written = os.pwrite(fd, part, at)
        if written != len(part):
            raise OSError(errno.ENOSPC, f"{written} of {len(part)} bytes of a disk's image could be written")


def _mount(fd: int) -> Disk:
    record, made = fault(), ffi.new("struct ll_disk *")
    if lib.ll_disk_mount(fd, made, record) < 0:
        raise raised(record)
    lib.ll_disk_use_all(made)
    return Disk(made.mount, made.device)


def make(image: Image, store: str) -> Disk:
    """A fresh disk, its image in the directory ``store``; in about 1.5 ms. Raises ``OSError``."""
    space = os.statvfs(store)
    free = space.f_bavail * space.f_frsize
    if free < image.size:
        # Images are sparse, so this is no reservation; but a disk that could never be filled is not handed out.
        raise OSError(errno.ENOSPC, f"{store} has {free // MIB} MiB left, and a /tmp may need {image.size // MIB}")
    fd = _unnamed(store)
    try:
        _fill(fd, image)
        return _mount(fd)
    finally:
        os.close(fd)


def standing_devices() -> int:
    """How many loop devices there are whether they are used or not; those from this number on may be removed."""
    try:
        with open(_MAX_LOOP, encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 1 << 20  # the most there can be


def remove_made(devices: Iterable[int]) -> None:
    """Remove those of some loop devices that are only there because somebody needed them."""
    standing = standing_devices()
    remove_devices([device for device in devices if device >= standing])


def remove_devices(devices: Iterable[int]) -> None:
    """Remove loop devices that nothing uses; one that is in use is left."""
    # Each is tens of milliseconds of waiting for the kernel, on a machine with work to do.
    if doomed := list(devices):
        with ThreadPoolExecutor(min(len(doomed), _REMOVERS), "loop-devices") as pool:
            for device in doomed:
                pool.submit(lib.ll_loop_remove, device, fault())

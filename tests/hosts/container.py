"""Turns the process that runs it into one of a kind of host, and executes a command as that. For root, as a program:

    python container.py plain|lambda|user COMMAND ARGUMENT...

``plain``
    A container as engines make it by default: root with fourteen capabilities, cgroup file systems read-only, and a
    seccomp filter by which whatever mounts or makes namespaces is not permitted, and clone3 does not exist.
``lambda``
    As it is inside AWS Lambda: an unprivileged user, nothing writable but /tmp, no cgroup file system, no namespaces.
``user``
    An ordinary user, who may make user namespaces.

Everything happens in a mount namespace of its own. Where the way to Python, to this checkout or to what ``SHOW`` lists
leads through a directory that is its owner's alone, that directory is covered with one that shows nothing else.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

USER = 1000
CHECKOUT = Path(__file__).resolve().parents[2]
_DOCKERS_DEFAULT = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
AUDIT_WRITE and SETFCAP: what Docker's documentation lists as granted by default."""
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_CLONE_NEWNS, _CLONE_NEW = 0x20000, 0x7E020000
_EPERM, _ENOSYS = 1, 38
_CALLS = {
    "x86_64": {"mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "pivot_root": 155, "clone": 56},
    "aarch64": {"mount": 40, "umount2": 39, "unshare": 97, "setns": 268, "pivot_root": 41, "clone": 220},
}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEW_MOUNT_API = (428, 429, 430, 431, 432, 433, 442)
"""open_tree to fspick, and mount_setattr: the same numbers everywhere."""
_CLONE3 = 435
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _call("mount", *encoded, ctypes.c_ulong(flags), None if options is None else os.fsencode(options))


def _closed_to_others(path: Path) -> Path | None:
    """The topmost directory on the way to ``path`` that others may not pass."""
    for place in reversed(path.parents):
        if not place.stat().st_mode & 1:
            return place
    return None


def open_ways(paths: list[Path]) -> None:
    """Let any user reach ``paths``, where nothing else in the directories on the way is shown."""
    covered: dict[Path, list[Path]] = {}
    for path in {path.resolve() for path in paths} | {path.absolute() for path in paths}:
        if (place := _closed_to_others(path)) is not None:
            covered.setdefault(place, []).append(path)
    for place, shown in covered.items():
        aside = os.open(place, os.O_PATH)
        _mount("tmpfs", str(place), "tmpfs", 0, "mode=755")
        for path in sorted(shown):
            path.mkdir(parents=True, exist_ok=True)
            source = f"/proc/self/fd/{aside}/{path.relative_to(place)}"
            _mount(source, str(path), None, _MS_BIND | _MS_REC)
        os.close(aside)


def _remount_read_only(point: str) -> None:
    # The flags that a mount has must be said again, or are taken away.
    has = os.statvfs(point).f_flag
    _mount(None, point, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | has & 0x40E)


def _mounts(kinds: tuple[str, ...] = ()) -> list[str]:
    """Mount points, those of some file systems only if any are named."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if not kinds or right.split(" ", 1)[0] in kinds:
            found.append(left.split()[4].encode().decode("unicode_escape"))
    return found


def _drop_capabilities(kept: tuple[int, ...]) -> None:
    for capability in range(64):
        if capability not in kept:
            _libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; EINVAL beyond the last one
    low = sum(1 << capability for capability in kept)
    header = struct.pack("Ii", 0x20080522, 0)
    _call("capset", header, struct.pack("6I", low, low, 0, 0, 0, 0))


def _filter_calls() -> None:
    """A seccomp filter after Docker's default, of what matters here: no namespaces, no mounts, no clone3."""
    machine = platform.machine()
    calls = _CALLS[machine]
    code: list[tuple[int, int, int, int]] = [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 1, 0, _AUDIT[machine]),
        (0x06, 0, 0, 0x50000 | _EPERM),
        (0x20, 0, 0, 0),  # load the number
    ]
    denied = [number for name, number in calls.items() if name != "clone"]
    for number in (*denied, *_NEW_MOUNT_API):
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | _EPERM)]
    code += [(0x15, 0, 1, _CLONE3), (0x06, 0, 0, 0x50000 | _ENOSYS)]
    code += [
        (0x15, 0, 3, calls["clone"]),
        (0x20, 0, 0, 16),  # load the low half of the first argument
        (0x45, 0, 1, _CLONE_NEW),
        (0x06, 0, 0, 0x50000 | _EPERM),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(program, len(program))
    wanted = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    _call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    _call("prctl", 22, 2, wanted, 0, 0)  # PR_SET_SECCOMP


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _call("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after a login, /proc/self is the user's own


def become(kind: str) -> None:
    """Make this process, which is root and has one thread, one of that kind."""
    os.unshare(_CLONE_NEWNS) if hasattr(os, "unshare") else _call("unshare", _CLONE_NEWNS)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    os.environ.pop("XDG_RUNTIME_DIR", None)
    own = [Path(path) for path in (sys.prefix, sys.base_prefix, CHECKOUT)]
    open_ways([*own, *map(Path, filter(None, os.environ.get("SHOW", "").split(":")))])
    if kind != "plain":
        os.environ["HOME"] = "/tmp"
    if kind == "plain":
        for point in _mounts(("cgroup", "cgroup2")):
            _remount_read_only(point)
        _drop_capabilities(_DOCKERS_DEFAULT)
        _filter_calls()
    elif kind == "lambda":
        for point in reversed(_mounts(("cgroup", "cgroup2"))):
            _call("umount2", os.fsencode(point), 2)
        _mount("/tmp", "/tmp", None, _MS_BIND | _MS_REC)
        for point in dict.fromkeys(_mounts()):
            if point != "/tmp" and not point.startswith(("/proc", "/tmp/")) and os.path.exists(point):
                _remount_read_only(point)
        _become(USER)
        _filter_calls()
    elif kind == "user":
        _become(USER)
    else:
        raise SystemExit(f"container.py: no kind {kind!r}")


if __name__ == "__main__":
    become(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])

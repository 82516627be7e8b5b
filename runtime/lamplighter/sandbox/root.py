"""The root file system of a nest: which parts of the host exist inside, and where.

An allow-list. Python, its libraries and the system's shared libraries are bound read-only at their own paths; the
function's code is ``/var/task`` and its layers ``/opt``, as on Lambda; a few files of ``/etc`` that name resolution,
TLS and time zones need are bound, and ``passwd`` and ``group`` are written afresh. Nothing else of the host is there.
"""

from __future__ import annotations

import errno
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lamplighter._sandbox import lib

TASK_ROOT = "/var/task"
USER = 993
"""Inside uid and gid of the function (the emulator runs functions under this uid as well)."""
USER_NAME = "sbx_user1051"
"""The name Lambda's own sandboxes show."""


class Step(NamedTuple):
    """One ``struct ll_step``: see native/sandbox/sandbox.h."""

    kind: int
    source: str
    target: str
    mount: int = -1


_COVERED = "/tmp/"  # noqa: S108 - not a file of ours
_MOVED = "/var/lang/host"
"""Where a virtual environment or a source tree under the host's /tmp is shown."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")


def python_paths() -> list[str]:
    """Directories that this interpreter, and what is installed for it, live in."""
    found = [sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix, os.path.realpath(sys.executable)]
    found += [value for value in sysconfig.get_paths().values() if value]
    found += site.getsitepackages()
    # An editable installation puts its source tree on sys.path; so may a .pth file. "python -m" puts the operator's
    # current directory there, which is no business of a function's.
    found += [entry for entry in sys.path if entry and os.path.abspath(entry) != os.getcwd()]
    found.append(str(Path(__file__).resolve().parent.parent.parent))
    return found


def inside(path: str) -> str:
    """Where a path of the host's Python is seen inside: the same place, but for what the sandbox's own /tmp covers."""
    return _MOVED + path if path.startswith(_COVERED) else path


def interpreter() -> str:
    """The interpreter to run inside. A virtual environment finds itself by where its interpreter is, so it may move."""
    return inside(os.path.abspath(sys.executable))


def moved_sources() -> list[str]:
    """Source directories on this process's ``sys.path`` that are seen elsewhere inside, as they are seen there.

    What an environment installs in its own site-packages moves with it; a source tree installed in place is named by an
    absolute path, which no longer leads to it.
    """
    own = os.path.abspath(sys.prefix) + "/"
    return [
        inside(path)
        for path in dict.fromkeys(os.path.abspath(entry) for entry in python_paths() if os.path.isdir(entry))
        if path.startswith(_COVERED) and not (path + "/").startswith(own)
    ]


def python_command(statements: str, *, isolated: bool = True) -> list[str]:
    """The command that runs Python statements inside, with everything importable that is importable here.

    What is on this process's ``PYTHONPATH`` is, too, though not by that variable: it would be the function's, and its
    children's. Not ``isolated``, the command is for the host's own file system.
    """
    given = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [inside(path) for path in given] + moved_sources() if isolated else given
    if paths:
        statements = f"import sys; sys.path[1:1] = {list(dict.fromkeys(paths))!r}\n{statements}"
    return [interpreter() if isolated else sys.executable, "-u", "-c", statements]


def system_paths() -> list[str]:
    """What of the host's own system every function may read."""
    return [*_SYSTEM, *(f"/etc/{name}" for name in _ETC)]


def device_paths() -> list[str]:
    """The devices that every function may use."""
    return [f"/dev/{name}" for name in _DEVICES]


def obstacle() -> str:
    """Why no sandbox can show this Python; empty if one can."""
    base = os.path.realpath(sys.base_prefix)
    if base.startswith(_COVERED):
        return f"Python itself is installed at {base}, and each sandbox has a /tmp of its own: install it elsewhere"
    return ""


def steps(
    code: str, layers: Sequence[str], *, tmp_bytes: int, tmp_mount: int = -1, extra: Iterable[str] = ()
) -> list[Step]:
    """The steps that build a function's root; ``code`` and ``layers`` are directories of the host.

    ``tmp_mount`` is a descriptor of what to mount on /tmp; -1 for a tmpfs of ``tmp_bytes``.

    Raises ``OSError`` if the layers would cover the interpreter, which lives under ``/opt`` in many containers.
    """
    covered = sorted({path for path in python_paths() if path.startswith("/opt/")})
    if layers and covered:
        raise OSError(errno.EBUSY, f"the layers' /opt covers Python's own {covered[0]}: install it elsewhere")
    made: list[Step] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            made.append(Step(lib.LL_LINK, os.readlink(path), path))
        elif os.path.isdir(path):
            made.append(Step(lib.LL_BIND, path, path))
    # Seen as the sandbox user's own, for the same reason as the code: a checkout may be its owner's alone to read.
    made += [Step(lib.LL_CODE, path, inside(path)) for path in _outermost([*python_paths(), *extra], code)]
    for name in _ETC:
        path = f"/etc/{name}"
        if os.path.exists(path):
            made.append(Step(lib.LL_BIND, os.path.realpath(path), path))
    passwd = f"root:x:0:0:root:/:/sbin/nologin\n{USER_NAME}:x:{USER}:{USER}::/tmp:/sbin/nologin\n"
    made += [
        Step(lib.LL_FILE, passwd, "/etc/passwd"),
        Step(lib.LL_FILE, f"root:x:0:\n{USER_NAME}:x:{USER}:\n", "/etc/group"),
        *(Step(lib.LL_DEVICE, f"/dev/{name}", f"/dev/{name}") for name in _DEVICES),
        Step(lib.LL_LINK, "/proc/self/fd", "/dev/fd"),
        Step(lib.LL_LINK, "/proc/self/fd/0", "/dev/stdin"),
        Step(lib.LL_LINK, "/proc/self/fd/1", "/dev/stdout"),
        Step(lib.LL_LINK, "/proc/self/fd/2", "/dev/stderr"),
        Step(lib.LL_CODE, os.path.realpath(code), TASK_ROOT),
        Step(lib.LL_DIRECTORY, "", "/var/runtime"),
        _tmp(tmp_bytes, tmp_mount),
        _opt([os.path.realpath(layer) for layer in layers]),
    ]
    return made


def _tmp(tmp_bytes: int, tmp_mount: int) -> Step:
    target = "/tmp"  # noqa: S108 - the sandbox's own
    if tmp_mount >= 0:
        return Step(lib.LL_MOUNT, "", target, tmp_mount)
    return Step(lib.LL_TMPFS, f"mode=1777,size={tmp_bytes},nr_inodes={inodes(tmp_bytes)}", target)


def inodes(tmp_bytes: int) -> int:
    """Inodes that a /tmp of this size gets: one per 16 KiB, as mke2fs gives an ext4 of the same size."""
    return max(1024, tmp_bytes // 16_384)


def _opt(layers: list[str]) -> Step:
    if not layers:
        return Step(lib.LL_DIRECTORY, "", "/opt")
    if len(layers) == 1:
        return Step(lib.LL_CODE, layers[0], "/opt")
    # Lambda extracts layers in order, a later one over an earlier; overlayfs lists the topmost first.
    return Step(lib.LL_OVERLAY, "lowerdir=" + ":".join(_escaped(layer) for layer in reversed(layers)), "/opt")


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _outermost(paths: Iterable[str], code: str) -> list[str]:
    """Each path once, without those inside another, inside the system's own, or that would show the code twice."""
    kept: list[str] = []
    covered = [os.path.realpath(path) for path in _SYSTEM if os.path.isdir(path)]
    covered += [path for path in _SYSTEM if os.path.isdir(path)]
    whole = {"/", os.path.realpath(code)}
    for path in sorted({os.path.abspath(path) for path in paths if os.path.exists(path)}, key=lambda p: (len(p), p)):
        if path not in whole and not any(path == top or path.startswith(top + "/") for top in [*covered, *kept]):
            kept.append(path)
    return kept

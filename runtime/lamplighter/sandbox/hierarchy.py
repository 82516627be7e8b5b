"""Where this process may make cgroups, and the one tree per hierarchy that a host makes there for all its leaves.

Beside it: why there is no such place, for :mod:`lamplighter.sandbox.survey`; and the trees of hosts that were killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from typing import NamedTuple

from lamplighter.sandbox.cgroups import Leaf, LeafV1, LeafV2
from lamplighter.sandbox.control_files import read, read_or_nothing, remove_directory, write

_CONTROLLERS = {"memory", "cpu", "pids"}
_PREFIX = "lamplighter-"


class Hierarchy:
    """Where leaves can be made: below the cgroup this process was started in, and nowhere else.

    ``name`` (unique to this host process) is the one directory, per hierarchy, that everything is under.
    """

    def __init__(self, bases: dict[str, str], name: str) -> None:
        self.name = name
        self.version = 2 if "unified" in bases else 1 if bases else 0
        self.bases = {kind: f"{base}/{_PREFIX}{name}" for kind, base in bases.items()}
        for path in self.bases.values():
            os.makedirs(path, exist_ok=True)
        self._moved_from = ""
        if self.version == 2:
            self._make_room(bases["unified"])
            _delegate(self.bases["unified"])

    def _make_room(self, base: str) -> None:
        """Have our own cgroup pass its controllers on, which it may only while it holds no process itself."""
        if set(read(f"{base}/cgroup.subtree_control").split()) >= _CONTROLLERS:
            return
        try:
            _delegate(base)
        except OSError as fault:
            if fault.errno != errno.EBUSY:
                raise
            own = f"{self.bases['unified']}/host"
            os.makedirs(own, exist_ok=True)
            write(f"{own}/cgroup.procs", "0")
            self._moved_from = base
            try:
                _delegate(base)
            except OSError as still:
                write(f"{base}/cgroup.procs", "0")
                self._moved_from = ""
                self.remove()
                raise OSError(
                    still.errno,
                    f"the cgroup {base} holds other processes, so it cannot be divided: "
                    "start the host in a cgroup of its own (systemd-run --scope -p Delegate=yes ...)",
                ) from still

    @property
    def enforcement(self) -> dict[str, str]:
        """What holds memory, cpu and processes here: ``cgroup2``, ``cgroup1`` or ``none``."""
        if self.version == 2:
            return dict.fromkeys(("memory", "cpu", "processes"), "cgroup2")
        names = {"memory": "memory", "cpu": "cpu", "processes": "pids"}
        return {limit: "cgroup1" if kind in self.bases else "none" for limit, kind in names.items()}

    def group(self, name: str, owner: int = -1) -> None:
        """Make the directory that a function's leaves will be under; ``owner`` as in :meth:`leaf`."""
        for path in self.bases.values():
            os.makedirs(f"{path}/{name}", exist_ok=True)
        if self.version == 2:
            path = f"{self.bases['unified']}/{name}"
            _delegate(path)
            if owner >= 0:
                # The kernel asks for the right to move processes at the common ancestor of both cgroups, too.
                os.chown(f"{path}/cgroup.procs", owner, -1)

    def leaf(self, group: str, name: str, owner: int = -1) -> Leaf:
        """A new leaf; ``owner`` is the host uid that may fork into it (version 2)."""
        if self.version == 0:
            return Leaf()
        if self.version == 2:
            return LeafV2(f"{self.bases['unified']}/{group}/{name}", owner)
        paths = [
            f"{self.bases[kind]}/{group}/{name}" if kind in self.bases else "" for kind in ("memory", "cpu", "pids")
        ]
        return LeafV1(*paths)

    def remove_group(self, name: str) -> bool:
        """Remove a function's directory; false if something is still inside."""
        return all([_remove_tree(f"{path}/{name}") for path in self.bases.values()])

    def remove(self) -> bool:
        """Remove the whole tree; false if something is still inside."""
        if self._moved_from:
            # First all but our own place: controllers can be taken back only where nothing below still has them.
            _remove_tree(self.bases["unified"])
            with contextlib.suppress(OSError):
                write(f"{self.bases['unified']}/cgroup.subtree_control", "-memory -cpu -pids")
                write(f"{self._moved_from}/cgroup.subtree_control", "-memory -cpu -pids")
                write(f"{self._moved_from}/cgroup.procs", "0")
                self._moved_from = ""
        return all([_remove_tree(path) for path in self.bases.values()])


def _delegate(path: str) -> None:
    write(f"{path}/cgroup.subtree_control", "+memory +cpu +pids")


def _remove_tree(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # another host tidies up as well
        return True
    return all([_remove_tree(child) for child in children]) and remove_directory(path)


def own_cgroups() -> dict[str, str]:
    """The directories of this process's own cgroups that it may make leaves under, by controller.

    ``{"unified": path}`` on version 2 with the three controllers; some of ``memory``, ``cpu``, ``pids`` on version 1;
    empty where nothing is writable.
    """
    found = _own_paths()
    if "unified" in found:
        has = set(read_or_nothing(f"{found['unified']}/cgroup.controllers").split())
        if not has >= _CONTROLLERS:
            del found["unified"]
    found = {kind: base for kind, base in found.items() if not _unwritable(base)}
    return {"unified": found["unified"]} if "unified" in found else found


def _own_paths() -> dict[str, str]:
    """Where this process's own cgroups are seen: ``unified``, and those controllers of version 1 that we use."""
    mounts: dict[str, tuple[str, str]] = {}
    unified: tuple[str, str] | None = None
    for line in read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split(" ", 2)
        if kind == "cgroup2":
            unified = (fields[4], fields[3])
        elif kind == "cgroup":
            for controller in options.split(","):
                mounts[controller] = (fields[4], fields[3])
    found: dict[str, str] = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers and unified:
            base = _inside(unified, path)
            if base:
                found["unified"] = base
        for controller in controllers.split(","):
            if controller in ("memory", "cpu", "pids") and controller in mounts:
                base = _inside(mounts[controller], path)
                if base:
                    found[controller] = base
    return found


class Absence(NamedTuple):
    """Why no leaf can be made, and what would help."""

    why: str
    remedy: str


def absence(controller: str) -> Absence:
    """Why this process can limit nothing by ``controller`` (``memory``, ``cpu`` or ``pids``)."""
    mounted = [line.split(" - ")[1].split(" ", 2) for line in read("/proc/self/mountinfo").splitlines()]
    unified = any(kind == "cgroup2" for kind, *_ in mounted)
    divided = any(kind == "cgroup" and controller in options.split(",") for kind, _, options in mounted)
    if not unified and not divided:
        remedy = "mount -t cgroup2 cgroup2 /sys/fs/cgroup" if os.geteuid() == 0 else "run the host where one is"
        return Absence("no cgroup file system is mounted", remedy)
    for kind, path in _own_paths().items():
        if kind not in (controller, "unified"):
            continue
        if kind == "unified" and controller not in (has := read_or_nothing(f"{path}/cgroup.controllers").split()):
            if divided:
                continue  # a hybrid: version 1 has it
            return Absence(
                f"the cgroup {path} has no {controller} controller, only {' '.join(has) or 'none'}",
                f"a drop-in for user@.service with Delegate=cpu memory pids; or: echo +{controller} > "
                f"{os.path.dirname(path)}/cgroup.subtree_control",
            )
        problem = _unwritable(path)
        if problem:
            return Absence(
                f"the cgroup {path} cannot be written: {os.strerror(problem)}",
                _remedy(problem, kind == "unified" or not divided),
            )
    why = f"this process's own cgroup with the {controller} controller is not to be seen here"
    return Absence(why, "docker run --cgroupns=host, or run the host outside of the container")


def _remedy(problem: int, unified: bool) -> str:
    if problem == errno.EROFS:
        return "docker run --privileged --cgroupns=private, or run the host outside of the container"
    if unified:
        return "systemd-run --user --scope -p Delegate=yes lamplighter serve ..., or run the host as root"
    return "run the host as root, or have root make a cgroup in each hierarchy, chown it, and start the host in them"


def _unwritable(path: str) -> int:
    """What making a cgroup under ``path`` meets, an errno; 0 if one can be made."""
    trial = f"{path}/trial-of-lamplighter-{os.getpid()}-{threading.get_native_id()}"
    try:
        os.mkdir(trial)
    except OSError as fault:
        return fault.errno or errno.EIO
    os.rmdir(trial)
    return 0


def _inside(mount: tuple[str, str], path: str) -> str:
    """Where cgroup ``path`` appears below a mount point that shows the hierarchy from ``root`` on."""
    point, root = mount
    if root != "/":
        if path != root and not path.startswith(root + "/"):
            return ""
        path = path[len(root) :]
    base = f"{point}/{path.strip('/')}".rstrip("/")
    return base if os.path.isdir(base) else ""


def stale(bases: dict[str, str]) -> dict[str, list[str]]:
    """Host names that have a tree under our cgroups, and its directories: what killed hosts may have left."""
    found: dict[str, list[str]] = {}
    for base in bases.values():
        with os.scandir(base) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.name.startswith(_PREFIX):
                    found.setdefault(entry.name[len(_PREFIX) :], []).append(entry.path)
    return found


def remove_stale(paths: list[str], wait_s: float = 1.0) -> bool:
    """Remove trees of a dead host, waiting a moment for its last processes to be gone."""
    until = time.monotonic() + wait_s
    while not all([_remove_tree(path) for path in paths]):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True

"""Cgroup leaves: one directory tree per environment, with the memory, CPU and process limits Lambda names.

Both versions are spoken. On version 2 a leaf is one directory and a worker is born in it (``CLONE_INTO_CGROUP``); on
version 1 it is one directory in each of the memory, cpu and pids hierarchies, and the worker writes itself into their
``tasks`` files. Attaching from outside is never done: it takes a kernel-wide lock that waits for RCU, 8 ms and more on
an idle host.

Facts used, from the kernel's admin guide (cgroup-v1/memory.rst, cgroup-v2.rst, scheduler/sched-bwc.rst): limits are
bytes; ``cpu.cfs_quota_us`` is microseconds per ``cpu.cfs_period_us``, at least 1,000; a leaf's ``oom_kill`` counts the
processes that the kernel killed for its limit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from lamplighter.sandbox.native import open_leaf, watch

PERIOD_US = 20_000
"""CFS bandwidth period. Short, so that a throttled function stalls for at most about 20 ms at a time; at Lambda's
smallest memory its share is 1,447 µs of it, above the kernel's minimum of 1,000."""
MB_PER_VCPU = 1_769
"""Memory at which a function has one vCPU (AWS's page on configuring memory)."""
PROCESSES = 1_024
"""Processes and threads of one environment (AWS's quotas page)."""
MIB = 1_048_576
_CONTROLLERS = {"memory", "cpu", "pids"}
_PREFIX = "lamplighter-"


class Limits(NamedTuple):
    """``memory`` in bytes, ``cpu`` in vCPUs, ``processes`` in tasks; 0 leaves one unlimited."""

    memory: int = 0
    cpu: float = 0.0
    processes: int = PROCESSES


class Usage(NamedTuple):
    """What a leaf has used: CPU and throttled time in seconds."""

    cpu_s: float
    throttled_s: float


class Entrance(NamedTuple):
    """How a process gets in: write ``0`` to each ``writable``, or be born in ``directory`` (-1 on version 1)."""

    writable: list[int]
    directory: int


def quota_us(cpu: float) -> int:
    """The CFS quota for a share in vCPUs; -1 for none."""
    return max(1_000, round(cpu * PERIOD_US)) if cpu else -1


class Leaf:
    """One environment's cgroups. This base class is also the null leaf of a host without any: it limits nothing."""

    enforcement = "none"

    def configure(self, limits: Limits) -> None:
        """Set limits and start new counters; ``OSError`` if the kernel refuses."""

    def set_cpu(self, cpu: float) -> None:
        """Change the CPU share; 0 lifts the limit."""

    def __init__(self) -> None:
        self._entrance: Entrance | None = None
        self.oom_fd = -1
        """Readable once the kernel runs out of memory for this leaf; see :meth:`open_watch`."""
        self._seen = self._cache = 0

    def open_entrance(self) -> None:
        """Open ahead of a launch what a process needs to get in: it costs 0.2 ms on a host that was idle."""
        if self._entrance is None:
            self._entrance = self._open()

    @contextlib.contextmanager
    def entrance(self) -> Iterator[Entrance]:
        """What one new process needs to get in; closed afterwards."""
        self.open_entrance()
        assert self._entrance is not None
        try:
            yield self._entrance
        finally:
            self.close_entrance()

    def close_entrance(self) -> None:
        if self._entrance is not None:
            entrance, self._entrance = self._entrance, None
            for fd in (*entrance.writable, entrance.directory):
                if fd >= 0:
                    os.close(fd)

    def _open(self) -> Entrance:
        return Entrance([], -1)

    def open_watch(self) -> None:
        """Have :attr:`oom_fd` opened, where the kernel can tell. A process that is killed for its memory takes its time
        to go, within its CPU share; who knows of it can lift that."""

    def ran_out(self) -> bool:
        """Whether :attr:`oom_fd` told of a kill, done or about to be."""
        with contextlib.suppress(OSError):
            os.read(self.oom_fd, 4_096)
        return True

    def close_watch(self) -> None:
        if self.oom_fd >= 0:
            os.close(self.oom_fd)
            self.oom_fd = -1

    def peak(self) -> int:
        """Most memory used since :meth:`configure`, bytes, without the page cache of files that is there now.

        That cache is not the function's use: the kernel drops it before it refuses memory, and Lambda does not count
        what lies in /tmp. The kernel's own high-water mark has it, so what is seen of it now is taken off again. Asked
        for only when the mark has risen: it costs more than all the rest of a report.
        """
        mark = self._high_water()
        if mark > self._seen + MIB:
            self._seen, self._cache = mark, self._file_cache()
        return max(0, mark - self._cache)

    def _high_water(self) -> int:
        return 0

    def _file_cache(self) -> int:
        return 0

    def resident(self) -> int:
        """Memory used now, bytes, without page cache that could be dropped."""
        return 0

    def oom_kills(self) -> int:
        """Processes the kernel has killed for this leaf's limit since :meth:`configure`.

        Version 2, which kills all that is inside together, counts the one that it chose twice.
        """
        return 0

    def usage(self) -> Usage:
        return Usage(0.0, 0.0)

    def empty(self) -> bool:
        """Whether no process is left inside."""
        return True

    def kill(self) -> None:
        """Kill whatever is inside, in whatever namespace."""

    def remove(self) -> bool:
        """Remove the directories; false while processes are still leaving."""
        return True


def _read(path: str) -> str:
    # Paths in it are the kernel's bytes, as any path in this process is.
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _open_all(paths: list[str], flags: int) -> list[int]:
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(os.open(path, flags | os.O_CLOEXEC))  # noqa: PERF401 - so that what is open can be closed
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as fault:
        if fault.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


class LeafV1(Leaf):
    """``memory``, ``cpu`` and ``pids`` are its directories in those hierarchies; "" where one is not mounted."""

    enforcement = "cgroup1"

    def __init__(self, memory: str, cpu: str, pids: str) -> None:
        super().__init__()
        self.memory, self.cpu, self.pids = memory, cpu, pids
        for path in self._paths():
            os.makedirs(path, exist_ok=True)
        self._peak_fd = os.open(f"{memory}/memory.max_usage_in_bytes", os.O_RDONLY | os.O_CLOEXEC) if memory else -1
        self._oom_before = 0
        if cpu:
            _write(f"{cpu}/cpu.cfs_period_us", str(PERIOD_US))

    def _paths(self) -> list[str]:
        return [path for path in (self.memory, self.cpu, self.pids) if path]

    def configure(self, limits: Limits) -> None:
        if self.memory:
            value = str(limits.memory or -1)
            # memsw may never be below memory: raise it first, lower it last. It is absent without swap accounting.
            both = f"{self.memory}/memory.memsw.limit_in_bytes"
            if os.path.exists(both):
                _write(both, "-1")
            _write(f"{self.memory}/memory.limit_in_bytes", value)
            if os.path.exists(both):
                _write(both, value)
            _write(f"{self.memory}/memory.max_usage_in_bytes", "0")
            self._oom_before += self.oom_kills()
        self._seen = self._cache = 0
        if self.pids:
            _write(f"{self.pids}/pids.max", str(limits.processes or "max"))
        self.set_cpu(limits.cpu)

    def set_cpu(self, cpu: float) -> None:
        if self.cpu:
            _write(f"{self.cpu}/cpu.cfs_quota_us", str(quota_us(cpu)))

    def _open(self) -> Entrance:
        return Entrance(_open_all([f"{path}/tasks" for path in self._paths()], os.O_WRONLY), -1)

    def open_watch(self) -> None:
        if not self.memory:
            return
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{self.memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _write(f"{self.memory}/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except OSError:  # a kernel without it: such a process goes when it goes
            os.close(event)
        else:
            self.oom_fd = event

    def _high_water(self) -> int:
        return int(os.pread(self._peak_fd, 32, 0)) if self._peak_fd >= 0 else 0

    def _file_cache(self) -> int:
        stat = _read(f"{self.memory}/memory.stat") if self.memory else ""
        return _field(stat, "cache") - _field(stat, "shmem")

    def resident(self) -> int:
        return _field(_read(f"{self.memory}/memory.stat"), "rss") if self.memory else 0

    def oom_kills(self) -> int:
        if not self.memory:
            return 0
        return _field(_read(f"{self.memory}/memory.oom_control"), "oom_kill") - self._oom_before

    def usage(self) -> Usage:
        if not self.cpu:
            return Usage(0.0, 0.0)
        throttled = _field(_read(f"{self.cpu}/cpu.stat"), "throttled_time") / 1e9
        # CPU time is cpuacct's on version 1, often not mounted with cpu; the host takes it from the process instead.
        return Usage(0.0, throttled)

    def empty(self) -> bool:
        return not any(_read(f"{path}/tasks") for path in self._paths())

    def kill(self) -> None:
        for path in self._paths():
            for pid in _read_or(f"{path}/tasks").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> bool:
        self.close_entrance()
        self.close_watch()
        if self._peak_fd >= 0:
            os.close(self._peak_fd)
            self._peak_fd = -1
        return all([_rmdir(path) for path in self._paths()])


class LeafV2(Leaf):
    enforcement = "cgroup2"

    def __init__(self, path: str, owner: int = -1) -> None:
        super().__init__()
        self.path = path
        os.makedirs(path, exist_ok=True)
        if owner >= 0:
            # CLONE_INTO_CGROUP checks the caller, an unprivileged template: it may move processes, not limits.
            os.chown(f"{path}/cgroup.procs", owner, -1)
        self._peak_fd = -1
        for flags in (os.O_RDWR, os.O_RDONLY):  # memory.peak: Linux 5.19; writing to it resets it since 6.12
            with contextlib.suppress(OSError):
                self._peak_fd = os.open(f"{path}/memory.peak", flags | os.O_CLOEXEC)
                break
        self._oom_before = 0

    def configure(self, limits: Limits) -> None:
        _write(f"{self.path}/memory.max", str(limits.memory or "max"))
        with contextlib.suppress(FileNotFoundError):
            _write(f"{self.path}/memory.swap.max", "0")
        _write(f"{self.path}/memory.oom.group", "1")
        _write(f"{self.path}/pids.max", str(limits.processes or "max"))
        if self._peak_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._peak_fd, b"reset")
        self._oom_before += self.oom_kills()
        self._seen = self._cache = 0
        self.set_cpu(limits.cpu)

    def set_cpu(self, cpu: float) -> None:
        quota = quota_us(cpu)
        _write(f"{self.path}/cpu.max", f"{'max' if quota < 0 else quota} {PERIOD_US}")

    def _open(self) -> Entrance:
        writable = _open_all([f"{self.path}/cgroup.procs"], os.O_WRONLY)
        try:
            if os.geteuid() == 0:
                with contextlib.suppress(PermissionError):
                    return Entrance(writable, open_leaf(self.path))
            # Who may not detach a mount isolates nobody by one either (or hands this to nobody, in a user's nests), so
            # the way up from it is open anyway.
            return Entrance(writable, os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            os.close(writable[0])
            raise

    def open_watch(self) -> None:
        with contextlib.suppress(OSError):
            self.oom_fd = watch(f"{self.path}/memory.events")

    def ran_out(self) -> bool:
        # The file also changes each time that the limit was met and something could be dropped.
        return super().ran_out() and self.oom_kills() > 0

    def _high_water(self) -> int:
        if self._peak_fd >= 0:
            return int(os.pread(self._peak_fd, 32, 0))
        return int(_read(f"{self.path}/memory.current"))

    def _file_cache(self) -> int:
        stat = _read(f"{self.path}/memory.stat")
        return _field(stat, "file") - _field(stat, "shmem")

    def resident(self) -> int:
        return _field(_read(f"{self.path}/memory.stat"), "anon")

    def oom_kills(self) -> int:
        return _field(_read(f"{self.path}/memory.events"), "oom_kill") - self._oom_before

    def usage(self) -> Usage:
        text = _read(f"{self.path}/cpu.stat")
        return Usage(_field(text, "usage_usec") / 1e6, _field(text, "throttled_usec") / 1e6)

    def empty(self) -> bool:
        return _field(_read(f"{self.path}/cgroup.events"), "populated") == 0

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.kill", "1")  # Linux 5.14

    def remove(self) -> bool:
        self.close_entrance()
        self.close_watch()
        if self._peak_fd >= 0:
            os.close(self._peak_fd)
            self._peak_fd = -1
        return _rmdir(self.path)


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
        if set(_read(f"{base}/cgroup.subtree_control").split()) >= _CONTROLLERS:
            return
        try:
            _delegate(base)
        except OSError as fault:
            if fault.errno != errno.EBUSY:
                raise
            own = f"{self.bases['unified']}/host"
            os.makedirs(own, exist_ok=True)
            _write(f"{own}/cgroup.procs", "0")
            self._moved_from = base
            try:
                _delegate(base)
            except OSError as still:
                _write(f"{base}/cgroup.procs", "0")
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
                _write(f"{self.bases['unified']}/cgroup.subtree_control", "-memory -cpu -pids")
                _write(f"{self._moved_from}/cgroup.subtree_control", "-memory -cpu -pids")
                _write(f"{self._moved_from}/cgroup.procs", "0")
                self._moved_from = ""
        return all([_remove_tree(path) for path in self.bases.values()])


def _delegate(path: str) -> None:
    _write(f"{path}/cgroup.subtree_control", "+memory +cpu +pids")


def _remove_tree(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # another host tidies up as well
        return True
    return all([_remove_tree(child) for child in children]) and _rmdir(path)


def own_cgroups() -> dict[str, str]:
    """The directories of this process's own cgroups that it may make leaves under, by controller.

    ``{"unified": path}`` on version 2 with the three controllers; some of ``memory``, ``cpu``, ``pids`` on version 1;
    empty where nothing is writable.
    """
    found = _own_paths()
    if "unified" in found and not set(_read_or(f"{found['unified']}/cgroup.controllers").split()) >= _CONTROLLERS:
        del found["unified"]
    found = {kind: base for kind, base in found.items() if not _unwritable(base)}
    return {"unified": found["unified"]} if "unified" in found else found


def _own_paths() -> dict[str, str]:
    """Where this process's own cgroups are seen: ``unified``, and those controllers of version 1 that we use."""
    mounts: dict[str, tuple[str, str]] = {}
    unified: tuple[str, str] | None = None
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split(" ", 2)
        if kind == "cgroup2":
            unified = (fields[4], fields[3])
        elif kind == "cgroup":
            for controller in options.split(","):
                mounts[controller] = (fields[4], fields[3])
    found: dict[str, str] = {}
    for line in _read("/proc/self/cgroup").splitlines():
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
    mounted = [line.split(" - ")[1].split(" ", 2) for line in _read("/proc/self/mountinfo").splitlines()]
    unified = any(kind == "cgroup2" for kind, *_ in mounted)
    divided = any(kind == "cgroup" and controller in options.split(",") for kind, _, options in mounted)
    if not unified and not divided:
        remedy = "mount -t cgroup2 cgroup2 /sys/fs/cgroup" if os.geteuid() == 0 else "run the host where one is"
        return Absence("no cgroup file system is mounted", remedy)
    for kind, path in _own_paths().items():
        if kind not in (controller, "unified"):
            continue
        if kind == "unified" and controller not in (has := _read_or(f"{path}/cgroup.controllers").split()):
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


def _read_or(path: str) -> str:
    try:
        return _read(path)
    except OSError:
        return ""


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


class LeafPool:
    """Leaves of one function, kept ready so that a launch makes none, and recycled once their processes are gone.

    Never shared between functions: a template may hold an entrance of its own function's leaves.
    """

    def __init__(self, hierarchy: Hierarchy, group: str, limits: Limits, owner: int) -> None:
        self._hierarchy, self._group, self._limits, self._owner = hierarchy, group, limits, owner
        self._ready: deque[Leaf] = deque()
        self._leaving: deque[Leaf] = deque()
        self._made = 0
        hierarchy.group(group, owner)

    def take(self) -> Leaf:
        """A configured leaf with its CPU limit lifted: the launch itself is not the function's to pay for."""
        return self._ready.popleft() if self._ready else self._make()

    def give_back(self, leaf: Leaf) -> None:
        """Hand in a leaf whose processes have been killed; it is removed once they are gone."""
        self._leaving.append(leaf)

    def tend(self, ready: int) -> bool:
        """Between launches: remove left leaves, and keep ``ready`` fresh ones. True while some are still leaving."""
        for _ in range(len(self._leaving)):
            leaf = self._leaving.popleft()
            if not leaf.remove():
                leaf.kill()
                self._leaving.append(leaf)
        if len(self._ready) < ready:
            self._ready.append(self._make())
        return bool(self._leaving) or len(self._ready) < ready

    def close(self, wait_s: float = 2.0) -> bool:
        """Remove every leaf; false if some still has processes after ``wait_s``."""
        self._leaving.extend(self._ready)
        self._ready.clear()
        until = time.monotonic() + wait_s
        while self._leaving:
            leaf = self._leaving[0]
            if leaf.remove():
                self._leaving.popleft()
            elif time.monotonic() > until:
                return False
            else:
                time.sleep(0.002)
        return True

    def _make(self) -> Leaf:
        self._made += 1
        leaf = self._hierarchy.leaf(self._group, f"environment-{self._made}", self._owner)
        leaf.configure(self._limits._replace(cpu=0.0))
        leaf.open_entrance()
        leaf.open_watch()
        return leaf

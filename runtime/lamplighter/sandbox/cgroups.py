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
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

from lamplighter.sandbox.control_files import field, open_all, read, read_or_nothing, remove_directory, write
from lamplighter.sandbox.native import open_leaf, watch

PERIOD_US = 20_000
"""CFS bandwidth period. Short, so that a throttled function stalls for at most about 20 ms at a time; at Lambda's
smallest memory its share is 1,447 µs of it, above the kernel's minimum of 1,000."""
MB_PER_VCPU = 1_769
"""Memory at which a function has one vCPU (AWS's page on configuring memory)."""
PROCESSES = 1_024
"""Processes and threads of one environment (AWS's quotas page)."""
MIB = 1_048_576


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
            write(f"{cpu}/cpu.cfs_period_us", str(PERIOD_US))

    def _paths(self) -> list[str]:
        return [path for path in (self.memory, self.cpu, self.pids) if path]

    def configure(self, limits: Limits) -> None:
        if self.memory:
            value = str(limits.memory or -1)
            # memsw may never be below memory: raise it first, lower it last. It is absent without swap accounting.
            both = f"{self.memory}/memory.memsw.limit_in_bytes"
            if os.path.exists(both):
                write(both, "-1")
            write(f"{self.memory}/memory.limit_in_bytes", value)
            if os.path.exists(both):
                write(both, value)
            write(f"{self.memory}/memory.max_usage_in_bytes", "0")
            self._oom_before += self.oom_kills()
        self._seen = self._cache = 0
        if self.pids:
            write(f"{self.pids}/pids.max", str(limits.processes or "max"))
        self.set_cpu(limits.cpu)

    def set_cpu(self, cpu: float) -> None:
        if self.cpu:
            write(f"{self.cpu}/cpu.cfs_quota_us", str(quota_us(cpu)))

    def _open(self) -> Entrance:
        return Entrance(open_all([f"{path}/tasks" for path in self._paths()], os.O_WRONLY), -1)

    def open_watch(self) -> None:
        if not self.memory:
            return
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{self.memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(f"{self.memory}/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except OSError:  # a kernel without it: such a process goes when it goes
            os.close(event)
        else:
            self.oom_fd = event

    def _high_water(self) -> int:
        return int(os.pread(self._peak_fd, 32, 0)) if self._peak_fd >= 0 else 0

    def _file_cache(self) -> int:
        stat = read(f"{self.memory}/memory.stat") if self.memory else ""
        return field(stat, "cache") - field(stat, "shmem")

    def resident(self) -> int:
        return field(read(f"{self.memory}/memory.stat"), "rss") if self.memory else 0

    def oom_kills(self) -> int:
        if not self.memory:
            return 0
        return field(read(f"{self.memory}/memory.oom_control"), "oom_kill") - self._oom_before

    def usage(self) -> Usage:
        if not self.cpu:
            return Usage(0.0, 0.0)
        throttled = field(read(f"{self.cpu}/cpu.stat"), "throttled_time") / 1e9
        # CPU time is cpuacct's on version 1, often not mounted with cpu; the host takes it from the process instead.
        return Usage(0.0, throttled)

    def empty(self) -> bool:
        return not any(read(f"{path}/tasks") for path in self._paths())

    def kill(self) -> None:
        for path in self._paths():
            for pid in read_or_nothing(f"{path}/tasks").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> bool:
        self.close_entrance()
        self.close_watch()
        if self._peak_fd >= 0:
            os.close(self._peak_fd)
            self._peak_fd = -1
        return all([remove_directory(path) for path in self._paths()])


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
        write(f"{self.path}/memory.max", str(limits.memory or "max"))
        with contextlib.suppress(FileNotFoundError):
            write(f"{self.path}/memory.swap.max", "0")
        write(f"{self.path}/memory.oom.group", "1")
        write(f"{self.path}/pids.max", str(limits.processes or "max"))
        if self._peak_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._peak_fd, b"reset")
        self._oom_before += self.oom_kills()
        self._seen = self._cache = 0
        self.set_cpu(limits.cpu)

    def set_cpu(self, cpu: float) -> None:
        quota = quota_us(cpu)
        write(f"{self.path}/cpu.max", f"{'max' if quota < 0 else quota} {PERIOD_US}")

    def _open(self) -> Entrance:
        writable = open_all([f"{self.path}/cgroup.procs"], os.O_WRONLY)
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
        return int(read(f"{self.path}/memory.current"))

    def _file_cache(self) -> int:
        stat = read(f"{self.path}/memory.stat")
        return field(stat, "file") - field(stat, "shmem")

    def resident(self) -> int:
        return field(read(f"{self.path}/memory.stat"), "anon")

    def oom_kills(self) -> int:
        return field(read(f"{self.path}/memory.events"), "oom_kill") - self._oom_before

    def usage(self) -> Usage:
        text = read(f"{self.path}/cpu.stat")
        return Usage(field(text, "usage_usec") / 1e6, field(text, "throttled_usec") / 1e6)

    def empty(self) -> bool:
        return field(read(f"{self.path}/cgroup.events"), "populated") == 0

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            write(f"{self.path}/cgroup.kill", "1")  # Linux 5.14

    def remove(self) -> bool:
        self.close_entrance()
        self.close_watch()
        if self._peak_fd >= 0:
            os.close(self._peak_fd)
            self._peak_fd = -1
        return remove_directory(self.path)

"""What this host gives: for each limit what holds it here, why nothing better does, and how to get that.

Everything is found by trying: a cgroup is made, limited, read back and removed; a nest is built and ended. Names and
versions say what ought to work, which in containers is rarely what does. A host serves by the survey it took at its
start, and ``lamplighter doctor`` prints one: there is no second opinion.

To add a mechanism, write a trial and put it into :data:`TRIALS`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from lamplighter.sandbox import confine, disk, root
from lamplighter.sandbox.cgroups import MIB, Limits
from lamplighter.sandbox.hierarchy import Hierarchy, absence
from lamplighter.sandbox.nest import FILES_LIMIT, FIRST_ID, ID_COUNT, Kind

LIMITS = (
    "memory",
    "cpu",
    "processes",
    "files",
    "timeout",
    "tmp",
    "pid",
    "mount",
    "ipc",
    "network",
    "uid",
    "seccomp",
    "landlock",
)
"""What is surveyed, in the order in which it is told."""
ADVISORY = ("watchdog", "none")
"""What does not hold a limit. A watchdog sees that it was passed, and ends who did, some milliseconds later."""
TMP_IN_MEMORY = "memory"
"""In the place of a directory: each /tmp is a tmpfs."""
_TRIED_TMP = 16 * MIB
_TRIED = Limits(memory=64 * MIB, cpu=0.5, processes=64)


class Enforcement(NamedTuple):
    """How one limit is held: ``cgroup2``, ``cgroup1``, ``namespace``, ``project-quota``, ``loop``, ``tmpfs``,
    ``rlimit``, ``pidfd``, ``setuid``, ``seccomp``, ``landlock``, ``watchdog`` or ``none``.
    """

    limit: str
    held_by: str
    why_not_better: str = ""
    """What was tried or wanted instead, and what stood in its way; empty where nothing better is known."""
    remedy: str = ""
    """The command or setting that would get it."""

    @property
    def exact(self) -> bool:
        return self.held_by not in ADVISORY


class Ground(NamedTuple):
    """What the trials stand on: what a host has made before it serves anything."""

    hierarchy: Hierarchy
    """Where leaves are made; of version 0 where there can be none."""
    no_cgroups: str
    """Why there can be none, if making the hierarchy failed."""
    nests: Kind
    """The best kind of nest that can be built here: one has been."""
    no_nests: str
    """What stood in the way of a better kind."""
    staging: str
    """An empty directory of the host's own, on which trials may mount in namespaces of their own."""
    users: int = 0
    """Where there are no nests: the first of the uids that functions can be given, 0 where they have the host's own."""
    no_users: str = ""
    """Why not, where the host is root."""
    no_networks: str = ""
    """Why a nest cannot have a network of its own; empty if it can: one has had."""
    tmp_store: str = TMP_IN_MEMORY
    """The directory on whose file system each /tmp is to lie, or :data:`TMP_IN_MEMORY`."""


Trial = Callable[[Ground], Iterable[Enforcement]]


class Survey:
    """One :class:`Enforcement` for each of :data:`LIMITS`, in that order."""

    def __init__(self, ground: Ground) -> None:
        found = {row.limit: row for trial in TRIALS for row in trial(ground)}
        self.rows = tuple(found[limit] for limit in LIMITS)
        self.nests = ground.nests
        self._users = ground.users

    @property
    def held(self) -> dict[str, str]:
        """``{limit: mechanism}``, as ``/readyz`` and reports show it."""
        return {row.limit: row.held_by for row in self.rows}

    def user_of(self, slot: int) -> int:
        """The host's uid of those functions that have this slot; -1 where it is the host's own, and not looked at."""
        if self.nests == "root":
            return FIRST_ID + slot * ID_COUNT + root.USER
        if self.nests == "user":
            return os.geteuid()
        return self._users + slot if self._users else -1

    def lacking(self, required: Collection[str]) -> list[Enforcement]:
        """Those of the ``required`` limits that are not held, but watched at best."""
        return [row for row in self.rows if row.limit in required and not row.exact]

    def replace(self, row: Enforcement) -> None:
        """Something turned out otherwise than it was found."""
        self.rows = tuple(row if one.limit == row.limit else one for one in self.rows)

    def watched(self) -> frozenset[str]:
        """The limits that a host has to watch itself."""
        return frozenset(row.limit for row in self.rows if row.held_by == "watchdog")


# --- trials -----------------------------------------------------------------------------------------------------------


def _leaves(ground: Ground) -> Iterator[Enforcement]:
    """Memory, CPU and processes: by a leaf that takes such limits; else the first and the last are watched."""
    hierarchy, why = ground.hierarchy, ground.no_cgroups
    remedy = "systemd-run --scope -p Delegate=yes lamplighter serve ..." if why else ""
    if not why and hierarchy.version:
        try:
            hierarchy.group("survey")
            leaf = hierarchy.leaf("survey", "leaf")
            try:
                leaf.configure(_TRIED)
            finally:
                leaf.remove()
                hierarchy.remove_group("survey")
        except OSError as fault:
            why = f"a cgroup takes no limit: {fault}"
    for limit, held_by in hierarchy.enforcement.items():
        if held_by != "none" and not why:
            yield Enforcement(limit, held_by)
            continue
        lack = absence({"processes": "pids"}.get(limit, limit))
        yield Enforcement(limit, "none" if limit == "cpu" else "watchdog", why or lack.why, remedy or lack.remedy)


def _files(ground: Ground) -> Iterator[Enforcement]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < FILES_LIMIT:
        yield Enforcement(
            "files", "rlimit", f"at {most}, not {FILES_LIMIT:,}: the host itself may open no more", "ulimit -Hn 1048576"
        )
    else:
        yield Enforcement("files", "rlimit")


def _time(ground: Ground) -> Iterator[Enforcement]:
    """The host's clock and a pidfd end the worker anywhere; what it started ends with certainty only in a nest."""
    if ground.nests != "none":
        yield Enforcement("timeout", "pidfd")
    else:
        why = f"no pid namespace ends what a late handler has started: {ground.no_nests}"
        yield Enforcement("timeout", "watchdog", why, _nest_remedy(ground))


def _tmp(ground: Ground) -> Iterator[Enforcement]:
    if ground.nests == "root" and ground.tmp_store != TMP_IN_MEMORY:
        try:
            tried = disk.make(disk.build(_TRIED_TMP, root.inodes(_TRIED_TMP), ground.tmp_store), ground.tmp_store)
            tried.close()
            disk.remove_made([tried.device])
            yield Enforcement("tmp", "loop")
        except OSError as fault:
            yield tmp_in_memory(fault.strerror or str(fault))
    elif ground.nests == "root":
        yield tmp_in_memory(
            "the host was told to (--tmp-store memory)", remedy="lamplighter serve --tmp-store /var/tmp"
        )
    elif ground.nests == "user":
        yield tmp_in_memory("mounting a disk needs root", remedy="run the host as root")
    else:
        yield Enforcement("tmp", "watchdog", f"nothing can be mounted: {ground.no_nests}", _nest_remedy(ground))


def _namespaces(ground: Ground) -> Iterator[Enforcement]:
    for limit in ("pid", "mount", "ipc"):
        if ground.nests != "none":
            yield Enforcement(limit, "namespace")
        else:
            yield Enforcement(limit, "none", ground.no_nests, _nest_remedy(ground))


def tmp_in_memory(why: str, remedy: str = "") -> Enforcement:
    """The row of a host whose /tmp lie in memory."""
    why = f"what is written to it counts as memory: {why}"
    return Enforcement("tmp", "tmpfs", why, remedy or "install e2fsprogs; give the host loop devices and a disk")


def _network(ground: Ground) -> Iterator[Enforcement]:
    if ground.nests == "none":
        yield Enforcement("network", "none", f"functions share the host's: {ground.no_nests}", _nest_remedy(ground))
    elif ground.no_networks:
        yield Enforcement("network", "none", f"functions share the host's: {ground.no_networks}")
    else:
        yield Enforcement("network", "namespace")


def _uid(ground: Ground) -> Iterator[Enforcement]:
    if ground.nests == "root":
        yield Enforcement("uid", "namespace")
    else:
        why = f"functions run as the host's own user, uid {os.geteuid()}"
        if ground.users:
            yield Enforcement("uid", "setuid")
        elif os.geteuid() == 0:
            why = f"{why}: {'; '.join(filter(None, (ground.no_nests, ground.no_users)))}"
            yield Enforcement("uid", "none", why, _nest_remedy(ground))
        else:
            yield Enforcement("uid", "none", why, "run the host as root")


def _seccomp(ground: Ground) -> Iterator[Enforcement]:
    why = confine.no_filter()
    if why:
        yield Enforcement("seccomp", "none", why, "a kernel with CONFIG_SECCOMP_FILTER, in no container that denies it")
    else:
        yield Enforcement("seccomp", "seccomp")


def _landlock(ground: Ground) -> Iterator[Enforcement]:
    why = confine.no_landlock()
    version = confine.landlock_version()
    remedy = "Linux 6.12 or newer with CONFIG_SECURITY_LANDLOCK, and lsm=landlock,... on its command line"
    if not why and version < confine.SOCKETS_SINCE:
        # Files need it only where there is no root of the sandbox's own.
        why = f"version {version} of its interface knows files alone: the host's abstract sockets are within reach"
        yield Enforcement("landlock", "none" if ground.nests != "none" else "landlock", why, remedy)
    elif why:
        yield Enforcement("landlock", "none", why, remedy)
    else:
        yield Enforcement("landlock", "landlock")


def _nest_remedy(ground: Ground) -> str:
    if os.geteuid() == 0:
        return "give the container CAP_SYS_ADMIN (docker run --privileged), or run the host outside of it"
    return "sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1, or run the host as root"


TRIALS: tuple[Trial, ...] = (_leaves, _files, _time, _tmp, _namespaces, _network, _uid, _seccomp, _landlock)
"""Each yields the rows it is for; together exactly one for each of :data:`LIMITS`."""

"""A nest: the namespaces in which one function's template and workers live, held open by a keeper process.

Guarantees:

1. Code inside runs as an unprivileged uid of the host, from its first instruction, init included.
2. It sees only the root of :mod:`lamplighter.sandbox.root`, and only processes of its own nest.
3. All that runs inside ends when the nest is ended, and within milliseconds of the host's own end, however that came.
4. Ending it leaves no process and no mount, its disk included.

There are two kinds. Root builds one with a range of ids of its own. Anybody else may build one in a user namespace that
maps nothing but the builder's own user and group: guarantee 1 is then that code inside has no privilege, but for files
and signals it is the host's own user, whom only guarantee 2 keeps it away from. Where neither can be built,
:class:`Nest` is a null object whose processes run, unisolated, in the host's own namespaces, and
:attr:`Nest.isolated` is false.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.resources
import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from lamplighter._sandbox import ffi, lib
from lamplighter.sandbox import root, strays
from lamplighter.sandbox.cgroups import Leaf
from lamplighter.sandbox.confine import Confinement
from lamplighter.sandbox.disk import Disk
from lamplighter.sandbox.native import Process, SandboxFault, fault, raised

ID_COUNT = 65_536
"""Ids mapped into each nest, so that any uid a package's files may have exists inside."""
FIRST_ID = 0x4C00_0000
"""First host id of the first nest's range: above what useradd, systemd and container engines hand out by default."""
FILES_LIMIT = 1_024
"""Open descriptors of one process, as Lambda's quota says."""


Kind = Literal["root", "user", "none"]
"""Nests with ids of their own; nests that are the host's own user; no nests."""
_KINDS: tuple[Kind, ...] = ("root", "user")


def _is_root_of_the_machine() -> bool:
    """Whether this process's user is uid 0 outside of all user namespaces, as far as can be seen from here."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return os.geteuid() == 0 and any(line.split()[:2] == ["0", "0"] for line in file)


def keeper_program() -> int:
    """A descriptor of the keeper program, close-on-exec."""
    path = importlib.resources.files("lamplighter") / "_keeper"
    return os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)


class Nest:
    """One nest. :meth:`end` kills everything in it; the object is then spent."""

    def __init__(
        self,
        keeper: Process | None,
        program: int,
        kind: Kind = "none",
        user: int = root.USER,
        disk: Disk | None = None,
        *,
        own_network: bool = False,
    ) -> None:
        self.keeper = keeper
        self._user = user
        self.kind = kind
        self.own_network = own_network
        self._disk = disk
        self.program = program
        """Descriptor of the keeper program, for the template, which starts one keeper for each worker."""

    @property
    def isolated(self) -> bool:
        return self.keeper is not None

    @classmethod
    def create(
        cls,
        *,
        staging: str,
        slot: int,
        code: str,
        layers: Sequence[str],
        tmp_bytes: int,
        program: int,
        lifeline: int,
        kind: Kind = "root",
        disk: Disk | None = None,
        own_network: bool = False,
    ) -> Nest:
        """Build a nest. ``slot`` picks the uid range of one that is root's; ``staging`` is an empty directory.

        ``lifeline`` is a descriptor that reads end of file once the host has gone: one end of a socket, so that nobody
        inside gets hold of the other. ``disk`` is mounted on /tmp, and the nest's from here on, whatever comes of it;
        without one /tmp is a tmpfs of ``tmp_bytes``. With ``own_network`` there is a loopback interface inside and
        nothing else. Blocks for a few milliseconds. Raises :class:`SandboxFault`.
        """
        try:
            if disk is not None:
                disk.give_to(FIRST_ID + slot * ID_COUNT + root.USER)
            plan = root.steps(code, layers, tmp_bytes=tmp_bytes, tmp_mount=disk.mount if disk else -1)
            keeper = cls._build(plan, staging, slot, program, lifeline, kind, own_network=own_network)
        except BaseException:
            if disk is not None:
                disk.close()
            raise
        return cls(keeper, program, kind, disk=disk, own_network=own_network)

    @staticmethod
    def _build(
        plan: Sequence[root.Step],
        staging: str,
        slot: int,
        program: int,
        lifeline: int,
        kind: Kind,
        *,
        own_network: bool,
    ) -> Process:
        alive = [
            (ffi.new("char[]", os.fsencode(step.source)), ffi.new("char[]", os.fsencode(step.target))) for step in plan
        ]
        steps = ffi.new("struct ll_step[]", len(plan))
        for record, step, (source, target) in zip(steps, plan, alive, strict=True):
            record.kind, record.source, record.target, record.mount = step.kind, source, target, step.mount
        base = ffi.new("char[]", os.fsencode(staging))
        spec = ffi.new(
            "struct ll_nest_spec *",
            {
                "staging": base,
                "steps": steps,
                "step_count": len(plan),
                "first_id": FIRST_ID + slot * ID_COUNT,
                "id_count": ID_COUNT,
                "user": root.USER,
                "own_user": kind == "user",
                "own_network": own_network,
                "keeper_fd": program,
                "lifeline_fd": lifeline,
            },
        )
        record, keeper = fault(), ffi.new("struct ll_process *")
        if lib.ll_nest_create(spec, keeper, record) < 0:
            raise raised(record)
        return Process(keeper.pid, keeper.pidfd)

    @classmethod
    def without(cls, program: int, user: int = 0) -> Nest:
        """The null nest of a host that cannot isolate; ``user`` is who its processes are, 0 for who the host is."""
        return cls(None, program, user=user)

    @classmethod
    def best(cls, *, staging: str, slot: int, program: int, lifeline: int) -> tuple[Kind, str]:
        """The best kind of nest that this process can build (one is built), and what stood in the way of a better."""
        obstacle = ""
        for kind in _KINDS if os.geteuid() == 0 else _KINDS[1:]:
            if kind == "user" and _is_root_of_the_machine():
                # A nest of root's own user would be root to the machine: without capabilities, but whatever goes by
                # ownership, such as the settings under /proc/sys, would be its to change.
                break
            found = cls.obstacle(staging=staging, slot=slot, program=program, lifeline=lifeline, kind=kind)
            if not found:
                return kind, obstacle
            obstacle = obstacle or found
        return "none", obstacle

    @classmethod
    def obstacle(
        cls,
        *,
        staging: str,
        slot: int,
        program: int,
        lifeline: int,
        kind: Kind = "root",
        own_network: bool = False,
    ) -> str:
        """Why this process cannot build nests of a kind, found by building one; empty if it can."""
        hidden = root.obstacle()
        if hidden:
            return hidden
        try:
            nest = cls.create(
                staging=staging,
                slot=slot,
                code=staging,
                layers=(),
                tmp_bytes=1_048_576,
                program=program,
                lifeline=lifeline,
                kind=kind,
                own_network=own_network,
            )
        except OSError as problem:
            return problem.strerror or str(problem)
        try:
            if own_network:
                os.close(nest.network())
        except OSError as problem:
            return problem.strerror or str(problem)
        finally:
            nest.end()
        return ""

    def spawn(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str,
        fds: Sequence[int],
        leaf: Leaf,
        *,
        forks: bool,
        data: int = 0,
        file_size: int = 0,
        confinement: Confinement | None = None,
    ) -> Process:
        """Start ``argv`` inside, in ``leaf``, with ``fds`` as its descriptors 0, 1, 2, … and no others.

        ``forks``: it is a template, and keeps the one capability that forking isolated workers takes. ``data`` and
        ``file_size`` are its ``RLIMIT_DATA`` and ``RLIMIT_FSIZE``, bytes; 0 sets none. ``confinement`` is laid on it.

        Returns once the program has been executed. The process is a child of ours. Raises :class:`SandboxFault`.
        """
        arguments = [ffi.new("char[]", os.fsencode(text)) for text in argv]
        variables = [ffi.new("char[]", os.fsencode(f"{name}={value}")) for name, value in environment.items()]
        argument_array = ffi.new("char *[]", [*arguments, ffi.NULL])
        variable_array = ffi.new("char *[]", [*variables, ffi.NULL])
        place = ffi.new("char[]", os.fsencode(directory))
        descriptors = ffi.new("int[]", list(fds))
        laid = confinement or Confinement()
        paths = [ffi.new("char[]", os.fsencode(grant.path)) for grant in laid.grants]
        grants = ffi.new("struct ll_grant[]", len(paths))
        for record, path, grant in zip(grants, paths, laid.grants, strict=True):
            record.path, record.writable = path, grant.writable
        with leaf.entrance() as entrance:
            placement = ffi.new("int[]", entrance.writable)
            spec = ffi.new(
                "struct ll_spawn_spec *",
                {
                    "nest": self.keeper.pidfd if self.keeper else -1,
                    "uid": self._user,
                    "own_user": self.kind == "user",
                    "forks": forks,
                    "path": arguments[0],
                    "argv": argument_array,
                    "envp": variable_array,
                    "directory": place,
                    "fds": descriptors,
                    "fd_count": len(fds),
                    "placement": placement,
                    "placement_count": len(entrance.writable),
                    "cgroup2": entrance.directory,
                    "files": FILES_LIMIT,
                    "data": data,
                    "file_size": file_size,
                    "own_network": self.own_network,
                    "filter": laid.layers(forks=forks),
                    "grants": grants,
                    "grant_count": len(paths),
                    "scopes": laid.scopes,
                },
            )
            record, process = fault(), ffi.new("struct ll_process *")
            if lib.ll_spawn(spec, process, record) < 0:
                raise raised(record)
        return Process(process.pid, process.pidfd)

    def network(self) -> int:
        """A descriptor of a further network like the nest's own, for one worker. Raises :class:`SandboxFault`."""
        assert self.keeper is not None
        record = fault()
        fd = int(lib.ll_network_create(self.keeper.pidfd, record))
        if fd < 0:
            raise raised(record)
        return fd

    def end(self, known: Collection[int] = (), wait_s: float = 5.0) -> None:
        """Kill everything inside and reap the keeper; returns when it is gone.

        ``known`` are pids of children that somebody else reaps. Raises :class:`SandboxFault` after ``wait_s``.
        """
        if self.keeper is None:
            return
        self.keeper.kill()
        until = time.monotonic() + wait_s
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.keeper.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > until:
                    raise SandboxFault(errno.ETIMEDOUT, "cannot end a nest: its keeper does not go")
                time.sleep(0.001)
                strays.reap(known)
        self.keeper.close()
        self.keeper = None
        if self._disk is not None:
            self._disk.close()

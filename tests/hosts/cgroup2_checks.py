"""What must hold where cgroups are version 2. Run by ``test_cgroup2_in_uml``, inside a kernel that has no other.

The process that runs this is alone in its cgroup, below the root: as a service is, where systemd delegates.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hosts.served_in_a_cgroup import MOUNT, Served, served_in_a_cgroup

from lamplighter.sandbox import root
from lamplighter.sandbox.cgroups import MIB, Entrance, Leaf, LeafV2, Limits
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups
from lamplighter.sandbox.native import Process
from lamplighter.sandbox.nest import FIRST_ID, ID_COUNT, Nest, keeper_program

SLOT = 3
OWNER = FIRST_ID + SLOT * ID_COUNT + root.USER


class _BirthOnly(LeafV2):
    """A leaf into which nobody can write itself: whoever is inside was born there."""

    def _open(self) -> Entrance:
        entrance = super()._open()
        for fd in entrance.writable:
            os.close(fd)
        return Entrance([], entrance.directory)


def _eventually(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def _own_path() -> str:
    return Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")


@pytest.fixture
def hierarchy() -> Iterator[Hierarchy]:
    before = _own_path()
    made = Hierarchy(own_cgroups(), f"check-{os.getpid()}")
    yield made
    assert made.remove()
    assert _own_path() == before
    assert not (MOUNT / before.strip("/") / "cgroup.subtree_control").read_text().split()


@pytest.fixture
def nest(tmp_path: Path) -> Iterator[Nest]:
    staging, code = tmp_path / "staging", tmp_path / "code"
    staging.mkdir()
    code.mkdir()
    program = keeper_program()
    lifeline, end = (one.detach() for one in socket.socketpair())
    made = Nest.create(
        staging=str(staging), slot=SLOT, code=str(code), layers=(), tmp_bytes=MIB, program=program, lifeline=lifeline
    )
    yield made
    made.end()
    for fd in (program, lifeline, end):
        os.close(fd)


def _said(nest: Nest, leaf: Leaf, argv: list[str], extra: tuple[int, ...] = (), **variables: str) -> str:
    """What a program that is started in ``nest`` and ``leaf`` writes. Its descriptors from 3 on are ``extra``."""
    out, theirs = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    process = nest.spawn(argv, variables, "/", [null, theirs, theirs, *extra], leaf, forks=True)
    os.close(theirs)
    os.close(null)
    with open(out, encoding="utf-8", errors="replace") as file:
        text = file.read()
    _reaped(process)
    return text


def _reaped(process: Process) -> None:
    _eventually(lambda: process.reap() is not None, "the process ends")
    process.close()


# --- placement --------------------------------------------------------------------------------------------------------


def test_a_template_is_born_in_its_leaf(hierarchy: Hierarchy, nest: Nest) -> None:
    hierarchy.group("f", OWNER)
    leaf = _BirthOnly(f"{hierarchy.bases['unified']}/f/template", OWNER)
    assert _said(nest, leaf, ["/bin/cat", "/proc/self/cgroup"]).strip().endswith("/f/template")
    assert leaf.remove()


FORKS = """
import os, select, sys
from lamplighter.sandbox.fork import fork
for directory in (4, 5):
    sys.stdout.flush()
    forked = fork(isolated=True, pid=0, program=3, tmp_bytes=1 << 20, tmp_inodes=64, placement=[],
                  cgroup2=directory)
    if forked.pid == 0:
        print(forked.problem or open("/proc/self/cgroup").read().strip(), os.getuid(), flush=True)
        os._exit(0)
    select.select([forked.pidfd], [], [])
    os.close(forked.pidfd)
    os.close(forked.keeper_pidfd)
print("way up", os.path.exists("/proc/self/fd/4/../template") or os.path.exists("/proc/self/fd/4/../../f"), flush=True)
"""


def test_an_unprivileged_template_gives_birth_into_the_leaves_it_was_given_and_no_others(
    hierarchy: Hierarchy, nest: Nest
) -> None:
    hierarchy.group("f", OWNER)
    template = hierarchy.leaf("f", "template", OWNER)
    ours = hierarchy.leaf("f", "environment-1", OWNER)
    hierarchy.group("other")
    others = hierarchy.leaf("other", "environment-1")
    with ours.entrance() as given, others.entrance() as not_given:
        extra = (nest.program, given.directory, not_given.directory)
        said = _said(nest, template, root.python_command(FORKS), extra, HOME="/tmp")
    lines = said.splitlines()
    assert len(lines) == 3, said
    assert lines[0].endswith(f"/f/environment-1 {root.USER}"), said
    assert lines[1].endswith(f"/f/template {root.USER}"), said
    assert lines[2] == "way up False", said
    nest.end()  # and with it the workers' keepers, which are in the leaves as well
    for leaf in (template, ours, others):
        _eventually(leaf.remove, "the leaf is empty")


def test_an_unprivileged_host_places_its_processes_in_a_subtree_that_was_delegated_to_it() -> None:
    delegated = MOUNT / f"delegated-{os.getpid()}"
    delegated.mkdir()
    for path in (delegated, delegated / "cgroup.procs", delegated / "cgroup.subtree_control"):
        os.chown(path, 1000, 1000)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            (delegated / "cgroup.procs").write_text("0")
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            hierarchy = Hierarchy(own_cgroups(), "unprivileged")
            hierarchy.group("f")
            leaf = hierarchy.leaf("f", "leaf")
            leaf.configure(Limits(memory=64 * MIB))
            nest = Nest.without(-1)
            process = nest.spawn(["/bin/cat", "/proc/self/cgroup"], {}, "/", [read, write, write], leaf, forks=False)
            _reaped(process)
            _eventually(leaf.remove, "the leaf is empty")
            status = 0 if hierarchy.remove() else 2
        except BaseException as fault:
            os.write(write, repr(fault).encode())
        finally:
            os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        said = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    assert said.strip().endswith("/lamplighter-unprivileged/f/leaf"), said
    assert os.listdir(delegated) and not [entry for entry in delegated.iterdir() if entry.is_dir()]
    delegated.rmdir()


# --- the host's own cgroup --------------------------------------------------------------------------------------------


def test_a_cgroup_that_others_are_in_as_well_is_not_divided_and_the_reason_is_given() -> None:
    before = _own_path()
    with subprocess.Popen(["/bin/sleep", "1000"]) as other:
        try:
            with pytest.raises(OSError, match="holds other processes, so it cannot be divided: start the host in a"):
                Hierarchy(own_cgroups(), "crowded")
        finally:
            other.kill()
    assert _own_path() == before
    assert not [entry for entry in (MOUNT / before.strip("/")).iterdir() if entry.is_dir()]


def test_running_out_of_memory_ends_a_whole_leaf(hierarchy: Hierarchy) -> None:
    hierarchy.group("f")
    leaf = hierarchy.leaf("f", "leaf")
    leaf.configure(Limits(memory=24 * MIB))
    children = []
    ready, tell = os.pipe()
    with leaf.entrance() as entrance:
        for hungry in (False, True):
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    os.write(entrance.writable[0], b"0")
                    os.write(tell, b"r")
                    if hungry:
                        bytearray(os.urandom(MIB) * 96)
                    signal.pause()
                os._exit(9)
            children.append(child)
            assert os.read(ready, 1) == b"r"
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [-signal.SIGKILL, -signal.SIGKILL], "the one that took little goes as well"
    assert leaf.oom_kills() > 0
    os.close(ready)
    os.close(tell)
    _eventually(leaf.remove, "the leaf is empty")


# --- a whole host -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_in_a_cgroup(tmp_path_factory.mktemp("served")) as host:
        yield host


def test_a_host_holds_its_limits_by_version_2_and_says_so(served: Served) -> None:
    assert "memory: cgroup2, cpu: cgroup2, processes: cgroup2" in served.text


def test_a_worker_is_forked_into_a_leaf_of_the_host(served: Served) -> None:
    failed, answer = served.invoke({"say": "good evening"})
    assert not failed, answer
    assert answer["said"] == "good evening"
    path = answer["cgroup"].removeprefix("0::")
    assert re.fullmatch(rf"/{served.cgroup.name}/lamplighter-\d+-\w+/probe-\d+/environment-\d+", path), path
    leaf = MOUNT / path.strip("/")
    # The function's 128 MB, less what its template takes.
    assert 8 * MIB <= int((leaf / "memory.max").read_text()) < 128 * MIB
    assert int((leaf / "pids.max").read_text()) == 1024
    assert (leaf / "cpu.max").read_text().split() == ["1447", "20000"]


def test_a_handler_that_runs_out_of_memory_is_answered_so(served: Served) -> None:
    failed, answer = served.invoke({"take": 64})
    assert failed
    assert answer["errorType"] == "Runtime.OutOfMemory"
    failed, answer = served.invoke({"say": "again"})
    assert not failed, answer


def test_a_host_that_stops_leaves_no_cgroup(served: Served) -> None:
    served.stop()

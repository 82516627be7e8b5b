"""Leaves: what the kernel does to processes in them, what they count, and what is left. Runs on either version."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamplighter.sandbox.cgroups import MIB, PERIOD_US, Leaf, LeafV1, LeafV2, Limits, quota_us
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups, remove_stale, stale
from lamplighter.sandbox.leaf_pool import LeafPool

GROUP = "function"


def _needs(*controllers: str) -> pytest.MarkDecorator:
    found = own_cgroups()
    missing = [one for one in controllers if one not in found and "unified" not in found]
    return pytest.mark.skipif(bool(missing), reason=f"no writable cgroup for {', '.join(missing)}")


@pytest.fixture
def hierarchy(host_name: str) -> Iterator[Hierarchy]:
    made = Hierarchy(own_cgroups(), host_name)
    made.group(GROUP)
    try:
        yield made
    finally:
        assert _eventually(made.remove), f"{made.bases} could not be removed"
    assert not any(os.path.exists(path) for path in made.bases.values())


@pytest.fixture
def leaf(hierarchy: Hierarchy) -> Iterator[Leaf]:
    made = hierarchy.leaf(GROUP, "leaf")
    made.configure(Limits())
    yield made
    made.kill()
    assert _eventually(made.remove)


def _eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


class Inside:
    """A child of ours that enters ``leaf``, says so, and runs ``body``; its exit status is what ``body`` returns."""

    def __init__(self, leaf: Leaf, body: Callable[[], int]) -> None:
        entered, told = os.pipe()
        with leaf.entrance() as entrance:
            self.pid = os.fork()
            if self.pid == 0:
                status = 99
                try:
                    for fd in entrance.writable:
                        os.write(fd, b"0")
                    os.write(told, b"e")
                    status = body()
                finally:
                    os._exit(status)
        os.close(told)
        try:
            assert os.read(entered, 1) == b"e", "the child could not enter the cgroup"
        finally:
            os.close(entered)

    def end(self) -> int:
        """Wait for it: its exit status, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextlib.contextmanager
def _staying(leaf: Leaf, before: Callable[[], object] = lambda: None) -> Iterator[Inside]:
    """A child that has done ``before`` and stays inside until the end of the block."""
    ready, tell = os.pipe()
    hold, release = os.pipe()

    def body() -> int:
        kept = before()
        os.close(release)
        os.write(tell, b"r")
        os.read(hold, 1)
        return 0 if kept is None or kept else 1

    child = Inside(leaf, body)
    os.close(hold)
    os.close(tell)
    try:
        assert os.read(ready, 1) == b"r"
        yield child
    finally:
        os.close(ready)
        os.close(release)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, 0)


def _touched(mebibytes: int) -> bytearray:
    memory = bytearray(mebibytes * MIB)
    memory[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * (len(memory) // os.sysconf("SC_PAGE_SIZE"))
    return memory


# --- what the kernel holds --------------------------------------------------------------------------------------------


@_needs("memory")
def test_a_process_that_goes_beyond_its_memory_is_killed_and_counted(leaf: Leaf) -> None:
    leaf.configure(Limits(memory=32 * MIB))
    assert Inside(leaf, lambda: len(_touched(128)) & 1).end() == -signal.SIGKILL
    assert leaf.oom_kills() > 0
    leaf.configure(Limits(memory=32 * MIB))
    assert leaf.oom_kills() == 0


@_needs("memory")
def test_a_process_that_is_killed_within_its_memory_is_not_counted(leaf: Leaf) -> None:
    leaf.configure(Limits(memory=64 * MIB))

    def body() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert Inside(leaf, body).end() == -signal.SIGKILL
    assert leaf.oom_kills() == 0


@_needs("memory")
def test_memory_in_use_and_its_peak_are_those_of_the_processes_inside(leaf: Leaf) -> None:
    leaf.configure(Limits(memory=256 * MIB))
    with _staying(leaf, lambda: _touched(48)):
        # The kernel batches its counting, by up to 64 pages a processor.
        assert 46 * MIB < leaf.resident() < 120 * MIB
        assert leaf.peak() >= leaf.resident()
    assert _eventually(lambda: leaf.resident() < 8 * MIB)
    assert leaf.peak() > 46 * MIB, "the peak must outlive the process"


@_needs("pids")
def test_no_more_processes_than_the_limit_can_be_started(leaf: Leaf) -> None:
    leaf.configure(Limits(processes=4))

    def body() -> int:
        started = 1
        with contextlib.suppress(BlockingIOError):
            while started < 10:
                if os.fork() == 0:
                    signal.pause()
                started += 1
        return started

    assert Inside(leaf, body).end() == 4
    assert not leaf.empty()


@_needs("cpu")
def test_a_busy_process_is_throttled_until_its_share_is_lifted(leaf: Leaf) -> None:
    leaf.configure(Limits(cpu=0.1))

    def spin() -> int:
        while True:
            pass

    child = Inside(leaf, spin)
    try:
        assert _eventually(lambda: leaf.usage().throttled_s > 0.01)
        leaf.set_cpu(0.0)
        # What was throttled while the limit was lifted ends within a period; then nothing is added any more.
        assert _eventually(lambda: _settled(leaf))
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.end()


def _settled(leaf: Leaf) -> bool:
    before = leaf.usage().throttled_s
    time.sleep(5 * PERIOD_US / 1e6)
    return leaf.usage().throttled_s == before


@_needs("memory", "cpu", "pids")
def test_no_limit_means_none(leaf: Leaf) -> None:
    leaf.configure(Limits(memory=0, cpu=0.0, processes=0))
    if isinstance(leaf, LeafV2):
        read = {name: Path(leaf.path, name).read_text().split()[0] for name in ("memory.max", "pids.max", "cpu.max")}
        assert read == dict.fromkeys(read, "max")
    else:
        assert isinstance(leaf, LeafV1)
        assert int(Path(leaf.memory, "memory.limit_in_bytes").read_text()) > 1 << 60
        assert Path(leaf.pids, "pids.max").read_text().strip() == "max"
        assert Path(leaf.cpu, "cpu.cfs_quota_us").read_text().strip() == "-1"


@pytest.mark.parametrize(
    ("cpu", "quota"), [(0.0, -1), (1.0, 20_000), (128 / 1769, 1_447), (0.01, 1_000), (5.79, 115_800)]
)
def test_a_share_of_a_processor_becomes_a_quota_the_kernel_takes(cpu: float, quota: int) -> None:
    assert quota_us(cpu) == quota


# --- coming and going -------------------------------------------------------------------------------------------------


@_needs("pids")
def test_a_leaf_goes_only_once_it_is_empty(leaf: Leaf) -> None:
    assert leaf.empty()
    with _staying(leaf):
        assert not leaf.empty()
        assert not leaf.remove()
    assert _eventually(leaf.empty)
    assert leaf.remove()
    assert leaf.remove(), "removing it again does no harm"


@_needs("pids")
def test_killing_a_leaf_ends_all_that_is_inside_and_nothing_else(hierarchy: Hierarchy, leaf: Leaf) -> None:
    other = hierarchy.leaf(GROUP, "other")
    with _staying(leaf) as first, _staying(leaf) as second, _staying(other) as third:
        leaf.kill()
        assert (first.end(), second.end()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert os.waitpid(third.pid, os.WNOHANG) == (0, 0)
    assert _eventually(other.remove)


@_needs("pids")
def test_what_is_opened_for_a_launch_is_closed_after_it(leaf: Leaf) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    leaf.open_entrance()
    leaf.open_entrance()
    with leaf.entrance() as entrance:
        assert entrance.writable
        assert (entrance.directory >= 0) == isinstance(leaf, LeafV2)
        assert not any(os.get_inheritable(fd) for fd in entrance.writable)
    assert sorted(os.listdir("/proc/self/fd")) == before


@_needs("pids")
def test_an_entrance_that_cannot_be_opened_leaves_no_descriptor(hierarchy: Hierarchy) -> None:
    made = hierarchy.leaf(GROUP, "gone")
    if isinstance(made, LeafV1):
        assert made.remove()
        made.memory = ""  # so that another is opened before the one that fails
        made.cpu, made.pids = next(iter(hierarchy.bases.values())), "/nowhere"
    else:
        assert made.remove()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file"), made.entrance():
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_leaf_of_a_host_without_cgroups_says_that_it_limits_nothing() -> None:
    hierarchy = Hierarchy({}, "none")
    hierarchy.group(GROUP)
    leaf = hierarchy.leaf(GROUP, "leaf")
    assert hierarchy.enforcement == {"memory": "none", "cpu": "none", "processes": "none"}
    assert leaf.enforcement == "none"
    leaf.configure(Limits(memory=MIB))
    with leaf.entrance() as entrance:
        assert entrance == ([], -1)
    assert (leaf.peak(), leaf.resident(), leaf.oom_kills(), leaf.usage()) == (0, 0, 0, (0.0, 0.0))
    assert leaf.empty()
    assert leaf.remove()
    assert hierarchy.remove()


# --- the pool of leaves -----------------------------------------------------------------------------------------------


@_needs("pids")
def test_a_pool_hands_out_leaves_that_it_has_never_handed_out(hierarchy: Hierarchy) -> None:
    pool = LeafPool(hierarchy, GROUP, Limits(processes=7, cpu=0.5), -1)
    assert pool.tend(2)
    assert not pool.tend(2)
    leaves = [pool.take() for _ in range(3)]
    paths = [leaf.path if isinstance(leaf, LeafV2) else getattr(leaf, "pids", "") for leaf in leaves]
    assert len(set(paths)) == 3
    for path in paths:
        assert Path(path, "pids.max").read_text().strip() == "7"
    for leaf in leaves:
        pool.give_back(leaf)
    assert pool.close()
    assert not any(os.path.exists(path) for path in paths)


@_needs("pids")
def test_a_pool_kills_what_stays_in_a_leaf_that_was_given_back(hierarchy: Hierarchy) -> None:
    pool = LeafPool(hierarchy, GROUP, Limits(), -1)
    leaf = pool.take()
    with _staying(leaf) as child:
        pool.give_back(leaf)
        assert pool.tend(0), "a process is inside: the leaf is still there"
        assert child.end() == -signal.SIGKILL
        assert _eventually(lambda: not pool.tend(0))
    assert pool.close()


@_needs("pids")
def test_a_pool_that_is_closed_over_a_living_process_says_so(hierarchy: Hierarchy) -> None:
    pool = LeafPool(hierarchy, GROUP, Limits(), -1)
    leaf = pool.take()
    with _staying(leaf):
        pool.give_back(leaf)
        assert not pool.close(wait_s=0.05)
    assert pool.close()


# --- what dead hosts left ---------------------------------------------------------------------------------------------


@_needs("pids")
def test_the_tree_of_a_dead_host_is_found_and_removed_and_an_occupied_one_is_not(host_name: str) -> None:
    bases = own_cgroups()
    # As a host leaves it: killed, it puts nothing in order.
    dead = Hierarchy(bases, host_name)
    try:
        dead.group(GROUP)
        leaf = dead.leaf(GROUP, "leaf")
        leaf.configure(Limits())
        assert set(stale(bases)[host_name]) == set(dead.bases.values())
        with _staying(leaf):
            assert not remove_stale([f"{path}/{GROUP}" for path in dead.bases.values()], wait_s=0.05)
            assert all(os.path.isdir(path) for path in dead.bases.values())
        leaf.close_entrance()
        assert remove_stale([f"{path}/{GROUP}" for path in dead.bases.values()])
        assert remove_stale(["/nowhere/at/all"]), "somebody else has removed it"
    finally:
        assert _eventually(dead.remove)
    assert host_name not in stale(bases)

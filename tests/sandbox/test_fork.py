"""The fork: where a worker is, what it has and has not, and that its parent is the host."""

from __future__ import annotations

import array
import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lamplighter._sandbox import ffi
from tests.sandbox.conftest import SLOT, Nests, ended

from lamplighter.sandbox import root
from lamplighter.sandbox.cgroups import LeafV2, Limits
from lamplighter.sandbox.fork import populate
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups
from lamplighter.sandbox.nest import FIRST_ID, ID_COUNT

FORK = '''
import json, os, select, sys
from lamplighter.sandbox.fork import fork
from lamplighter.sandbox.native import SandboxFault

PROGRAM = 3


def forked(work, **changed):
    """Fork a worker, which writes what `work` returns, as one line of JSON; in the template, wait for its end."""
    settings = dict(isolated=True, pid=0, program=PROGRAM, tmp_bytes=2 << 20, tmp_inodes=64,
                    placement=[], cgroup2=-1)
    settings.update(changed)
    sys.stdout.flush()
    found = fork(**settings)
    if found.pid == 0:
        print(json.dumps({"problem": str(found.problem or ""), "stages": found.stages, "said": work()}), flush=True)
        os._exit(0)
    select.select([found.pidfd], [], [])
    os.close(found.pidfd)
    if found.keeper_pidfd >= 0:
        os.close(found.keeper_pidfd)
    return found


def nothing():
    return None
'''


class _Template:
    """Runs code with :data:`FORK` before it in a nest, as a template would; ``lines`` are what its workers wrote."""

    def __init__(self, nests: Nests) -> None:
        self.nests = nests
        self.nest = nests.create()

    def lines(self, code: str, *extra: int) -> list[dict[str, object]]:
        descriptors = (self.nests.program, *extra)
        said = self.nests.python(self.nest, FORK + code, forks=True, extra=descriptors)
        return [json.loads(line) for line in said.splitlines()]

    def said(self, code: str, *extra: int) -> object:
        (line,) = self.lines(code, *extra)
        assert line["problem"] == ""
        return line["said"]


@pytest.fixture
def template(nests: Nests) -> _Template:
    return _Template(nests)


def test_a_worker_has_the_pid_it_was_to_have_and_sees_only_its_keeper(template: _Template) -> None:
    code = """
def look():
    import threading
    return {"pid": os.getpid(), "parent": os.getppid(), "processes": sorted(filter(str.isdigit, os.listdir("/proc"))),
            "thread": threading.get_native_id(), "keeper": open("/proc/1/cmdline").read()}
forked(look, pid=4242)
forked(look, pid=4242)
"""
    first, second = (line["said"] for line in template.lines(code))
    expected = {
        "pid": 4242,
        "parent": 0,  # outside of its pid namespace: the host
        "processes": ["1", "4242"],
        "thread": 4242,
        "keeper": "lamplighter-keeper\0",
    }
    assert first == second == expected


def test_a_worker_has_a_tmp_of_its_own_and_no_capability(template: _Template) -> None:
    code = """
import ctypes
open("/tmp/of-the-template", "w").close()
def look():
    space = os.statvfs("/tmp")
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    open("/tmp/mine", "w").close()
    return {"tmp": os.listdir("/tmp"), "bytes": space.f_blocks * space.f_frsize, "inodes": space.f_files,
            "capabilities": {status[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16},
            "mount": ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None), "ids": os.getresuid()}
forked(look)
print(json.dumps({"problem": "", "said": os.listdir("/tmp")}))
"""
    worker, after = (line["said"] for line in template.lines(code))
    assert worker == {
        "tmp": ["mine"],
        "bytes": 2 << 20,
        "inodes": 64,
        "capabilities": True,
        "mount": -1,
        "ids": [root.USER] * 3,
    }
    assert after == ["of-the-template"]


def test_a_worker_is_a_sound_python_process(template: _Template) -> None:
    code = """
import gc, random, subprocess, threading
hooks = []
os.register_at_fork(after_in_child=lambda: hooks.append(os.getpid()))
before = random.getstate()
def use():
    thread = threading.Thread(target=hooks.append, args=("thread",))
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        os._exit(7)
    lock = threading.Lock()
    with lock:
        pass
    return {"hooks": hooks == [os.getpid(), "thread"], "main": threading.current_thread() is threading.main_thread(),
            "child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "reseeded": random.getstate() != before,
            "echo": subprocess.run(["/bin/echo", "hello"], capture_output=True, text=True).stdout}
forked(use)
"""
    assert template.said(code) == {"hooks": True, "main": True, "child": 7, "reseeded": True, "echo": "hello\n"}


def test_a_worker_that_was_not_isolated_shares_the_templates_namespaces(template: _Template) -> None:
    code = """
names = ("pid", "mnt", "ipc", "user")
def spaces():
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in names}
mine = spaces()
found = forked(lambda: [name for name in names if spaces()[name] != mine[name]], isolated=False)
assert found.keeper_pidfd == -1
forked(lambda: [name for name in names if spaces()[name] != mine[name]], isolated=True)
assert spaces() == mine
"""
    shared, isolated = (line["said"] for line in template.lines(code))
    assert shared == []
    assert isolated == ["pid", "mnt", "ipc"]


def test_the_worker_is_the_hosts_own_child(template: _Template) -> None:
    code = """
def fail():
    os._exit(9)
forked(fail)
"""
    assert template.lines(code) == []
    _, status = os.waitpid(-1, 0)
    assert os.waitstatus_to_exitcode(status) == 9


def test_every_stage_is_timed(template: _Template) -> None:
    code = """
found = forked(nothing)
print(json.dumps({"problem": "", "stages": found.stages}))
"""
    worker, parent = template.lines(code)
    assert isinstance(worker["stages"], dict)
    assert isinstance(parent["stages"], dict)
    assert worker["stages"].keys() == {"touch", "place", "mount", "filter"}
    assert parent["stages"].keys() == {"nest", "clone"}
    assert worker["stages"]["mount"] > 0
    assert all(took > 0 for took in parent["stages"].values())


def test_a_worker_that_cannot_be_placed_is_told(template: _Template) -> None:
    (line,) = template.lines("forked(nothing, isolated=False, placement=[77])")
    assert line["problem"] == "[Errno 9] cannot enter cgroup 1 of 1: Bad file descriptor"


def test_a_fork_that_fails_leaves_the_template_able_to_fork(template: _Template) -> None:
    code = """
before = sorted(os.listdir("/proc/self/fd"))
problems = []
for changed in ({"program": 1}, {"program": 77}, {"placement": [77]}):
    try:
        fork(**{**dict(isolated=True, pid=0, program=PROGRAM, tmp_bytes=1 << 20, tmp_inodes=64,
                       placement=[], cgroup2=-1), **changed})
    except SandboxFault as fault:
        problems.append(str(fault))
print(json.dumps({"problem": "", "said": problems}))
assert sorted(os.listdir("/proc/self/fd")) == before
forked(os.getpid, pid=300)
"""
    problems, worker = (line["said"] for line in template.lines(code))
    assert problems == [
        "[Errno 13] cannot execute the worker's keeper: Permission denied",
        "[Errno 9] cannot execute the worker's keeper: Bad file descriptor",
        "[Errno 9] cannot enter cgroup 1 of 1: Bad file descriptor",
    ]
    assert worker == 300


def test_a_worker_whose_mounts_are_refused_is_told(template: _Template) -> None:
    (line,) = template.lines("forked(nothing, tmp_bytes=0, tmp_inodes=2**64 - 1)")
    assert str(line["problem"]).startswith(
        "[Errno 22] cannot mount the worker's /tmp (mode=1777,size=0,nr_inodes=1844674"
    )


def test_a_process_without_the_capability_cannot_fork_an_isolated_worker(nests: Nests) -> None:
    code = """
try:
    fork(isolated=True, pid=0, program=PROGRAM, tmp_bytes=1 << 20, tmp_inodes=64, placement=[],
         cgroup2=-1)
except SandboxFault as fault:
    print(fault)
"""
    said = nests.python(nests.create(), FORK + code, forks=False, extra=(nests.program,))
    assert said.strip() == "[Errno 1] cannot clone into a new pid namespace: Operation not permitted"


def test_a_worker_is_in_the_leaf_it_was_given(
    nests: Nests, host_name: str, eventually: Callable[[Callable[[], object], str], None]
) -> None:
    bases = own_cgroups()
    if not bases:
        pytest.skip("no writable cgroup")
    hierarchy = Hierarchy(bases, host_name)
    owner = FIRST_ID + SLOT * ID_COUNT + root.USER
    hierarchy.group("g", owner)
    leaf = hierarchy.leaf("g", "leaf", owner)
    leaf.configure(Limits())
    code = """
directory, placement = (4, [5]) if VERSION == 2 else (-1, list(range(4, 4 + COUNT)))
settings = dict(isolated=True, pid=0, program=PROGRAM, tmp_bytes=1 << 20, tmp_inodes=64)
found = fork(**settings, placement=placement, cgroup2=directory)
if found.pid == 0:
    os.write(1, f"{found.problem or 'placed'}\\n".encode())
    import signal
    signal.pause()
os.close(found.pidfd)
os._exit(0)
"""
    with leaf.entrance() as entrance:
        directory = [entrance.directory] if entrance.directory >= 0 else []
        given = [*directory, *entrance.writable]
        head = f"VERSION, COUNT = {hierarchy.version}, {len(entrance.writable)}\n"
        nest = nests.create()
        argv = root.python_command(FORK + head + code)
        extra = (nests.program, *given)
        out, process = nests.start(nest, argv, forks=True, extra=extra, HOME="/tmp")
    assert os.read(out, 10000) == b"placed\n"
    assert repr(ended(process)) == "Exit(status=0)"
    paths = [leaf.path] if isinstance(leaf, LeafV2) else [f"{path}/g/leaf" for path in hierarchy.bases.values()]
    for path in paths:
        inside = Path(path, "cgroup.procs").read_text().split()
        assert len(inside) == 2, "the worker and its keeper; the template is not"
    nest.end()
    os.close(out)
    eventually(leaf.remove, "the leaf is empty")
    assert hierarchy.remove()


# --- pages ------------------------------------------------------------------------------------------------------------

PAGE = os.sysconf("SC_PAGE_SIZE")


def _ranges(*pairs: tuple[int, int]) -> bytes:
    return array.array("Q", [number for pair in pairs for number in pair]).tobytes()


def _address(memory: mmap.mmap) -> int:
    return int(ffi.cast("uintptr_t", ffi.from_buffer(memory)))


def _resident(address: int, pages: int) -> int:
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entries = array.array("Q", os.pread(pagemap.fileno(), 8 * pages, address // PAGE * 8))
    return sum(entry >> 63 for entry in entries)


def test_pages_that_are_populated_are_there_before_they_are_written_to() -> None:
    with mmap.mmap(-1, 16 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        address = _address(memory)
        assert _resident(address, 16) == 0
        assert populate(_ranges((address // PAGE + 2, 3), (address // PAGE + 10, 1))) == 2
        assert _resident(address, 16) == 4
        assert memory[:] == bytes(16 * PAGE)


def test_pages_that_are_not_there_or_not_writable_are_passed_over() -> None:
    with mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ) as memory:
        kept = ffi.from_buffer(memory)
        read_only = int(ffi.cast("uintptr_t", kept)) // PAGE
        assert populate(_ranges((read_only, 4), (1 << 60, 1), (0, 1))) == 0
        del kept
    assert populate(b"") == 0
    assert populate(b"\0" * 15) == 0, "half a range is none"

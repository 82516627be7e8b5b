"""Nests: who code inside is, what it sees, and that all of it ends."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sandbox.conftest import SLOT, Nests, ended

from lamplighter.sandbox import root
from lamplighter.sandbox.cgroups import Leaf, LeafV2, Limits
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups
from lamplighter.sandbox.native import SandboxFault
from lamplighter.sandbox.nest import FILES_LIMIT, FIRST_ID, ID_COUNT, Nest

FACTS = """
import json, os, resource, sys
status = {name: value.strip() for name, _, value in (line.partition(":") for line in open("/proc/self/status"))}
print(json.dumps({
    "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "pids": sorted(os.listdir("/proc"))[:9],
    "effective": status["CapEff"], "bounding": status["CapBnd"], "ambient": status["CapAmb"],
    "files": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
    "session": os.getsid(0) == os.getpid(), "cwd": os.getcwd(), "environment": dict(os.environ),
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
}))
"""


def test_a_program_inside_is_nobody_of_the_host_and_has_nothing_it_was_not_given(nests: Nests) -> None:
    nest = nests.create()
    facts = json.loads(nests.python(nest, FACTS, directory="/var/task"))
    assert facts["ids"] == [root.USER] * 6
    assert facts["groups"] == []
    assert (facts["effective"], facts["bounding"], facts["ambient"]) == ("0" * 16, "0" * 16, "0" * 16)
    assert facts["files"] == [FILES_LIMIT, FILES_LIMIT]
    assert facts["core"] == [0, 0]
    assert facts["session"]
    assert facts["cwd"] == "/var/task"
    assert facts["environment"].keys() <= {"HOME", "LC_CTYPE"}
    assert facts["descriptors"] == [0, 1, 2]


def test_a_template_keeps_the_one_capability_that_its_forks_take(nests: Nests) -> None:
    facts = json.loads(nests.python(nests.create(), FACTS, forks=True))
    sys_admin = f"{1 << 21:016x}"
    assert (facts["effective"], facts["bounding"], facts["ambient"]) == (sys_admin, sys_admin, sys_admin)


def test_the_host_sees_a_program_inside_under_the_nests_own_ids(nests: Nests) -> None:
    nest = nests.create()
    out, process = nests.start(nest, ["/bin/sleep", "1000"])
    status = Path(f"/proc/{process.pid}/status").read_text()
    uid = FIRST_ID + SLOT * ID_COUNT + root.USER
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status
    process.kill()
    ended(process)
    os.close(out)


def test_a_nest_makes_no_user_namespace(nests: Nests) -> None:
    code = "import ctypes; lib = ctypes.CDLL(None, use_errno=True); print(lib.unshare(0x10000000), ctypes.get_errno())"
    assert nests.python(nests.create(), code).split() == ["-1", str(errno.ENOSPC)]


def test_code_is_read_only_at_var_task_whoever_owns_it(nests: Nests) -> None:
    nests.code.chmod(0o700)
    (nests.code / "app.py").write_text("here")
    (nests.code / "app.py").chmod(0o600)
    code = """
import errno
print(open("/var/task/app.py").read())
try:
    open("/var/task/app.py", "w")
except OSError as fault:
    print(errno.errorcode[fault.errno])
"""
    assert nests.python(nests.create(), code).split() == ["here", "EROFS"]


def test_layers_lie_over_one_another(nests: Nests, tmp_path: Path) -> None:
    layers = []
    for number in (1, 2):
        layer = tmp_path / f"layer,{number}"
        layer.mkdir()
        (layer / "both").write_text(f"of {number}\n")
        (layer / f"only-{number}").write_text("")
        layers.append(str(layer))
    show = "import os; print(open('/opt/both').read().strip(), *sorted(os.listdir('/opt')))"
    try:
        nest = nests.create(layers)
    except SandboxFault as fault:
        if fault.errno == errno.ENODEV:
            pytest.skip("this kernel has no overlayfs")
        raise
    assert nests.python(nest, show).strip() == "of 2 both only-1 only-2"
    assert nests.python(nests.create(layers[:1]), show).strip() == "of 1 both only-1"


def test_tmp_is_as_large_as_it_was_made(nests: Nests) -> None:
    code = "import os; s = os.statvfs('/tmp'); print(s.f_blocks * s.f_frsize, s.f_files, oct(os.stat('/tmp').st_mode))"
    assert nests.python(nests.create(tmp_bytes=3 << 20), code).split() == [str(3 << 20), "1024", "0o41777"]


def test_what_one_nest_writes_another_does_not_see(nests: Nests) -> None:
    first, second = nests.create(), nests.create()
    nests.python(first, "open('/tmp/left', 'w')")
    assert nests.python(first, "import os; print(os.listdir('/tmp'))").strip() == "['left']"
    assert nests.python(second, "import os; print(os.listdir('/tmp'))").strip() == "[]"


def test_ending_a_nest_ends_all_that_is_in_it(nests: Nests) -> None:
    nest = nests.create()
    daemon = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.write(1, b"!")
time.sleep(1000)
"""
    out, process = nests.start(nest, root.python_command(daemon), HOME="/tmp")
    assert os.read(out, 1) == b"!"
    nest.end()
    assert os.read(out, 1) == b"", "somebody still holds the pipe"
    assert repr(ended(process)) == "Exit(signal=9)"
    os.close(out)
    assert not nest.isolated
    nest.end()


def test_a_nest_whose_children_are_not_reaped_says_that_it_does_not_go(nests: Nests) -> None:
    nest = nests.create()
    out, process = nests.start(nest, ["/bin/sleep", "1000"])
    with pytest.raises(SandboxFault, match="cannot end a nest: its keeper does not go"):
        nest.end({process.pid}, wait_s=0.05)
    assert ended(process).signal == 9
    nest.end()
    os.close(out)


def test_all_inside_ends_when_the_host_does(nests: Nests) -> None:
    nest = nests.create()
    out, process = nests.start(nest, ["/bin/sleep", "1000"])
    os.close(nests.lifeline_end)
    assert ended(process).signal == 9
    os.close(out)


def test_a_program_is_placed_in_its_leaf(
    nests: Nests, host_name: str, eventually: Callable[[Callable[[], object], str], None]
) -> None:
    bases = own_cgroups()
    if not bases:
        pytest.skip("no writable cgroup")
    hierarchy = Hierarchy(bases, host_name)
    hierarchy.group("g")
    leaf = hierarchy.leaf("g", "leaf", FIRST_ID + SLOT * ID_COUNT + root.USER)
    leaf.configure(Limits())
    out, process = nests.start(nests.create(), ["/bin/sleep", "1000"], leaf=leaf)
    paths = [leaf.path] if isinstance(leaf, LeafV2) else [f"{path}/g/leaf" for path in hierarchy.bases.values()]
    for path in paths:
        assert Path(path, "cgroup.procs").read_text().split() == [str(process.pid)]
    process.kill()
    ended(process)
    os.close(out)
    eventually(leaf.remove, "the leaf is empty")
    assert hierarchy.remove()


def test_a_program_that_cannot_be_started_says_why_and_leaves_nothing(nests: Nests) -> None:
    nest = nests.create()
    with pytest.raises(SandboxFault, match="cannot execute /no/such/program: No such file or directory"):
        nests.start(nest, ["/no/such/program"])
    with pytest.raises(SandboxFault, match="cannot enter /no/such/place: No such file or directory"):
        nests.start(nest, ["/bin/true"], directory="/no/such/place")
    with pytest.raises(SandboxFault, match="cannot pass 43 descriptors: Argument list too long"):
        nests.start(nest, ["/bin/true"], extra=[nests.program] * 40)


def test_a_nest_that_cannot_be_built_says_why_and_leaves_nothing(nests: Nests) -> None:
    with pytest.raises(SandboxFault, match="cannot find the function's code /no/such/code: No such file or directory"):
        nests.create(code="/no/such/code")
    with pytest.raises(SandboxFault, match="cannot mount the sandbox's root on /no/such/place"):
        nests.create(staging="/no/such/place")
    with pytest.raises(SandboxFault, match="cannot execute the keeper: Permission denied"):
        nests.create(program=nests.lifeline)


def test_a_probe_finds_no_obstacle_or_names_it(nests: Nests, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"slot": SLOT, "program": nests.program, "lifeline": nests.lifeline}
    assert Nest.obstacle(staging=str(nests.staging), **settings) == ""
    assert "cannot mount the sandbox's root on /no/such/place" in Nest.obstacle(staging="/no/such/place", **settings)
    monkeypatch.setattr(sys, "base_prefix", "/tmp/python")
    assert "installed at /tmp/python" in Nest.obstacle(staging=str(nests.staging), **settings)


def test_a_host_that_cannot_isolate_has_a_nest_that_says_so_and_runs_programs() -> None:
    nest = Nest.without(-1)
    assert not nest.isolated
    out, theirs = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    process = nest.spawn(
        ["/bin/sh", "-c", "id -u; echo $X"], {"X": "y"}, "/", [null, theirs, theirs], Leaf(), forks=True
    )
    os.close(theirs)
    os.close(null)
    with open(out) as file:
        assert file.read().split() == [str(os.geteuid()), "y"]
    assert repr(ended(process)) == "Exit(status=0)"
    nest.end()

"""The plan of a nest's root: what of the host is in it, and where."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from lamplighter._sandbox import lib

from lamplighter.sandbox import root
from lamplighter.sandbox.root import Step


def _by_target(steps: list[Step]) -> dict[str, Step]:
    targets = [step.target for step in steps]
    assert len(set(targets)) == len(targets), "a target is made once"
    return {step.target: step for step in steps}


def _inside(path: str, steps: list[Step]) -> bool:
    """Whether a bind shows the file at its own path."""
    path = os.path.abspath(path)
    return any(
        step.kind in (lib.LL_BIND, lib.LL_LINK, lib.LL_CODE)
        and (path == step.target or path.startswith(step.target + "/"))
        for step in steps
    )


def test_the_interpreter_and_what_is_installed_for_it_are_inside_at_their_own_paths(tmp_path: Path) -> None:
    steps = root.steps(str(tmp_path), (), tmp_bytes=1 << 20)
    import lamplighter
    from lamplighter import _sandbox

    for path in (sys.executable, os.path.realpath(sys.executable), os.__file__, pytest.__file__):
        assert _inside(root.inside(path), steps), path
    for module in (lamplighter, _sandbox):
        assert module.__file__ is not None
        assert _inside(root.inside(module.__file__), steps)


def test_the_code_is_at_var_task_and_only_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (tmp_path / "link").symlink_to(code)
    monkeypatch.setattr(sys, "path", [*sys.path, str(code)])
    steps = root.steps(str(tmp_path / "link"), (), tmp_bytes=1 << 20)
    assert _by_target(steps)["/var/task"] == Step(lib.LL_CODE, str(code), "/var/task")
    assert not _inside(str(code), steps)


def test_the_directory_that_the_operator_is_in_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    monkeypatch.setattr(sys, "path", [str(current), *sys.path])
    assert not _inside(str(current), root.steps(str(tmp_path / "code"), (), tmp_bytes=1 << 20))


def test_nothing_of_the_host_is_shown_that_is_not_needed(tmp_path: Path) -> None:
    targets = _by_target(root.steps(str(tmp_path), (), tmp_bytes=1 << 20))
    for private in ("/", "/etc", "/etc/shadow", "/run", "/home", "/root", "/var", "/sys", "/dev", "/proc", "/srv"):
        assert private not in targets
    assert targets["/etc/passwd"].kind == lib.LL_FILE
    assert {step.kind for target, step in targets.items() if target.startswith("/etc/")} == {lib.LL_FILE, lib.LL_BIND}
    devices = {target for target, step in targets.items() if step.kind == lib.LL_DEVICE}
    assert devices == {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}


def test_no_bind_lies_within_another(tmp_path: Path) -> None:
    steps = root.steps(str(tmp_path), (), tmp_bytes=1 << 20)
    binds = [step.target for step in steps if step.kind in (lib.LL_BIND, lib.LL_CODE)]
    within = [(inner, outer) for inner in binds for outer in binds if inner.startswith(outer + "/")]
    assert within == []


def test_a_system_directory_that_is_a_link_stays_one(tmp_path: Path) -> None:
    targets = _by_target(root.steps(str(tmp_path), (), tmp_bytes=1 << 20))
    for path in ("/bin", "/lib", "/sbin", "/lib64"):
        if os.path.islink(path):
            assert targets[path] == Step(lib.LL_LINK, os.readlink(path), path)
        elif os.path.isdir(path):
            assert targets[path] == Step(lib.LL_BIND, path, path)
    assert targets["/usr"] == Step(lib.LL_BIND, "/usr", "/usr")


def test_layers_are_at_opt_with_the_last_on_top(tmp_path: Path) -> None:
    names = ["plain", "with:colon", "with,comma", "with\\backslash"]
    for name in names:
        (tmp_path / name).mkdir()

    def opt(*layers: str) -> Step:
        paths = [str(tmp_path / layer) for layer in layers]
        return _by_target(root.steps(str(tmp_path), paths, tmp_bytes=1 << 20))["/opt"]

    assert opt() == Step(lib.LL_DIRECTORY, "", "/opt")
    assert opt("plain") == Step(lib.LL_CODE, str(tmp_path / "plain"), "/opt")
    escaped = [
        f"{tmp_path}/with\\\\backslash",
        f"{tmp_path}/with\\,comma",
        f"{tmp_path}/with\\:colon",
        f"{tmp_path}/plain",
    ]
    assert opt(*names) == Step(lib.LL_OVERLAY, "lowerdir=" + ":".join(escaped), "/opt")


@pytest.mark.parametrize(("mebibytes", "inodes"), [(1, 1_024), (16, 1_024), (512, 32_768), (10_240, 655_360)], ids=str)
def test_tmp_has_its_size_and_an_inode_for_each_16_kib(mebibytes: int, inodes: int, tmp_path: Path) -> None:
    size = mebibytes << 20
    assert root.inodes(size) == inodes
    step = _by_target(root.steps(str(tmp_path), (), tmp_bytes=size))["/tmp"]
    assert step == Step(lib.LL_TMPFS, f"mode=1777,size={size},nr_inodes={inodes}", "/tmp")


def test_what_lies_under_the_hosts_tmp_is_shown_where_the_sandboxs_own_does_not_cover_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if not str(source).startswith("/tmp/"):
        pytest.skip("the tests' own directory is not under /tmp")
    monkeypatch.setattr(sys, "path", [*sys.path, str(source)])
    moved = root.inside(str(source))
    assert not moved.startswith("/tmp/")
    assert _by_target(root.steps(str(tmp_path / "code"), (), tmp_bytes=1 << 20))[moved].source == str(source)
    assert moved in root.moved_sources()
    assert root.inside("/usr/lib/python3") == "/usr/lib/python3"


def test_a_python_that_is_installed_under_tmp_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    assert root.obstacle() == ""
    monkeypatch.setattr(sys, "base_prefix", "/tmp/python")
    assert root.obstacle().startswith(
        "Python itself is installed at /tmp/python, and each sandbox has a /tmp of its own"
    )

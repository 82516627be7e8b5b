"""The survey: one row a limit, found by trying on this very machine, and the same for all who ask."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lamplighter.cli import main
from lamplighter.function.limits import ENFORCED
from lamplighter.host.ground import Ground
from lamplighter.sandbox import survey
from lamplighter.sandbox.cgroups import Leaf, Limits
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups
from lamplighter.sandbox.survey import Enforcement, Survey

MECHANISMS = {
    "cgroup2",
    "cgroup1",
    "namespace",
    "project-quota",
    "loop",
    "tmpfs",
    "rlimit",
    "pidfd",
    "setuid",
    "seccomp",
    "landlock",
    "watchdog",
    "none",
}


@pytest.fixture
def ground() -> Iterator[Ground]:
    made = Ground()
    yield made
    assert made.close()


def test_each_limit_has_a_row_in_the_order_in_which_it_is_told(ground: Ground) -> None:
    assert tuple(row.limit for row in ground.survey.rows) == survey.LIMITS == ENFORCED
    assert {row.held_by for row in ground.survey.rows} <= MECHANISMS


def test_what_is_not_held_says_why(ground: Ground) -> None:
    assert [row for row in ground.survey.rows if not row.exact and not row.why_not_better] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="this process is not root")
def test_root_with_cgroups_holds_what_it_can_by_them_and_by_namespaces(ground: Ground) -> None:
    if not own_cgroups():
        pytest.skip("this process may make no cgroup")
    held = ground.survey.held
    assert ground.nests == "root"
    version = f"cgroup{ground.hierarchy.version}"
    assert {limit: held[limit] for limit in ("memory", "cpu", "processes")} == dict.fromkeys(
        ("memory", "cpu", "processes"), version
    )
    assert {held[limit] for limit in ("pid", "mount", "ipc", "uid")} == {"namespace"}
    assert (held["files"], held["timeout"]) == ("rlimit", "pidfd")


def test_trying_leaves_nothing(ground: Ground) -> None:
    for path in ground.hierarchy.bases.values():
        assert [entry for entry in Path(path).iterdir() if entry.is_dir() and entry.name != "host"] == []
    workspace = ground.workspace.path
    assert sorted(path.name for path in workspace.iterdir()) == ["lock", "staging"]
    assert list((workspace / "staging").iterdir()) == []


def test_a_cgroup_that_takes_no_limit_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ground.hierarchy.version:
        pytest.skip("this process may make no cgroup")

    class Refusing(Leaf):
        def configure(self, limits: Limits) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(Hierarchy, "leaf", lambda *_: Refusing())
    tried = survey.Ground(ground.hierarchy, "", ground.nests, "", "")
    rows = {row.limit: row for row in Survey(tried).rows}
    assert rows["memory"] == Enforcement(
        "memory", "watchdog", "a cgroup takes no limit: [Errno 22] Invalid argument", rows["memory"].remedy
    )
    assert rows["cpu"].held_by == "none"


def test_without_nests_what_they_hold_is_watched_or_not_held(ground: Ground) -> None:
    tried = survey.Ground(Hierarchy({}, "unused"), "", "none", "cannot clone", ground.workspace.staging())
    found = Survey(tried)
    assert found.watched() == {"memory", "processes", "timeout", "tmp"}
    assert [row.limit for row in found.lacking(("files", "tmp", "mount"))] == ["tmp", "mount"]
    assert "cannot clone" in {row.limit: row for row in found.rows}["mount"].why_not_better


def test_the_doctor_prints_what_a_host_would_serve_by(ground: Ground) -> None:
    done = CliRunner().invoke(main, ["doctor", "--json"])
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["limits"] == [row._asdict() for row in ground.survey.rows]
    assert (said["nests"], said["lacking"]) == (ground.nests, [])
    table = CliRunner().invoke(main, ["doctor"]).stdout
    for row in ground.survey.rows:
        assert f"{row.limit:<10} {row.held_by}\n" in table


def test_the_doctor_refuses_a_limit_that_there_is_not() -> None:
    done = CliRunner().invoke(main, ["doctor", "--require", "memory,patience"])
    assert done.exit_code == 2
    assert "'patience' is no limit; allowed: memory, cpu, processes" in done.stderr

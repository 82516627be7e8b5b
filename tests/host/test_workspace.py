"""Hosts that share a machine: what a dead one left is removed, a living one's is left alone, also while both change."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lamplighter.host.workspace import Workspace, remove_leftovers


def test_a_living_hosts_directory_is_left_alone_and_a_dead_ones_is_removed(tmp_path: Path) -> None:
    base = tmp_path / "run"
    living, dead = Workspace(base), Workspace(base)
    os.close(dead._lock)  # as the kernel does when its process ends
    (line,) = remove_leftovers(base, {})
    assert dead.name in line
    assert not dead.path.exists()
    assert living.path.is_dir()
    living.close()


def test_two_hosts_never_hold_the_same_uid_range(tmp_path: Path) -> None:
    hosts = [Workspace(tmp_path / "run") for _ in range(2)]
    slots = [host.claim_slot() for host in hosts for _ in range(50)]
    assert len(set(slots)) == 100
    for host in hosts:
        host.close()


def test_a_host_may_start_while_others_start_and_stop(tmp_path: Path) -> None:
    base = tmp_path / "run"
    faults: list[BaseException] = []
    done = threading.Event()

    def come_and_go() -> None:
        try:
            for _ in range(300):
                workspace = Workspace(base)
                assert (workspace.path / "lock").exists()
                workspace.close()
        except BaseException as fault:
            faults.append(fault)

    def sweep() -> None:
        try:
            while not done.is_set():
                remove_leftovers(base, {})
        except BaseException as fault:
            faults.append(fault)

    Workspace(base).close()
    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    comers = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in comers:
        thread.start()
    for thread in comers:
        thread.join()
    done.set()
    sweeper.join()
    assert faults == []


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "run"
    base.mkdir(mode=0o777)
    base.chmod(0o777)
    with pytest.raises(OSError, match="must be a directory of uid"):
        Workspace(base)

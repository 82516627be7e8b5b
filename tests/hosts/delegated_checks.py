"""The third kind of host: an ordinary user with a subtree of cgroup version 2 that was delegated to them.

Run by ``test_cgroup2_in_uml``, as ``cgroup2_checks`` is: limits are held by that subtree, isolation by user namespaces.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator

import pytest
from tests.hosts.as_host import CONTAINER, owned
from tests.hosts.container import USER
from tests.hosts.served_in_a_cgroup import MOUNT, Served, served_in_a_cgroup

MIB = 1_048_576


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("delegated")
    python = (sys.executable, "-P", str(CONTAINER), "user", sys.executable)
    with served_in_a_cgroup(directory, python, USER, **owned(directory)) as host:
        yield host


def test_a_users_host_holds_its_limits_by_what_was_delegated_and_isolates_without_root(served: Served) -> None:
    assert os.stat(f"/proc/{served.process.pid}").st_uid == USER
    assert "memory: cgroup2, cpu: cgroup2, processes: cgroup2, files: rlimit, timeout: pidfd" in served.text
    assert "pid: namespace, mount: namespace, ipc: namespace" in served.text
    assert "uid: none" in served.text


def test_a_users_worker_is_in_a_leaf_with_its_limits(served: Served) -> None:
    failed, answer = served.invoke({"say": "good evening"})
    assert not failed, answer
    path = answer["cgroup"].removeprefix("0::")
    assert re.fullmatch(rf"/{served.cgroup.name}/lamplighter-\d+-\w+/probe-\d+/environment-\d+", path), path
    leaf = MOUNT / path.strip("/")
    assert 8 * MIB <= int((leaf / "memory.max").read_text()) < 128 * MIB
    assert int((leaf / "pids.max").read_text()) == 1024
    assert (leaf / "cpu.max").read_text().split()[0] != "max"
    assert len((leaf / "cgroup.procs").read_text().split()) == 2, "the worker and its keeper"


def test_a_users_handler_that_runs_out_of_memory_is_answered_so(served: Served) -> None:
    failed, answer = served.invoke({"take": 64})
    assert failed
    assert answer["errorType"] == "Runtime.OutOfMemory"
    failed, answer = served.invoke({"say": "again"})
    assert not failed, answer


REACHES = """
import os
found = [where for where in ("/sys/fs/cgroup", "/proc/1/root/sys/fs/cgroup") if os.path.isdir(where)]
for name in os.listdir("/proc/self/fd"):
    for up in ("..", "../..", "memory.max"):
        if os.path.exists(f"/proc/self/fd/{name}/{up}"):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
result = {"found": found, "capabilities": status["CapEff"].strip(), "ids": os.getresuid()}
"""


def test_a_users_worker_reaches_no_limit_of_its_own_and_has_no_capability(served: Served) -> None:
    failed, answer = served.invoke({"run": REACHES})
    assert not failed, answer
    assert answer == {"found": [], "capabilities": "0" * 16, "ids": [993] * 3}, json.dumps(answer)


def test_a_users_host_that_stops_leaves_no_cgroup(served: Served) -> None:
    served.stop()

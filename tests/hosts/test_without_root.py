"""An ordinary user who may make user namespaces: functions are isolated without root, in nests of that user's own.

Without a cgroup that is delegated to the user, as here, limits are watched; ``delegated_checks`` has the other case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.host.serving import COMMAND, RUNS, Serving, serving, serving_many
from tests.host.test_isolation import ATTEMPTS
from tests.hosts.as_host import CONTAINER, command, doctor, gone, needs_root, owned, running
from tests.hosts.container import USER

MIB = 1_048_576


def _namespaces() -> str:
    """Why an ordinary user can make no user namespace here; empty if one can."""
    if os.geteuid() != 0:
        return ""  # another reason comes first
    tried = subprocess.run(
        [sys.executable, str(CONTAINER), "user", "unshare", "-Urm", "true"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return "" if tried.returncode == 0 else f"an ordinary user can make no user namespace: {tried.stderr.strip()}"


_OBSTACLE = _namespaces()
pytestmark = [needs_root, pytest.mark.skipif(bool(_OBSTACLE), reason=_OBSTACLE)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("user")
    (directory / "of-the-host").write_text("nobody inside reads this")
    os.chown(directory / "of-the-host", USER, USER)
    functions = {
        "tries": {"source": ATTEMPTS, "memory_mb": 256},
        "runs": {"source": RUNS, "memory_mb": 256, "timeout_s": 4, "ephemeral_storage_mb": 512},
    }
    variables = owned(directory)
    with serving_many(directory, functions, variables=variables, command=command("user")) as host:
        host.settle("tries")
        host.settle("runs")
        yield host
    base = directory / f"lamplighter-{USER}"
    assert [path.name for path in base.iterdir()] == ["slots"]


@pytest.fixture(scope="module")
def found(host: Serving) -> dict[str, Any]:
    event = {"pid": os.getpid(), "file": str(host.directory / "of-the-host")}
    return dict(host.invoke(event, function="tries").value)


def test_a_survey_says_what_namespaces_hold_and_what_only_root_could() -> None:
    rows = doctor("user")
    for limit in ("pid", "mount", "ipc"):
        assert rows[limit]["held_by"] == "namespace"
    assert rows["timeout"]["held_by"] == "pidfd"
    assert rows["tmp"]["held_by"] == "tmpfs"
    assert rows["uid"]["held_by"] == "none"
    assert rows["uid"]["why_not_better"] == f"functions run as the host's own user, uid {USER}"
    assert rows["uid"]["remedy"] == "run the host as root"


def test_no_attempt_on_the_host_or_on_the_code_succeeds(found: dict[str, Any]) -> None:
    assert len(found["attempts"]) > 20
    assert {name: came for name, came in found["attempts"].items() if came == "done"} == {}


def test_a_worker_has_no_capability_and_cannot_mount(found: dict[str, Any]) -> None:
    assert found["capabilities"] == ["0" * 16] * 4
    assert found["no_new_privs"] == "1"
    assert (found["mount"], found["unmount /tmp"]) == ("EPERM", "EPERM")
    assert found["ids"][:6] == [993] * 6


def test_files_and_processes_of_the_host_are_not_seen(found: dict[str, Any]) -> None:
    for name in ("read /etc/shadow", "list /sys/fs/cgroup", "list /run", "read a file of the host"):
        assert found["attempts"][name] == "ENOENT"
    assert found["pid"] in found["processes"]
    assert len(found["processes"]) <= 3
    assert found["tmp"] == []


def test_a_worker_holds_its_log_its_channel_and_nothing_else(found: dict[str, Any]) -> None:
    kinds = sorted(target.partition(":")[0] for target in found["descriptors"])
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"], found["descriptors"]


def test_to_the_host_everything_is_the_hosts_own_user(host: Serving) -> None:
    inside = host.run("import os; result = os.getpid()", function="runs").value
    status = Path(f"/proc/{host.pids_by_depth(3)[inside]}/status").read_text()
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n" in status


def test_tmp_is_full_at_its_size(host: Serving) -> None:
    code = "import os; s = os.statvfs('/tmp'); result = s.f_blocks * s.f_frsize"
    assert host.run(code, function="runs").value == 512 * MIB


def test_an_environment_beyond_its_memory_is_ended_with_all_that_it_started(host: Serving) -> None:
    code = f"""
import subprocess, sys
take = "import time; x = bytearray({300 * MIB}); time.sleep(15)"
child = subprocess.Popen([sys.executable, "-c", take, "of-the-greedy"], start_new_session=True)
child.wait()
"""
    assert host.run(code, function="runs").verdict == ("error", "Runtime.OutOfMemory")
    gone("of-the-greedy")
    assert host.run("result = 1", function="runs").value == 1


def test_a_late_handler_is_answered_for_and_all_that_it_started_is_gone(host: Serving) -> None:
    code = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "of-the-late"], start_new_session=True)
time.sleep(60)
"""
    assert host.run(code, function="runs").verdict == ("timeout", "Sandbox.Timedout")
    gone("of-the-late")


CLINGS = """
import os, subprocess, sys
from lamplighter.template import safety
safety.lasting_obstacles = lambda *given, **settings: []  # or it would not be forked from, and have less to open
held = []
for place in ("/proc/self/fd", "/proc/1/fd"):  # of init, and of process 1 of its nest
    try:
        names = os.listdir(place)
    except OSError:
        continue
    for name in names:
        try:
            held.append(os.open(f"{place}/{name}", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass


def handler(event, context):
    wait = "import time; time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", wait, "of-the-clinging"], pass_fds=held, start_new_session=True)
    return len(held)
"""


def test_code_that_opens_all_it_finds_for_writing_does_not_outlive_a_host_that_is_killed(tmp_path: Path) -> None:
    """The nest's processes run as the host's own user: what goes by ownership is theirs."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text(CLINGS)
    variables = owned(tmp_path)
    arguments = ["app.handler", "--code", str(code), "--function-name", "probe"]
    host = Serving(arguments, tmp_path, "probe", variables=variables, command=command("user"))
    try:
        host.wait_ready()
        assert host.invoke({}).value > 0  # the log's pipe is its own
        assert host.template()
        assert running("of-the-clinging")
        host.process.kill()
        host.process.wait(10)
        gone("of-the-clinging")
    finally:
        host.kill()


def test_root_of_a_user_namespace_isolates_as_its_user_does(tmp_path: Path) -> None:
    """As in a rootless container: uid 0, which to the machine is an ordinary user, and may map no other ids."""
    variables = owned(tmp_path)
    unshared = (*command("user")[:4], "unshare", "-Urm", "--", *COMMAND)
    with serving(tmp_path, RUNS, variables=variables, command=unshared) as host:
        answer = host.run("import os; result = [os.getuid(), os.path.exists('/sys/fs/cgroup'), os.getppid()]")
        assert answer.value == [993, False, 0]
        enforcement = json.loads(host.request("GET", "/readyz").body)["enforcement"]
        assert (enforcement["mount"], enforcement["uid"]) == ("namespace", "none")

"""The fourth kind of host: a plain container, where nothing can be mounted and no cgroup made. Limits are watched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, serving, wait_for
from tests.hosts.as_host import command, doctor, gone, needs_root, run, shown

MIB = 1_048_576
WATCHED = {"memory", "processes", "timeout", "tmp"}
OPTIONS = ("--allow-unisolated", "--memory", "256", "--timeout", "20", "--report", "full", "--concurrency", "4")

pytestmark = needs_root


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("plain")
    with serving(directory, RUNS, *OPTIONS, variables=shown(directory), command=command("plain")) as host:
        yield host


DAEMON = """
import subprocess, sys
code = "import time; time.sleep(1000)"
starts = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}, {event['mark']!r}])"
subprocess.run([sys.executable, "-c", starts], start_new_session=True, check=True)
"""
"""Starts a process in a session of its own, whose parent has gone."""


def test_a_survey_there_says_what_is_watched_and_what_is_not_held() -> None:
    rows = doctor("plain")
    assert {limit for limit, row in rows.items() if row["held_by"] == "watchdog"} == WATCHED
    assert rows["uid"]["held_by"] == "setuid"
    for limit in ("cpu", "pid", "mount", "ipc"):
        assert rows[limit]["held_by"] == "none"
    assert rows["files"]["held_by"] == "rlimit"
    for limit in ("memory", "cpu", "processes"):
        assert "Read-only file system" in rows[limit]["why_not_better"]
        assert "docker run --privileged" in rows[limit]["remedy"]
    for limit in ("tmp", "timeout", "pid", "mount", "ipc"):
        assert "mount namespace: Operation not permitted" in rows[limit]["why_not_better"]
        assert "CAP_SYS_ADMIN" in rows[limit]["remedy"]


def test_root_does_not_serve_there_unless_it_is_told_to() -> None:
    done = run("plain", "serve", "app.handler", "--code", "/", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "cannot start: functions cannot be isolated here, and root does not run them unisolated" in done.stderr
    assert "cannot clone into a new mount namespace: Operation not permitted" in done.stderr
    assert "--allow-unisolated" in done.stderr


def test_a_host_that_requires_what_is_only_watched_does_not_start_and_names_it() -> None:
    done = run("plain", "serve", "a.b", "--allow-unisolated", "--require", "memory,files", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "memory is required and only watched here (watchdog): the cgroup " in done.stderr
    assert "What would help: docker run --privileged" in done.stderr
    assert "files is required" not in done.stderr
    done = run("plain", "doctor", "--require", "tmp")
    assert (done.returncode, done.stderr) == (1, "lamplighter: required and not held: tmp\n")


def test_it_is_said_at_start_in_readyz_and_in_reports(host: Serving) -> None:
    assert "memory: watchdog, cpu: none, processes: watchdog, files: rlimit, timeout: watchdog" in host.errors.text
    report = host.run("").report
    assert "memory=watchdog,cpu=none,processes=watchdog" in report["Enforcement"]
    assert "tmp=watchdog,pid=none" in report["Enforcement"]


def test_functions_are_nobody_there_and_cannot_touch_the_host(host: Serving) -> None:
    code = """
import errno, os
def tried(attempt):
    try:
        return attempt()
    except OSError as fault:
        return errno.errorcode[fault.errno]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
result = [
    len({*os.getresuid(), *os.getresgid()}), os.getuid() >= 40000, os.getgroups(), status["CapPrm"].strip(),
    status["NoNewPrivs"].strip(), tried(lambda: os.kill(event["host"], 0)), tried(lambda: os.setuid(0)),
    tried(lambda: os.listdir(f"/proc/{event['host']}/fd")), tried(lambda: open("/etc/shadow").read()),
    tried(lambda: os.listdir(os.path.dirname(os.environ["TMPDIR"]))), tried(lambda: open("app.py", "a")),
]
"""
    nobody = [1, True, [], "0" * 16, "1", "EPERM", "EPERM", "EACCES", "EACCES", "EACCES", "EACCES"]
    assert host.run(code, host=host.pid).value == nobody


def test_what_a_function_leaves_in_tmp_itself_counts_and_goes_with_it(tmp_path: Path) -> None:
    code = f"""
import os, tempfile, time
directory = tempfile.mkdtemp(dir="/tmp")
for number in range(2):
    with open(f"{{directory}}/{{number}}", "wb") as file:
        for _ in range(75):
            file.write(bytes({4 * MIB}))
open("/tmp/" + event["name"], "w").close()
time.sleep(50)
"""
    name = f"left-in-tmp-by-{os.getpid()}"
    options = ("--allow-unisolated", "--timeout", "60", "--ephemeral-storage", "512", "--memory", "512")
    with serving(tmp_path, RUNS, *options, variables=shown(tmp_path), command=command("plain")) as host:
        answer = host.run(code, name=name)
        assert answer.verdict == ("error", "Sandbox.Failure")
        assert "its files in /tmp take" in answer.error["errorMessage"]
    assert not os.path.exists(f"/tmp/{name}")


def test_an_environment_beyond_its_memory_is_ended_and_its_caller_told_so(host: Serving) -> None:
    first = host.run("import os; result = os.getpid()").value
    over = host.run(f"kept = bytearray({400 * MIB})\nimport time\ntime.sleep(15)")
    assert over.verdict == ("error", "Runtime.OutOfMemory")
    assert over.error["errorType"] == "Runtime.OutOfMemory"
    assert over.report["Max Memory Used"] == "256 MB"
    assert host.run("import os; result = os.getpid()").value != first


def test_what_a_handler_starts_counts_towards_its_memory(host: Serving) -> None:
    code = f"""
import subprocess, sys
take = "import time; x = bytearray({150 * MIB}); time.sleep(15)"
children = [subprocess.Popen([sys.executable, "-c", take, {"memory-of-children"!r}]) for _ in range(2)]
for child in children:
    child.wait()
"""
    assert host.run(code).verdict == ("error", "Runtime.OutOfMemory")
    gone("memory-of-children")


def test_memory_within_the_limit_is_used_undisturbed(host: Serving) -> None:
    answer = host.run(f"kept = bytearray({150 * MIB})\nimport time\ntime.sleep(0.3)\nresult = len(kept)")
    assert answer.value == 150 * MIB
    assert 150 <= int(answer.report["Max Memory Used"].removesuffix(" MB")) < 256


def test_a_late_handler_is_answered_for_and_all_that_it_started_is_gone(tmp_path: Path) -> None:
    options = ("--allow-unisolated", "--timeout", "2")
    with serving(tmp_path, RUNS, *options, variables=shown(tmp_path), command=command("plain")) as host:
        answer = host.run(DAEMON + "import time; time.sleep(30)", mark="started-by-the-late")
        assert answer.verdict == ("timeout", "Sandbox.Timedout")
        gone("started-by-the-late")
        assert host.run("result = 1").value == 1


def test_what_a_handler_left_behind_ends_with_its_environment(host: Serving) -> None:
    host.run(DAEMON + "import os; os._exit(0)", mark="left-by-the-dead")
    gone("left-by-the-dead")


def test_files_beyond_the_size_of_tmp_end_the_environment(tmp_path: Path) -> None:
    options = ("--allow-unisolated", "--timeout", "60", "--ephemeral-storage", "512", "--memory", "512")
    write = f"""
import tempfile, time
block = bytes({4 * MIB})
files = [tempfile.NamedTemporaryFile(delete=event["kept"]) for _ in range(2)]
for file in files:
    if not event["kept"]:
        import os
        os.unlink(file.name)
    for _ in range(75):
        file.write(block)
    file.flush()
time.sleep(50)
"""
    with serving(tmp_path, RUNS, *options, variables=shown(tmp_path), command=command("plain")) as host:
        for kept in (True, False):
            answer = host.run(write, kept=kept)
            assert answer.verdict == ("error", "Sandbox.Failure")
            assert "its files in /tmp take" in answer.error["errorMessage"]
            assert "allowed: 512 MB" in answer.error["errorMessage"]


def test_one_file_cannot_grow_beyond_the_size_of_tmp(host: Serving) -> None:
    code = f"""
import errno, tempfile
with tempfile.TemporaryFile() as file:
    try:
        file.truncate({513 * MIB})
    except OSError as fault:
        result = errno.errorcode[fault.errno]
"""
    assert host.run(code).value == "EFBIG"


def test_each_environment_has_a_directory_for_its_temporary_files_that_goes_with_it(host: Serving) -> None:
    code = "import os, tempfile; result = [os.getpid(), tempfile.mkdtemp()]; os.environ['TMPDIR']"
    pid, made = host.run(code).value
    assert made.split("/")[-2] == str(pid)
    assert os.path.isdir(made)
    host.run("import os; os._exit(0)")
    wait_for(lambda: not os.path.exists(os.path.dirname(made)), "the directory is gone")


def test_a_fork_bomb_is_ended_and_the_next_invocation_served(host: Serving) -> None:
    bomb = """
import os, signal
while True:
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
"""
    verdict = host.run(bomb).verdict  # whichever it is caught for first: small processes add up
    assert verdict in (("error", "Sandbox.Failure"), ("error", "Runtime.OutOfMemory"))
    assert host.run("result = 'served'").value == "served"
    wait_for(lambda: len(host.tree()) < 20, lambda: f"{len(host.tree())} processes are few", 20)

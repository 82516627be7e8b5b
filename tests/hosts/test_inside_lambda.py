"""The fifth kind of host: inside AWS Lambda, where nothing can be written but /tmp and nobody has a capability."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.host.serving import RUNS, serving
from tests.hosts.as_host import command, doctor, needs_root, owned, run

from lamplighter.sandbox import confine

pytestmark = needs_root


def test_a_survey_there_tells_the_truth() -> None:
    rows = doctor("lambda")
    held = {limit: row["held_by"] for limit, row in rows.items()}
    assert held == {
        **dict.fromkeys(("memory", "processes", "timeout", "tmp"), "watchdog"),
        **dict.fromkeys(("cpu", "pid", "mount", "ipc", "network", "uid"), "none"),
        # These two take no privilege: there is what this machine's kernel has.
        "seccomp": "none" if confine.no_filter() else "seccomp",
        "landlock": "none" if confine.no_landlock() else "landlock",
        "files": "rlimit",
    }
    for limit in ("memory", "cpu", "processes"):
        assert rows[limit]["why_not_better"] == "no cgroup file system is mounted"
    assert "user and mount namespaces: Operation not permitted" in rows["mount"]["why_not_better"]
    assert rows["uid"]["why_not_better"] == "functions run as the host's own user, uid 1000"


def test_nothing_is_left_in_tmp_by_a_survey(tmp_path: Path) -> None:
    assert run("lambda", "doctor", **owned(tmp_path)).returncode == 0
    (base,) = tmp_path.iterdir()
    assert [path.name for path in base.iterdir()] == ["slots"]


def test_a_function_is_served_there_by_an_ordinary_user_and_watched(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--report", "full", variables=owned(tmp_path), command=command("lambda")) as host:
        answer = host.run("import os; result = os.getuid()")
        assert answer.value == 1000
        assert "memory=watchdog,cpu=none" in answer.report["Enforcement"]
        over = host.run("kept = bytearray(300 * 1048576)\nimport time\ntime.sleep(2)")
        assert over.verdict == ("error", "Runtime.OutOfMemory")


@pytest.mark.skipif(bool(confine.no_landlock()), reason=f"no Landlock here: {confine.no_landlock()}")
def test_landlock_keeps_a_function_from_the_files_and_processes_of_whoever_runs_the_host(tmp_path: Path) -> None:
    code = f"""
import errno, os, signal

def tried(attempt):
    try:
        attempt()
    except OSError as fault:
        return errno.errorcode[fault.errno]
    return "done"

host = os.getppid()
found = {{
    "a file of the system's": tried(lambda: open("/etc/shells").read()),
    "a variable of the host's": tried(lambda: open(f"/proc/{{host}}/environ").read()),
    "the home": tried(lambda: os.listdir("/home")),
    "the code": tried(lambda: open(os.path.join(os.environ["LAMBDA_TASK_ROOT"], "app.py"), "a")),
    "tmp": tried(lambda: open("/tmp/lamplighter-test-mine", "w").close() or os.unlink("/tmp/lamplighter-test-mine")),
    "null": tried(lambda: open("/dev/null", "w").write("x")),
    "a library": tried(lambda: __import__("sqlite3").connect(":memory:").execute("select 1")),
}}
if {confine.landlock_version() >= confine.SOCKETS_SINCE}:
    found["a signal to the host"] = tried(lambda: os.kill(host, 0))
result = found
"""
    with serving(tmp_path, RUNS, variables=owned(tmp_path), command=command("lambda")) as host:
        found = host.run(code).value
    allowed = {"tmp", "null", "a library"}
    assert {name: came for name, came in found.items() if (came == "done") != (name in allowed)} == {}

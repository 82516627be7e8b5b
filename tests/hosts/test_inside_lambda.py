"""The fifth kind of host: inside AWS Lambda, where nothing can be written but /tmp and nobody has a capability."""

from __future__ import annotations

from pathlib import Path

from tests.host.serving import RUNS, serving
from tests.hosts.as_host import command, doctor, needs_root, owned, run

pytestmark = needs_root


def test_a_survey_there_tells_the_truth() -> None:
    rows = doctor("lambda")
    held = {limit: row["held_by"] for limit, row in rows.items()}
    assert held == {
        **dict.fromkeys(("memory", "processes", "timeout", "tmp"), "watchdog"),
        **dict.fromkeys(("cpu", "pid", "mount", "ipc", "network", "uid", "seccomp", "landlock"), "none"),
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

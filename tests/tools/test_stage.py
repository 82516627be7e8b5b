"""A stage of .ci/run: it comes to its end in time, with nothing left running, or it fails and says what was."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

STAGE = Path(__file__).resolve().parents[2] / "tools" / "stage.py"


def stage(limit: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as a stage. Its output is read to the end: a process that held it open would be waited for."""
    return subprocess.run(
        [sys.executable, str(STAGE), limit, sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_stage_has_its_commands_output_and_status() -> None:
    done = stage("30", "import sys; print('said'); print(repr(sys.stdin.read())); sys.exit(3)")
    assert (done.returncode, done.stdout) == (3, "said\n''\n")


def test_a_command_that_is_not_done_in_time_is_ended_with_all_it_started_and_named() -> None:
    code = "import subprocess, time; subprocess.Popen(['setsid', 'sleep', '1000.25']); time.sleep(1000)"
    began = time.monotonic()
    done = stage("1.5", code)
    assert done.returncode == 124
    assert time.monotonic() - began < 40
    assert "not done within 1.5 s. Still running:" in done.stderr
    assert "sleep 1000.25" in done.stderr


def test_a_process_that_is_left_running_is_named_ended_and_fails_the_stage() -> None:
    daemon = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(1000)"
    done = stage("30", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {daemon!r}, 'the-daemon'])")
    assert done.returncode == 125
    assert "left running:" in done.stderr
    assert "the-daemon" in done.stderr


def test_one_that_is_about_to_end_is_not_left_running() -> None:
    done = stage("30", "import subprocess; subprocess.Popen(['sleep', '0.3'])")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_killed_by_a_signal_fails_the_stage() -> None:
    assert stage("30", "import os; os.kill(os.getpid(), 9)").returncode == 137

"""Signals and deaths: the host stopped, reloaded and killed; its template killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench.processes import Process
from tests.host.serving import RUNS, Answer, Serving, needs_root, serving, wait_for

HOLD = """
import os, time
while not os.path.exists("/var/task/go"):
    time.sleep(0.002)
result = "finished"
"""
VERSION = "def handler(event, context):\n    return {version}\n"


def running_of(process: Process) -> bool:
    """Whether a process can still run code: one that is being taken down has no memory any more.

    Zombies wait for their parent, and the first process of a namespace waits for its zombies: neither runs anything.
    """
    try:
        with open(f"/proc/{process.pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[19]) == process.started and fields[0] not in "ZX" and int(fields[20]) > 0


def test_sigterm_lets_a_running_invocation_finish_and_answers_it(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--timeout", "10") as host, ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, HOLD)
        wait_for(lambda: host.facts()["busy"] == 1, "the invocation to run")
        idle = http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)
        idle.connect()
        members = host.tree()
        host.process.send_signal(signal.SIGTERM)
        host.errors.wait("stopping")
        assert not running.done()
        with pytest.raises(OSError):
            host.run("result = 'too late'")
        (host.code / "go").touch()
        assert running.result().value == "finished"
        idle.close()
        host.wait_stopped(members)


def test_sigterm_answers_what_waits_and_a_keep_alive_client_is_told_to_come_again(tmp_path: Path) -> None:
    options = ("--timeout", "10", "--concurrency", "1", "--queue", "2")
    with serving(tmp_path, RUNS, *options) as host, ThreadPoolExecutor(2) as pool:
        running = [pool.submit(host.run, HOLD) for _ in range(2)]
        wait_for(lambda: host.facts()["waiting"] == 1, "one to wait")
        members = host.tree()
        host.process.send_signal(signal.SIGTERM)
        host.errors.wait("stopping")
        (host.code / "go").touch()
        answers = [one.result() for one in running]
        assert [answer.status for answer in answers] == [200, 200]
        assert {answer.value for answer in answers} == {"finished"}
        host.wait_stopped(members)


def test_sigterm_bounds_a_running_invocation_by_its_timeout(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--timeout", "1") as host, ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, "import time; time.sleep(60)")
        wait_for(lambda: host.facts()["busy"] == 1, "the invocation to run")
        members = host.tree()
        host.process.send_signal(signal.SIGTERM)
        assert running.result().error["errorType"] == "Sandbox.Timedout"
        host.wait_stopped(members)


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--timeout", "300") as host, ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, "import time; time.sleep(600)")
        wait_for(lambda: host.facts()["busy"] == 1, "the invocation to run")
        members = host.tree()
        host.process.send_signal(signal.SIGTERM)
        host.errors.wait("stopping")
        host.process.send_signal(signal.SIGTERM)
        with pytest.raises((OSError, http.client.HTTPException)):
            running.result()
        host.wait_stopped(members)


def test_sighup_puts_changed_code_into_service_without_a_failed_invocation(tmp_path: Path) -> None:
    with serving(tmp_path, VERSION.format(version=1), "--parked", "1") as host:
        answers: list[Answer] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                answers.append(host.invoke({}))

        loader = threading.Thread(target=load)
        loader.start()
        try:
            wait_for(lambda: len(answers) > 20, "some answers of the old code")
            (host.code / "app.py").write_text(VERSION.format(version=22))
            count = len(answers)
            wait_for(lambda: len(answers) > count + 5, "more answers of the old code")
            host.process.send_signal(signal.SIGHUP)
            wait_for(lambda: answers[-1].body == b"22", "the new code")
            count = len(answers)
            wait_for(lambda: len(answers) > count + 20, "some answers of the new code")
        finally:
            stop.set()
            loader.join()
        versions = [answer.value for answer in answers]
        assert versions == sorted(versions)
        assert set(versions) == {1, 22}
        host.wait_ready()
        assert set(host.pids_by_depth(2)) != set()


def test_sighup_lets_an_invocation_of_the_old_code_finish(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--timeout", "10") as host, ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, HOLD)
        wait_for(lambda: host.facts()["busy"] == 1, "the invocation to run")
        (host.code / "app.py").write_text(VERSION.format(version=2))
        host.process.send_signal(signal.SIGHUP)
        wait_for(lambda: host.invoke({"run": ""}).body == b"2", "the new code")
        (host.code / "go").touch()
        assert running.result().value == "finished"
        wait_for(lambda: len(host.pids_by_depth(2)) == 1, "the old template's end")


def test_sighup_with_broken_code_keeps_the_old_code_in_service(tmp_path: Path) -> None:
    with serving(tmp_path, VERSION.format(version=1)) as host:
        (host.code / "app.py").write_text("import absent_module\n")
        host.process.send_signal(signal.SIGHUP)
        host.errors.wait("no template: init failed: Runtime.ImportModuleError")
        assert [host.invoke({}).value for _ in range(3)] == [1, 1, 1]
        (host.code / "app.py").write_text(VERSION.format(version=3))
        host.process.send_signal(signal.SIGHUP)
        wait_for(lambda: host.invoke({}).value == 3, "the repaired code")


def test_many_sighups_leave_one_template_and_the_last_code(tmp_path: Path) -> None:
    with serving(tmp_path, VERSION.format(version=1)) as host:
        for version in range(2, 8):
            (host.code / "app.py").write_text(VERSION.format(version=version * 1000))
            host.process.send_signal(signal.SIGHUP)
        wait_for(lambda: host.invoke({}).value == 7000, "the last code")
        wait_for(lambda: len(host.pids_by_depth(2)) == 1, "one template")
        host.wait_ready()


@needs_root
def test_a_killed_template_is_rebuilt_while_its_environments_serve_on(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--parked", "2") as host:
        host.settle()
        host.run("kept['mark'] = 1")
        template = host.template()
        os.kill(template, signal.SIGKILL)
        assert host.run("result = kept.get('mark')").value == 1
        host.errors.wait("the template died")
        host.wait_ready()
        assert host.template() != template
        assert host.run("result = kept.get('mark')").value == 1
        host.run("import os; os._exit(0)")
        assert host.run("result = 'another'").value == "another"


@needs_root
def test_an_invocation_that_comes_while_there_is_no_template_waits_for_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--parked", "0", "--timeout", "10") as host:
        for _ in range(3):
            os.kill(host.template(), signal.SIGKILL)
            assert host.run("result = 1").value == 1
            host.run("import os; os._exit(0)")
            host.wait_ready()


@needs_root
def test_a_killed_host_takes_everything_with_it_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    start = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True); result = 1"
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = Serving([*arguments(tmp_path / "first", RUNS), "--parked", "2"], tmp_path / "first", "probe")
    try:
        first.wait_ready()
        assert first.run(start).value == 1
        threading.Thread(target=swallow, args=(first, "import time; time.sleep(60)"), daemon=True).start()
        wait_for(lambda: first.facts()["busy"] == 1, "an invocation that runs")
        members = first.tree()
        assert len(members) >= 8  # the host; a template and two workers at least, with a keeper each; the sleeper
        assert all(running_of(process) for process in members)
        kinds = {line.split()[0] for line in first.left()}
        assert {"directory", "process"} <= kinds
        first.process.kill()
        first.process.wait(10)
        wait_for(lambda: not [one for one in members if running_of(one)], "the end of all its processes", 1.0)
        with serving(tmp_path / "second", RUNS) as second:
            assert second.run("result = 2").value == 2
            assert first.left() == []
    finally:
        first.kill()


def arguments(directory: Path, source: str) -> list[str]:
    (directory / "code").mkdir()
    (directory / "code" / "app.py").write_text(source)
    return ["app.handler", "--code", str(directory / "code"), "--function-name", "probe"]


def swallow(host: Serving, code: str) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        host.run(code)


def test_a_port_that_is_taken_ends_the_start_with_status_1_and_leaves_nothing(tmp_path: Path) -> None:
    import subprocess

    from tests.host.serving import COMMAND

    with serving(tmp_path, RUNS) as host:
        second = subprocess.Popen(
            [*COMMAND, "serve", "app.handler", "--code", str(host.code), "--listen", f"127.0.0.1:{host.port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        _, errors = second.communicate(timeout=30)
        assert second.returncode == 1
        assert b"cannot listen on 127.0.0.1" in errors
        base = Path("/run/lamplighter")
        assert not list(base.glob(f"{second.pid}-*"))
        assert json.loads(host.request("GET", "/healthz").body) == {"status": "ok"}

"""AWS's own emulator for Managed Instances runs the layer: its server, its user, its paths, and workers that die.

The emulator looks for the runtime at fixed paths, so it gets a mount namespace of its own in which ``/var`` and
``/opt`` are what they are on Lambda.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import peers, processes

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
WORKERS = 4
PLACES = """
set -e
mkdir -p "$STAGE/lang" "$STAGE/task"
mount --bind "$PREFIX" "$STAGE/lang"
mount --bind "$TASK" "$STAGE/task"
mount --bind "$LAYER" /opt
mount -t tmpfs tmpfs /var
mkdir /var/lang /var/task /var/runtime
mount --bind "$STAGE/lang" /var/lang
mount --bind "$STAGE/task" /var/task
exec "$@"
"""


def _unshare(*command: str) -> list[str]:
    return ["unshare", "--mount", "--propagation", "private", *command]


def _invoke(server: peers.Server, event: dict[str, Any]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    try:
        connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _together(server: peers.Server, events: list[dict[str, Any]]) -> list[tuple[int, Any]]:
    answers: list[tuple[int, Any]] = [(0, None)] * len(events)

    def one(number: int) -> None:
        answers[number] = _invoke(server, events[number])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(events))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    return answers


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Server]:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can give the emulator a mount namespace")
    if subprocess.run(_unshare("true"), capture_output=True, timeout=60, check=False).returncode != 0:
        pytest.skip("no mount namespaces here")
    try:
        binary = peers.emulator_binary()
    except (peers.PeerFault, subprocess.TimeoutExpired) as fault:
        pytest.skip(f"no emulator: {fault}")
    folder = tmp_path_factory.mktemp("managed")
    bare = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    build = [sys.executable, str(ROOT / "tools" / "build_layer.py"), "--python", str(bare), "--out", str(folder)]
    subprocess.run(
        [*build, "--machine", machine],
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=True,
    )
    (archive,) = folder.glob("*.zip")
    layer, task, stage = folder / "layer", folder / "task", folder / "stage"
    task.mkdir()
    shutil.copy(HERE / "pool_functions.py", task)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(layer)
    for directory in (layer, task):
        directory.chmod(0o755)
    (layer / "bootstrap").chmod(0o755)
    # The checkout, and so the emulator, may lie below the /var that it will not see.
    binary = Path(shutil.copy(binary, folder))
    port = peers.free_port()
    command = [str(binary), "--log-level", "warn", "--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    command += ["--runtime-api-address", f"127.0.0.1:{peers.free_port()}"]
    environment = {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": "/var/lang/lib",
        "AWS_LAMBDA_MAX_CONCURRENCY": str(WORKERS),
        "_HANDLER": "pool_functions.handler",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
        "STAGE": str(stage),
        "LAYER": str(layer),
        "TASK": str(task),
        "PREFIX": sys.base_prefix,
    }
    with peers.started(
        "emulator", _unshare("sh", "-c", PLACES, "sh", *command), cwd=folder, environment=environment, port=port
    ) as server:
        _wait_ready(server)
        yield server


def _wait_ready(server: peers.Server) -> None:
    """Invoke until every worker has answered: before it waits, the emulator knows of no runtime."""
    seen: set[int] = set()
    for _ in range(600):
        if len(seen) == WORKERS:
            return
        status, value = _invoke(server, {})
        if status == 200 and "pid" in value:
            seen.add(value["pid"])
        else:
            server.require_running("its workers were ready")
            threading.Event().wait(0.05)
    pytest.fail(f"{len(seen)} of {WORKERS} workers answered: {server.tail()}")


def test_as_many_invocations_run_at_once_as_there_are_workers_of_one_init(emulator: peers.Server) -> None:
    answers = _together(emulator, [{"do": "wait", "seconds": 1}] * WORKERS)
    assert [status for status, _ in answers] == [200] * WORKERS
    assert len({value["pid"] for _, value in answers}) == WORKERS
    assert len({value["init"] for _, value in answers}) == 1


def test_it_runs_as_the_platforms_user(emulator: peers.Server) -> None:
    _, value = _invoke(emulator, {})
    assert os.stat(f"/proc/{value['pid']}").st_uid == 993
    assert os.stat(f"/proc/{value['pid']}").st_gid == 990


def test_a_crash_is_answered_and_the_emulator_goes_on(emulator: peers.Server) -> None:
    for event, words in (
        ({"do": "crash"}, "Runtime exited with error: signal: segmentation fault"),
        ({"do": "exit", "status": 4}, "Runtime exited with error: exit status 4"),
    ):
        status, value = _invoke(emulator, event)
        assert status == 200
        assert value["errorType"] == "Runtime.ExitError"
        assert value["errorMessage"].endswith(words)
    _wait_ready(emulator)


def test_workers_that_are_killed_while_they_wait_swallow_no_invocation(emulator: peers.Server) -> None:
    _wait_ready(emulator)
    answers = _together(emulator, [{"do": "wait", "seconds": 0.5}] * WORKERS)
    workers = {value["pid"] for _, value in answers}
    assert len(workers) == WORKERS
    for process in processes.tree(emulator.pid):
        if process.pid in workers:
            assert processes.kill(process)
    for _ in range(3 * WORKERS):
        status, value = _invoke(emulator, {})
        assert (status, value.get("echo", "none")) == (200, None), value
        assert value["pid"] not in workers


def test_an_error_of_the_function_is_its_answer(emulator: peers.Server) -> None:
    status, value = _invoke(emulator, {"do": "fail", "message": "no"})
    assert status == 200
    assert value["errorType"] == "ValueError"
    assert value["errorMessage"] == "no"

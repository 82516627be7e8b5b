"""``AWS_LAMBDA_MAX_CONCURRENCY=N``: one init, N workers, and what AWS's client does there, done at least as well."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bootstrap.pool_api import PoolAPI, refusal
from tests.bootstrap.pooled import HERE, RUNTIME, Pooled, managed, pooled

from bench import processes

WORKERS = 3


@pytest.fixture(scope="module")
def pool() -> Iterator[Pooled]:
    with PoolAPI(WORKERS) as api, pooled(api, **managed(WORKERS)) as running:
        api.wait_idle()
        yield running


def _each(pool: Pooled, **event: object) -> dict[int, dict[str, object]]:
    """Results by worker, one of each: the queue of those that wait is first in, first out."""
    pool.api.wait_idle()
    ones = [pool.api.invoke(json.dumps(event).encode()) for _ in range(WORKERS)]
    results = [json.loads(one.wait().answer) for one in ones]
    return {result["pid"]: result for result in results}


def test_init_runs_once_and_every_worker_serves(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with PoolAPI(WORKERS) as api, pooled(api, **managed(WORKERS, INIT_LOG=str(log))) as pool:
        api.wait_idle()
        results = _each(pool)
        assert sorted(results) == pool.workers()
        assert len(results) == WORKERS
        assert {one["init"] for one in results.values()} == {pool.pid}
        assert log.read_text() == f"{pool.pid}\n"


def test_the_pool_is_announced_as_awslambdaric_announces_it() -> None:
    pytest.importorskip("awslambdaric", reason="the oracle is not installed")
    lines = []
    for module in ("lamplighter.bootstrap", "awslambdaric"):
        with (
            PoolAPI(2) as api,
            pooled(api, module=module, **managed(2, AWS_LAMBDA_LOG_LEVEL="DEBUG")) as pool,
        ):
            api.wait_idle()
            said = pool.wait_said("runtime_worker_pool_initializing")
            assert said.count("runtime_worker_pool_initializing") == 1
            (line,) = [line for line in said.splitlines() if "runtime_worker_pool_initializing" in line]
            lines.append(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", line))
    assert lines[0] == lines[1]
    assert json.loads(lines[0])["message"] == {
        "event": "runtime_worker_pool_initializing",
        "workerCount": 2,
        "executionEnvironmentMaxConcurrency": 2,
    }


def test_workers_differ_in_entropy_and_agree_in_what_init_drew(pool: Pooled) -> None:
    results = _each(pool, do="entropy")
    assert len({one["seed"] for one in results.values()}) == 1
    assert len({one["random"] for one in results.values()}) == WORKERS
    assert len({str(one["uuid1"]) for one in results.values()}) == WORKERS


def test_a_worker_holds_nothing_but_its_streams_connection_mailbox_and_lifeline(pool: Pooled) -> None:
    for result in _each(pool, do="descriptors").values():
        descriptors = result["descriptors"]
        assert isinstance(descriptors, dict)
        kinds = sorted(target.partition(":")[0] for name, target in descriptors.items() if int(name) > 2)
        assert kinds == ["pipe", "socket", "socket", "socket"], descriptors


def test_a_log_line_has_the_request_id_of_its_own_invocation(pool: Pooled) -> None:
    pool.api.wait_idle()
    ones = {f"line {n}": pool.api.invoke(json.dumps({"do": "log", "text": f"line {n}"}).encode()) for n in range(12)}
    for one in ones.values():
        one.wait()
    records = [json.loads(line) for line in pool.said().splitlines() if '"logged line' in line]
    found = {record["message"].removeprefix("logged "): record["requestId"] for record in records}
    assert found == {text: one.request_id for text, one in ones.items()}


class LogSocket:
    """The platform's end of the log sockets: what came over each connection, in the order of their arrival."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams: list[bytearray] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            stream = bytearray()
            self.streams.append(stream)
            threading.Thread(target=self._read, args=(connection, stream), daemon=True).start()

    def _read(self, connection: socket.socket, stream: bytearray) -> None:
        with connection:
            while data := connection.recv(65_536):
                stream += data

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.mark.parametrize("unsafe", [False, True], ids=["init shared", "init apart"])
def test_each_worker_connects_its_output_and_its_errors_to_the_platforms_log_socket(
    tmp_path: Path, unsafe: bool
) -> None:
    logs = LogSocket(tmp_path / "logs")
    more = {"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": str(logs.path)}
    if unsafe:
        more["UNSAFE"] = str(tmp_path / "kept")
    with PoolAPI(WORKERS) as api, pooled(api, **managed(WORKERS, **more)) as pool:
        api.wait_idle()
        _each(pool, do="log", text="all")
        assert "printed" not in pool.said()
    logs.close()
    assert len(logs.streams) == 2 * WORKERS
    # In whatever order workers connect, each does so for its output first.
    errors = [bytes(stream) for stream in logs.streams if b"to stderr all" in stream]
    output = [bytes(stream) for stream in logs.streams if b"printed all" in stream]
    assert len(errors) == len(output) == WORKERS
    assert all(b"logged all" in stream for stream in output)
    assert not set(errors) & set(output)


def test_what_a_fork_would_break_is_named_line_by_line_and_each_worker_runs_init(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", tmp_path / "kept"
    environment = managed(WORKERS, INIT_LOG=str(log), UNSAFE=str(kept))
    with PoolAPI(WORKERS) as api, pooled(api, **environment) as pool:
        api.wait_idle()
        messages = [json.loads(line)["message"] for line in pool.said().splitlines() if "init is not shared" in line]
        assert len(messages) == 2
        assert messages[0].endswith("would break what it made: thread 'poller' is running")
        assert re.search(rf"descriptor \d+ is the file {re.escape(str(kept))}, open for writing$", messages[1])
        results = _each(pool)
        assert {one["init"] for one in results.values()} == set(results)
        # The attempt, in the process that is now the supervisor, and one in each worker.
        assert sorted(map(int, log.read_text().split())) == sorted([pool.pid, *results])
        one = pool.run(do="crash")
        assert json.loads(one.answer)["errorMessage"].endswith("signal: segmentation fault")
        api.wait_idle()
        assert len(_each(pool)) == WORKERS


def test_children_that_init_left_are_ended_where_init_runs_anew(tmp_path: Path) -> None:
    module = tmp_path / "with_child.py"
    module.write_text(
        "import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "def handler(event, context): return {'pid': os.getpid(), 'child': child.pid}\n"
    )
    with PoolAPI(1) as api, pooled(api, "with_child.handler", **managed(1, PYTHONPATH=f"{RUNTIME}:{tmp_path}")) as pool:
        api.wait_idle()
        result = pool.result()
        assert pool.workers() == sorted([result["pid"], result["child"]])


def test_numpys_threads_are_put_to_rest_and_its_function_is_forked(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="it has the threads")
    (tmp_path / "with_numpy.py").write_text(
        "import os, numpy\n"
        "INIT, first = os.getpid(), numpy.random.rand(300, 300) @ numpy.random.rand(300, 300)\n"
        "def handler(event, context):\n"
        "    product = numpy.random.rand(400, 400) @ numpy.random.rand(400, 400)\n"
        "    return {'pid': os.getpid(), 'init': INIT, 'product': float(product.sum()), 'cpus': os.cpu_count()}\n"
    )
    environment = managed(WORKERS, PYTHONPATH=f"{RUNTIME}:{tmp_path}", OPENBLAS_NUM_THREADS="2")
    with PoolAPI(WORKERS) as api, pooled(api, "with_numpy.handler", **environment) as pool:
        api.wait_idle()
        results = _each(pool)
        assert "init is not shared" not in pool.said()
        assert {one["init"] for one in results.values()} == {pool.pid}
        assert len({one["product"] for one in results.values()}) == WORKERS, "the workers drew the same numbers"


def test_hooks_run_before_the_fork_and_in_each_worker_in_snapstarts_order() -> None:
    with PoolAPI(2) as api, pooled(api, **managed(2, HOOKS="none")) as pool:
        api.wait_idle()
        first, second = pool.workers()
        lines = [line for line in pool.said().splitlines() if " in " in line]
        assert lines[:2] == [f"before two in {pool.pid}", f"before one in {pool.pid}"]
        for worker in (first, second):
            assert [line for line in lines if line.endswith(f" {worker}")] == [
                f"after one in {worker}",
                f"after two in {worker}",
            ]


@pytest.mark.parametrize(
    ("hook", "status", "error_type"),
    [("before one", 64, "Runtime.BeforeSnapshotError"), ("after one", None, "Runtime.AfterRestoreError")],
)
def test_a_hook_that_fails_is_posted_while_the_platform_is_still_in_init(
    hook: str, status: int | None, error_type: str
) -> None:
    with PoolAPI(1) as api, pooled(api, **managed(1, HOOKS=hook)) as pool:
        api.wait_until(lambda: bool(api.init_errors))
        kind, body = api.init_errors[0]
        assert kind == error_type
        assert json.loads(body)["errorMessage"] == f"{hook} failed"
        if status is not None:
            assert pool.wait() == status


def test_a_failed_init_is_posted_once_and_the_status_is_1() -> None:
    with PoolAPI(WORKERS) as api, pooled(api, "pool_functions.missing", **managed(WORKERS)) as pool:
        assert pool.wait() == 1
        ((kind, body),) = api.init_errors
        assert kind == json.loads(body)["errorType"] == "Runtime.HandlerNotFound"


def test_a_refused_request_for_an_event_is_repeated_as_awslambdaric_does() -> None:
    with PoolAPI(1) as api:
        api.refuse_next.extend([refusal(500, "InternalServerError")] * 3)
        with pooled(api, **managed(1, AWS_LAMBDA_LOG_LEVEL="INFO")) as pool:
            api.wait_idle()
            (worker,) = pool.workers()
            assert pool.result()["pid"] == worker
            said = pool.said()
            for text in ("Initial runtime_client.next() failed", "Attempt 2 failed", "Attempt 3 failed"):
                assert text in said
            assert "Retrying runtime_client.next() [attempt 4]..." in said
            assert "Attempt 4 failed" not in said


def test_after_five_refusals_the_worker_says_so_and_another_takes_its_place() -> None:
    with PoolAPI(1) as api:
        api.refuse_next.extend([refusal(500, "InternalServerError")] * 5)
        with pooled(api, **managed(1)) as pool:
            said = pool.wait_said("Runtime.LambdaRuntimeClientError")
            assert "LAMBDA_RUNTIME Failed to get next invocation" in said
            api.wait_idle()
            assert pool.result()["init"] == pool.pid
            api.wait_idle()
            assert api.asked == 5 + 1 + len(api.invocations)


@pytest.mark.parametrize("status", [400, 403, 410, 500])
def test_an_answer_that_is_refused_is_logged_and_ends_no_worker(status: int) -> None:
    with PoolAPI(1) as api, pooled(api, **managed(1)) as pool:
        api.wait_idle()
        workers = pool.workers()
        api.refuse_answers.append(refusal(status, "Refused"))
        pool.run()
        assert pool.result()["pid"] == workers[0]
        assert f"answered {status} to a response" in pool.said()


def test_workers_are_renewed_after_so_many_events_on_the_connection_that_is_there() -> None:
    with PoolAPI(2) as api, pooled(api, **managed(2, LAMPLIGHTER_RECYCLE_AFTER="3")) as pool:
        api.wait_idle()
        connections = api.connections
        results = [pool.result() for _ in range(24)]
        counts = [result["count"] for result in results]
        assert max(counts) == 3
        assert len({result["pid"] for result in results}) >= 8
        assert {result["init"] for result in results} == {pool.pid}
        api.wait_idle()
        assert api.connections == connections
        assert not any(one.refused or one.swallowed for one in api.invocations)


def test_warm_up_events_run_before_the_fork() -> None:
    event = HERE / "warm_up.json"
    with PoolAPI(2) as api, pooled(api, **managed(2, LAMPLIGHTER_WARM_UP=f"{event}{os.pathsep}{event}")) as pool:
        api.wait_idle()
        assert pool.result()["count"] == 3


SNAPSHOT = {"LAMPLIGHTER_FORK": "1", "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "HOOKS": "none"}


def test_with_snapstart_the_fork_comes_after_the_restore() -> None:
    with PoolAPI(1, classic=True) as api, pooled(api, **SNAPSHOT) as pool:
        api.wait_idle()
        assert api.restores == 1
        (worker,) = pool.workers()
        lines = [line for line in pool.said().splitlines() if " in " in line]
        assert lines == [f"{name} in {pool.pid}" for name in ("before two", "before one")] + [
            f"{name} in {worker}" for name in ("after one", "after two")
        ]
        pool.run(do="crash")
        assert pool.result()["init"] == pool.pid
        assert api.restores == 1


def test_with_snapstart_and_something_a_fork_would_break_there_is_no_fork(tmp_path: Path) -> None:
    with PoolAPI(1, classic=True) as api, pooled(api, **SNAPSHOT, UNSAFE=str(tmp_path / "kept")) as pool:
        api.wait_idle()
        result = pool.result()
        assert result["pid"] == result["init"] == pool.pid
        assert api.restores == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AWS_LAMBDA_MAX_CONCURRENCY": "many"}, "AWS_LAMBDA_MAX_CONCURRENCY must be a whole number from 1 to 1600"),
        ({"AWS_LAMBDA_MAX_CONCURRENCY": "0"}, "AWS_LAMBDA_MAX_CONCURRENCY must be a whole number from 1 to 1600"),
        ({"LAMPLIGHTER_FORK": "yes"}, "LAMPLIGHTER_FORK may be '0' or '1', got 'yes'"),
        ({"LAMPLIGHTER_FORK": "1", "LAMPLIGHTER_RECYCLE_AFTER": "-1"}, "LAMPLIGHTER_RECYCLE_AFTER must be a whole"),
        ({"LAMPLIGHTER_FORK": "1", "LAMPLIGHTER_WARM_UP": "none.json"}, "LAMPLIGHTER_WARM_UP names none.json: No such"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line_and_status_1(environment: dict[str, str], words: str) -> None:
    with PoolAPI(1) as api, pooled(api, **environment) as pool:
        assert pool.wait() == 1
        (line,) = pool.said().splitlines()
        assert words in line


def test_where_it_differs_awslambdaric_is_as_the_document_says() -> None:
    pytest.importorskip("awslambdaric", reason="the oracle is not installed")
    with PoolAPI(WORKERS) as api, pooled(api, "pool_functions.missing", "awslambdaric", **managed(WORKERS)) as pool:
        assert pool.wait() == 0
        assert len(api.init_errors) == WORKERS
    with PoolAPI(2) as api, pooled(api, module="awslambdaric", **managed(2)) as pool:
        api.wait_idle()
        assert len({api.invoke(b"{}").wait().answer for _ in range(2)}) == 2
        assert pool.pid not in {pool.result()["init"], pool.result()["init"]}, "each worker runs init"
        api.wait_idle()
        dead, living = pool.workers()
        os.kill(dead, signal.SIGKILL)
        until_gone = {one for one in processes.tree(pool.pid) if one.pid == dead}
        assert processes.wait_gone(until_gone, 30) == set()
        ones = [api.invoke(b"{}") for _ in range(2)]
        api.wait_until(lambda: sum(one.swallowed for one in ones) == 1)
        assert pool.workers() == [living], "nobody took its place"


def test_more_workers_than_there_may_be_descriptors_is_one_line_and_status_1() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with PoolAPI(1) as api, pooled(api, **managed(100)) as pool:
            assert pool.wait() == 1
            assert "cannot make 100 places for workers: Too many open files" in pool.said()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


GIVING_UP = """
import sys
from lamplighter.bootstrap import supervisor
supervisor._FIRST_DELAY_S = 0.001
supervisor._LONGEST_DELAY_S = 0.002
from lamplighter.bootstrap.notes import Memory
task = supervisor.Supervisor(Memory(2)).run()
sys.exit(5)
"""


def test_a_place_whose_workers_end_without_an_event_is_given_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIVING_UP],
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "10 workers in a row ended without taking an event: giving up" in done.stderr


def test_a_worker_that_ignores_sigterm_is_killed() -> None:
    ignoring = "signal.signal(15, signal.SIG_IGN); os.write(1, b'up\\n'); time.sleep(60)"
    code = GIVING_UP.replace("sys.exit(5)", ignoring)
    with subprocess.Popen(
        [sys.executable, "-c", f"import os, signal, time{code}"],
        env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"up\n"] * 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert process.stdout.read() == b""

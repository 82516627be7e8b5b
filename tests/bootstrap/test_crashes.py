"""Workers of a pool die in every way; each invocation gets one answer, and no other is touched."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from tests.bootstrap.pool_api import PoolAPI
from tests.bootstrap.pooled import Pooled, managed, pooled

from bench import processes

FORK = {"LAMPLIGHTER_FORK": "1"}
APART = {"LAMPLIGHTER_ONE_SEND": "0"}


@pytest.fixture(scope="module", params=["managed", "forked"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pooled]:
    """Two workers of a managed instance, or the one of an ordinary function."""
    workers = 2 if request.param == "managed" else 1
    environment = managed(2) if request.param == "managed" else FORK
    with PoolAPI(workers, classic=workers == 1) as api, pooled(api, **environment) as running:
        api.wait_idle()
        yield running


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"do": "exit", "status": 3}, "Runtime exited with error: exit status 3"),
        ({"do": "exit", "status": 0}, "Runtime exited without providing a reason"),
        ({"do": "sys.exit", "status": 7}, "Runtime exited with error: exit status 7"),
        ({"do": "sys.exit", "status": 0}, "Runtime exited without providing a reason"),
        ({"do": "crash"}, "Runtime exited with error: signal: segmentation fault"),
        ({"do": "signal", "signal": 9}, "Runtime exited with error: signal: killed"),
        ({"do": "signal", "signal": 6}, "Runtime exited with error: signal: aborted"),
    ],
)
def test_the_end_of_a_worker_is_its_invocations_answer_and_costs_no_init(
    pool: Pooled, event: dict[str, object], words: str
) -> None:
    before = pool.result()
    one = pool.run(**event)
    assert one.kind == "error"
    message = f"RequestId: {one.request_id} Error: {words}"
    assert json.loads(one.answer) == {"errorType": "Runtime.ExitError", "errorMessage": message}
    assert "Lambda-Runtime-Function-Error-Type: Runtime.ExitError" in one.head
    logged = [line for line in pool.said().splitlines() if message in line]
    assert len(logged) == 1
    assert one.request_id in logged[0].replace(message, "")
    assert f"Lambda-Runtime-Invocation-Id: i-{one.number}" in one.head
    after = pool.result()
    assert after["init"] == before["init"] == pool.pid
    assert pool.process.poll() is None
    pool.api.wait_idle()
    assert one.refused == 0


def test_globals_are_those_of_init_after_a_crash(pool: Pooled) -> None:
    pool.api.wait_idle()
    before = pool.workers()
    pool.run(do="exit", status=1)
    pool.api.wait_idle()
    (fresh,) = set(pool.workers()) - set(before)
    results = [pool.result() for _ in before]
    assert [one["count"] for one in results if one["pid"] == fresh] == [1]


def test_a_worker_that_dies_in_the_middle_of_a_stream_is_answered_for(pool: Pooled) -> None:
    assert pool.run(do="stream", pieces=3).answer == b"0,1,2,"
    for dies_at in (0, 1, 3):
        one = pool.run(**{"do": "stream", "pieces": 5, "dies at": dies_at})
        assert one.kind == "error"
        assert json.loads(one.answer)["errorMessage"].endswith("signal: killed")
    assert pool.run(do="stream", pieces=2).answer == b"0,1,"
    pool.api.wait_idle()


def test_an_exception_ends_no_worker(pool: Pooled) -> None:
    pool.api.wait_idle()
    workers = pool.workers()
    one = pool.run(do="fail", message="no")
    assert one.kind == "error"
    assert json.loads(one.answer)["errorType"] == "ValueError"
    pool.api.wait_idle()
    assert pool.workers() == workers


def test_a_worker_that_is_killed_while_it_waits_leaves_its_request_to_its_successor(pool: Pooled) -> None:
    pool.api.wait_idle()
    connections, asked = pool.api.connections, pool.api.asked
    for worker in pool.workers():
        os.kill(worker, signal.SIGKILL)
        gone = processes.wait_gone({one for one in processes.tree(pool.pid) if one.pid == worker}, 30)
        assert not gone
    ones = [pool.api.invoke(b"{}") for _ in range(4)]
    assert [one.wait().kind for one in ones] == ["response"] * 4
    assert not any(one.swallowed for one in ones)
    pool.api.wait_idle()
    assert pool.api.connections == connections
    assert pool.api.asked == asked + 4


def test_a_stopped_worker_does_not_stop_the_others() -> None:
    with PoolAPI(2) as api, pooled(api, **managed(2)) as pool:
        api.wait_idle()
        slow = api.invoke(b'{"do": "wait", "seconds": 60}')
        assert {pool.result()["pid"] for _ in range(5)} <= set(pool.workers())
        assert not slow.done.is_set()


@pytest.mark.parametrize("more", [{}, APART, {"UNSAFE": os.devnull}], ids=["one send", "apart", "init apart"])
def test_killing_workers_under_load_loses_no_answer(more: dict[str, str]) -> None:
    """Kills at random moments, busy or idle: each invocation is answered once, and those not killed succeed."""
    rng = random.Random(11)
    kills = 0
    with PoolAPI(4) as api, pooled(api, **managed(4, **more)) as pool:
        api.wait_idle()
        supervisor = {one for one in processes.tree(pool.pid) if one.pid == pool.pid}
        ones = []
        for number in range(600):
            size = rng.choice((10, 10, 10, 300_000))
            event = {"do": "large", "size": size} if size > 10 else {"echo": number}
            ones.append(api.invoke(json.dumps(event).encode()))
            if number % 15 == 14:
                workers = sorted(processes.tree(pool.pid) - supervisor)
                kills += bool(workers) and processes.kill(rng.choice(workers))
            if number % 8 == 7:
                time.sleep(rng.random() / 100)
        for one in ones:
            one.wait(120)
        api.wait_idle(seconds=120)
        assert kills > 8
        assert not any(one.swallowed for one in ones)
        failed = [one for one in ones if one.kind == "error"]
        assert len(failed) <= kills
        for one in failed:
            assert json.loads(one.answer)["errorMessage"].endswith("Runtime exited with error: signal: killed")
        for number, one in enumerate(ones):
            if one.kind == "response":
                value = json.loads(one.answer)
                assert value.get("echo") == number or len(value.get("large", "")) == 300_000


def test_a_killed_supervisor_takes_its_workers_with_it() -> None:
    with PoolAPI(3) as api, pooled(api, **managed(3)) as pool:
        api.wait_idle()
        api.invoke(b'{"do": "wait", "seconds": 60}')
        family = processes.tree(pool.pid)
        assert len(family) == 4
        os.kill(pool.pid, signal.SIGKILL)
        assert processes.wait_gone(family, 30) == set()


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_ends_every_worker_and_then_itself(signo: int) -> None:
    with PoolAPI(3) as api, pooled(api, **managed(3)) as pool:
        api.wait_idle()
        family = processes.tree(pool.pid)
        os.kill(pool.pid, signo)
        assert pool.wait() == -signo
        assert processes.wait_gone(family, 30) == set()


def test_a_functions_own_sigterm_handler_runs_in_each_worker_and_not_in_the_supervisor() -> None:
    with PoolAPI(2) as api, pooled(api, **managed(2, ON_SIGTERM="1")) as pool:
        api.wait_idle()
        workers = pool.workers()
        for worker in workers:
            processes.wait_asleep(worker)
        os.kill(pool.pid, signal.SIGTERM)
        assert pool.wait() == -signal.SIGTERM
        said = sorted(line for line in pool.said().splitlines() if line.startswith("sigterm"))
        assert said == sorted(f"sigterm in {worker}" for worker in workers)

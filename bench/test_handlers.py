"""Cold starts of the other handlers: trivial, standard library, numpy; beside the emulator and a bare fork of each.

Figures without bars: what a start costs depends on what the function imports, and these show how.
"""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, peers
from bench.client import invoke_on_new_connection
from bench.conftest import Replay
from bench.events import prepared_requests
from bench.measure import CLOCK, Side, interleave, ratio

IDLE_GAP = 0.06
ROUNDS, LAUNCHES = 8, 4
OURS, FLOOR, PEER = "lamplighter, cold", "bare fork", "emulator + awslambdaric, cold"
BLAS = {"OPENBLAS_NUM_THREADS": "1"}
"""A BLAS with threads makes a template unsafe to fork. Every side is given the same."""
HANDLERS = ("trivial.handler", "stdlib_web.handler", "numpy_matrix.handler")


@pytest.fixture(scope="module", params=HANDLERS)
def sides(request: pytest.FixtureRequest) -> tuple[str, dict[str, Side]]:
    handler: str = request.param
    requests = prepared_requests(seed=61)

    def launches(server: peers.Server) -> list[float]:
        took = []
        for _ in range(LAUNCHES):
            time.sleep(IDLE_GAP)
            took.append(invoke_on_new_connection(server.address, next(requests)))
        return took

    def emulator_once() -> list[float]:
        with peers.emulator(handler, variables=BLAS) as server:
            time.sleep(IDLE_GAP)
            return [invoke_on_new_connection(server.address, next(requests))]

    options = ("--parked", "0", "--fresh-per-invocation", "--report", "full", "--env", "OPENBLAS_NUM_THREADS=1")
    with peers.lamplighter(handler, *options) as host, peers.bare_fork(handler, BLAS) as bare:
        blocks = {OURS: lambda: launches(host), FLOOR: lambda: launches(bare), PEER: emulator_once}
        found = interleave(blocks, ROUNDS)
        found[OURS].extra["stages_us"] = host.stages_us(at_least=ROUNDS * LAUNCHES)
    return handler, found


def test_a_cold_start_by_fork_is_under_one_by_exec(sides: tuple[str, dict[str, Side]], table: list[bars.Row]) -> None:
    handler, found = sides
    ours, peer = found[OURS], found[PEER]
    number = f"1h{HANDLERS.index(handler) + 1}"
    shown, other = f"{ours.p50 * 1e3:.3g} ms", f"{peer.p50 * 1e3:.4g} ms ({PEER})"
    table.append(bars.Row(number, f"cold start, {handler}: p50, gain", shown, other, f"{ratio(peer, ours)}x"))
    assert len(ours.samples) == ROUNDS * LAUNCHES


@pytest.mark.benchmark(group="cold-fork", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, FLOOR])
def test_cold_start_by_fork(
    benchmark: BenchmarkFixture, sides: tuple[str, dict[str, Side]], name: str, replay: Replay
) -> None:
    replay(benchmark, sides[1][name], PEER)
    benchmark.extra_info["handler"] = sides[0]


@pytest.mark.benchmark(group="cold-exec", timer=CLOCK)
def test_cold_start_by_exec(benchmark: BenchmarkFixture, sides: tuple[str, dict[str, Side]], replay: Replay) -> None:
    replay(benchmark, sides[1][PEER], OURS)
    benchmark.extra_info["handler"] = sides[0]

"""Cold starts: nothing parked, a boto3 client made at init, limits on, an idle gap before every launch.

The gap is there because an idle kernel is slow where a busy one is fast: moving a process into a control group takes a
lock whose writer waits for RCU, milliseconds after 50 ms of quiet and microseconds in a tight loop.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, peers
from bench.client import invoke_on_new_connection
from bench.conftest import Replay
from bench.events import prepared_requests, warm_up_event
from bench.measure import CLOCK, Side, interleave, ratio

IDLE_GAP = 0.06
"""Seconds of quiet before each launch; the slow path of the kernel's lock shows from 50 ms on."""
ROUNDS = 12
LAUNCHES = 5
"""Launches of ours in a round, beside one of the emulator, which takes half a second."""

OURS = "lamplighter, cold"
WARMED = "lamplighter, cold, warm-up event"
PEER = "emulator + awslambdaric, cold"
FLOOR = "bare fork"
HANDLER = "boto3_client.handler"


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    return measured(warm_up_event(tmp_path_factory.mktemp("warm-up")))


def measured(warm_up: Path) -> dict[str, Side]:
    """Interleaved cold invokes of our host, of our host with a warm-up event, and of new emulators."""
    requests = prepared_requests(seed=11)

    def launches(server: peers.Server) -> list[float]:
        took: list[float] = []
        for _ in range(LAUNCHES):
            time.sleep(IDLE_GAP)
            took.append(invoke_on_new_connection(server.address, next(requests)))
        return took

    def emulator_once() -> list[float]:
        # Its listener is up before the clock starts, so only the runtime's own start and init are in the figure.
        with peers.emulator(HANDLER) as server:
            time.sleep(IDLE_GAP)
            return [invoke_on_new_connection(server.address, next(requests))]

    options = ("--parked", "0", "--fresh-per-invocation", "--report", "full")
    with (
        peers.lamplighter(HANDLER, *options) as plain,
        peers.lamplighter(HANDLER, *options, "--warm-up", str(warm_up)) as warmed,
        peers.bare_fork(HANDLER) as bare,
    ):
        blocks = {
            OURS: lambda: launches(plain),
            WARMED: lambda: launches(warmed),
            FLOOR: lambda: launches(bare),
            PEER: emulator_once,
        }
        sides = interleave(blocks, ROUNDS)
        for name, host in ((OURS, plain), (WARMED, warmed)):
            sides[name].extra["stages_us"] = host.stages_us(at_least=ROUNDS * LAUNCHES)
        return sides


def test_a_cold_start_by_fork_is_far_under_one_by_exec(sides: dict[str, Side], table: list[bars.Row]) -> None:
    # The bar holds for a host with no option that helps; what a warm-up event gains is shown beside it.
    for number, name, judged in (("1", OURS, True), ("1w", WARMED, False)):
        ours, peer = sides[name], sides[PEER]
        gain = ratio(peer, ours)
        first = bars.at_most(f"{number}a", f"cold start, boto3 handler: p50 ({name})", ours.p50 * 1e3, 10, "ms")
        second = bars.ratio_at_least(
            f"{number}b",
            f"cold start, boto3 handler: gain over the emulator ({name})",
            f"{ours.p50 * 1e3:.3g} ms",
            f"{peer.p50 * 1e3:.4g} ms ({PEER})",
            gain,
            60,
            our_times=ours.facts(),
            peer_times=peer.facts(),
        )
        table += [first, second] if judged else [bars.context(first), bars.context(second)]
    assert len(sides[OURS].samples) == ROUNDS * LAUNCHES


@pytest.mark.benchmark(group="cold-fork", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, WARMED, FLOOR])
def test_cold_start_by_fork(benchmark: BenchmarkFixture, sides: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, sides[name], PEER)
    benchmark.extra_info["handler"] = HANDLER


@pytest.mark.benchmark(group="cold-exec", timer=CLOCK)
def test_cold_start_by_exec(benchmark: BenchmarkFixture, sides: dict[str, Side], replay: Replay) -> None:
    replay(benchmark, sides[PEER], OURS)
    benchmark.extra_info["handler"] = HANDLER

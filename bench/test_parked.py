"""The first invoke on a parked worker, beside a warm one: forked, placed and mounted ahead, it has little left to do.

Both sides wait the same idle gap before each invoke, on connections that are already open. Two hosts run at once, one
that gives every invocation a fresh worker and one that keeps its worker, and the invokes take turns.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, peers
from bench.client import Connection
from bench.conftest import Replay
from bench.events import prepared_requests, warm_up_event
from bench.measure import CLOCK, Side, interleave, ratio

GAP = 0.02
"""Seconds between a pool that is full again and the next invoke, on both sides: the refill's own work must be over."""
ROUNDS = 100
BURST = 20

PARKED, WARM, STEADY = "parked, first invoke", "warm, after the same gap", "warm, back to back"


def measured(handler: str, *options: str) -> dict[str, Side]:
    """Interleaved invokes: fresh parked worker, warm worker after the same gap, warm worker back to back."""
    requests = prepared_requests(seed=23)
    with (
        peers.lamplighter(handler, "--parked", "1", "--fresh-per-invocation", *options) as fresh,
        peers.lamplighter(handler, "--parked", "1", *options) as kept,
        Connection(fresh.address) as to_fresh,
        Connection(kept.address) as to_kept,
        Connection(fresh.address) as status,
    ):
        for _ in range(20):
            to_kept.invoke(next(requests))

        def parked() -> list[float]:
            peers.wait_parked(fresh, status, 1)
            time.sleep(GAP)
            return [to_fresh.invoke(next(requests))]

        def warm() -> list[float]:
            # The other host refills after its invoke; a warm figure taken meanwhile would carry that work.
            peers.wait_parked(fresh, status, 1)
            time.sleep(GAP)
            return [to_kept.invoke(next(requests))]

        def steady() -> list[float]:
            return [to_kept.invoke(next(requests)) for _ in range(BURST)]

        # No host here writes the full report: reading its figures is work that the other side would not have.
        return interleave({PARKED: parked, WARM: warm, STEADY: steady}, ROUNDS)


class Case(NamedTuple):
    """One function as it is served, with its options. Only a case that is ``judged`` has a bar."""

    number: str
    handler: str
    warmed: bool
    judged: bool = False
    options: tuple[str, ...] = ()


CASES = (
    Case("2a", "trivial.handler", warmed=False, judged=True),
    Case("2b", "boto3_client.handler", warmed=False, judged=True),
    Case("2c", "boto3_client.handler", warmed=True),
    Case("2d", "stdlib_web.handler", warmed=False),
    # With threads of its own a BLAS makes a template unsafe to fork.
    Case("2e", "numpy_matrix.handler", warmed=False, options=("--env", "OPENBLAS_NUM_THREADS=1")),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.handler + (", warmed" if case.warmed else ""))
def measured_case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, dict[str, Side]]:
    case: Case = request.param
    options = ("--warm-up", str(warm_up_event(tmp_path_factory.mktemp("warm-up")))) if case.warmed else ()
    return case, measured(case.handler, *options, *case.options)


def test_the_first_invoke_on_a_parked_worker_is_close_to_a_warm_one(
    measured_case: tuple[Case, dict[str, Side]], table: list[bars.Row]
) -> None:
    case, sides = measured_case
    ours, warm, steady = sides[PARKED], sides[WARM], sides[STEADY]
    facts: dict[str, object] = {"parked": ours.facts(), "warm": warm.facts(), "back_to_back": steady.facts()}
    claim = f"parked first invoke, {case.handler}" + (", warm-up event" if case.warmed else "")
    shown = f"{ours.p50 * 1e3:.3g} ms"
    beside_warm = f"{warm.p50 * 1e3:.3g} ms ({WARM})"
    beside_steady = bars.Row(
        f"{case.number}+", claim, shown, f"{steady.p50 * 1e3:.3g} ms ({STEADY})", f"{ratio(ours, steady)}x", facts=facts
    )
    row = bars.ratio_at_most(case.number, claim, shown, beside_warm, ratio(ours, warm), 1.5, **facts)
    table += [row if case.judged else bars.context(row), beside_steady]
    assert len(ours.samples) == len(warm.samples) == ROUNDS


@pytest.mark.benchmark(group="parked", timer=CLOCK)
@pytest.mark.parametrize("name", [PARKED, WARM])
def test_parked_beside_warm(
    benchmark: BenchmarkFixture, measured_case: tuple[Case, dict[str, Side]], name: str, replay: Replay
) -> None:
    case, sides = measured_case
    replay(benchmark, sides[name], WARM if name == PARKED else PARKED)
    benchmark.extra_info["handler"] = case.handler + (", warm-up event" if case.warmed else "")

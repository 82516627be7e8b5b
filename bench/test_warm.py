"""Warm invocations from one keep-alive client: ours and the emulator's with AWS's client, in alternating blocks."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, peers
from bench.client import Connection
from bench.conftest import Replay
from bench.events import prepared_requests
from bench.measure import CLOCK, Side, interleave, ratio

ROUNDS = 30
BLOCK = 100
"""Invokes in a row on one side before the other's turn."""
OURS, PEER = "lamplighter, warm", "emulator + awslambdaric, warm"
HANDLER = "trivial.handler"


@pytest.fixture(scope="module")
def sides() -> dict[str, Side]:
    requests = prepared_requests(seed=31)
    with (
        peers.lamplighter(HANDLER, "--parked", "1") as host,
        peers.emulator(HANDLER) as emulator,
        Connection(host.address) as ours,
        Connection(emulator.address) as theirs,
    ):
        for _ in range(BLOCK):
            ours.invoke(next(requests))
            theirs.invoke(next(requests))

        def block(connection: Connection) -> list[float]:
            return [connection.invoke(next(requests)) for _ in range(BLOCK)]

        return interleave({OURS: lambda: block(ours), PEER: lambda: block(theirs)}, ROUNDS)


def test_a_warm_invocation_takes_a_fraction_of_the_emulators_time(
    sides: dict[str, Side], table: list[bars.Row]
) -> None:
    ours, peer = sides[OURS], sides[PEER]
    shown, other = f"{ours.p50 * 1e3:.3g} ms", f"{peer.p50 * 1e3:.3g} ms ({PEER})"
    claim = "warm invocation, one keep-alive client, 1 KB event: p50"
    table.append(
        bars.ratio_at_most(
            "3", claim, shown, other, ratio(ours, peer), 0.3, our_times=ours.facts(), peer_times=peer.facts()
        )
    )
    assert len(ours.samples) == len(peer.samples) == ROUNDS * BLOCK


@pytest.mark.benchmark(group="warm", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, PEER])
def test_warm_invocation(benchmark: BenchmarkFixture, sides: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, sides[name], PEER if name == OURS else OURS)

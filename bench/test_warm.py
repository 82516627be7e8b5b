"""Warm invocations from one keep-alive client: ours and the emulator's with AWS's client, in alternating blocks."""

from __future__ import annotations

import contextlib
import functools

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
WEB = {"uvicorn": peers.uvicorn, "granian": peers.granian, "gunicorn": peers.gunicorn}
"""Web servers with one process and the same handler: no peers in what they do, and so without a bar."""
HANDLER = "trivial.handler"


@pytest.fixture(scope="module")
def sides() -> dict[str, Side]:
    requests = prepared_requests(seed=31)
    with (
        peers.lamplighter(HANDLER, "--parked", "1") as host,
        peers.emulator(HANDLER) as emulator,
        contextlib.ExitStack() as stack,
    ):
        addresses = {OURS: host.address, PEER: emulator.address}
        addresses |= {name: stack.enter_context(started(1)).address for name, started in WEB.items()}
        connections = {name: stack.enter_context(Connection(address)) for name, address in addresses.items()}

        def block(connection: Connection) -> list[float]:
            return [connection.invoke(next(requests)) for _ in range(BLOCK)]

        for connection in connections.values():
            block(connection)
        return interleave({name: functools.partial(block, to) for name, to in connections.items()}, ROUNDS)


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
@pytest.mark.parametrize("name", [OURS, PEER, *WEB])
def test_warm_invocation(benchmark: BenchmarkFixture, sides: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, sides[name], PEER if name == OURS else OURS)
    benchmark.extra_info["handler"] = HANDLER

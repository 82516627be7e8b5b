"""Runtime clients on one Runtime API: what an invocation costs them, and how long they take to the first one.

Ours and AWS's run against one server program each, started for them alone, in turns within the run, anew in each round.
The server hands an event out the moment it is asked, so that a cycle is the client's time and its round trips on
loopback.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars
from bench.conftest import Replay
from bench.measure import CLOCK, Side, interleave, ratio
from bench.runtime_api import OURS, PEER, Body, RuntimeAPI, client, http_api_bodies, queue_bodies

ROUNDS = 30
WARMING, BLOCK = 100, 100
"""Invocations in a row on one side before the other's turn: not counted, counted."""
STARTS = 40
APART = "lamplighter.bootstrap, answer and next apart"
BARE = "python -c pass"
SEPARATE = {"LAMPLIGHTER_ONE_SEND": "0"}


def _warm(
    module: str, handler: str, bodies: list[Body], environment: Mapping[str, str] | None = None
) -> Callable[[], list[float]]:
    """A block that starts a client, warms it, and serves it :data:`BLOCK` invocations; the seconds of each.

    A new one each time: whether a client and the server share a processor or wake each other across two is settled
    within the first second, and a cycle of one that sleeps twice takes half or double of the time by it.
    """

    def block() -> list[float]:
        with RuntimeAPI(bodies) as api, client(module, handler, api.address, environment):
            api.parked(1)
            api.serve(WARMING)
            cycles = api.serve(BLOCK)[1]
            assert api.errors() == 0
        return cycles

    return block


@pytest.fixture(scope="module")
def small() -> dict[str, Side]:
    """Per side, the cycles of 1 KB events."""
    handler, bodies = "trivial.handler", http_api_bodies()
    ours, apart = _warm(OURS, handler, bodies), _warm(OURS, handler, bodies, SEPARATE)
    return interleave({OURS: ours, APART: apart, PEER: _warm(PEER, handler, bodies)}, ROUNDS)


@pytest.fixture(scope="module")
def large() -> dict[str, Side]:
    """Per side, the cycles of 60 KB events."""
    handler, bodies = "batch.handler", queue_bodies()
    return interleave({OURS: _warm(OURS, handler, bodies), PEER: _warm(PEER, handler, bodies)}, ROUNDS)


def _start(module: str) -> list[float]:
    with RuntimeAPI(http_api_bodies(1)) as api:
        began = time.monotonic_ns()
        with client(module, "nothing.handler", api.address):
            return [(api.parked(1) - began) / 1e9]


def _bare() -> list[float]:
    began = time.monotonic_ns()
    subprocess.run([sys.executable, "-c", "pass"], stdin=subprocess.DEVNULL, check=True)
    return [(time.monotonic_ns() - began) / 1e9]


@pytest.fixture(scope="module")
def starts() -> dict[str, Side]:
    """Per side, the seconds from its spawn to the first ``next``; for the bare interpreter, to its end."""
    for module in (OURS, PEER):  # whoever is first pays for cold caches of files
        _start(module)
    return interleave({OURS: lambda: _start(OURS), PEER: lambda: _start(PEER), BARE: _bare}, STARTS)


@pytest.mark.parametrize(
    ("number", "size", "side", "claim", "limit"),
    [
        ("7a", "small", APART, "invocation over the Runtime API, 1 KB event, answer and next apart: p50", 0.4),
        ("7b", "small", OURS, "the same, answer and next in one send: p50", 0.25),
        ("7c", "large", OURS, "the same with a 60 KB event: p50", 0.6),
    ],
)
def test_an_invocation_takes_a_fraction_of_awslambdarics_time(
    request: pytest.FixtureRequest,
    number: str,
    size: str,
    side: str,
    claim: str,
    limit: float,
    table: list[bars.Row],
) -> None:
    sides: dict[str, Side] = request.getfixturevalue(size)
    ours, peer = sides[side], sides[PEER]
    shown, other = f"{ours.p50 * 1e6:.3g} µs", f"{peer.p50 * 1e6:.3g} µs ({PEER})"
    table.append(
        bars.ratio_at_most(
            number, claim, shown, other, ratio(ours, peer), limit, our_times=ours.facts(), peer_times=peer.facts()
        )
    )
    assert len(ours.samples) == len(peer.samples) == ROUNDS * BLOCK


def test_a_start_adds_little_to_pythons_own(starts: dict[str, Side], table: list[bars.Row]) -> None:
    ours, peer, bare = starts[OURS], starts[PEER], starts[BARE]
    added = (ours.p50 - bare.p50) * 1e3
    table.append(
        bars.at_most(
            "8a",
            f"spawn to first next, a handler that imports nothing, over {BARE} ({bare.p50 * 1e3:.3g} ms): p50",
            added,
            15,
            "ms",
            our_times=ours.facts(),
            peer_times=peer.facts(),
            bare_times=bare.facts(),
        )
    )
    table.append(
        bars.context(
            bars.ratio_at_most(
                "8a+",
                "spawn to first next, a handler that imports nothing: p50",
                f"{ours.p50 * 1e3:.3g} ms",
                f"{peer.p50 * 1e3:.3g} ms ({PEER})",
                ratio(ours, peer),
                1,
            )
        )
    )
    assert len(ours.samples) == len(bare.samples) == STARTS


@pytest.mark.benchmark(group="runtime-api-loop-1KB", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, APART, PEER])
def test_cycle_1_kb(benchmark: BenchmarkFixture, small: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, small[name], PEER if name != PEER else OURS)


@pytest.mark.benchmark(group="runtime-api-loop-60KB", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, PEER])
def test_cycle_60_kb(benchmark: BenchmarkFixture, large: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, large[name], PEER if name != PEER else OURS)


@pytest.mark.benchmark(group="runtime-api-loop-start", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, PEER, BARE])
def test_start(benchmark: BenchmarkFixture, starts: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, starts[name], PEER if name != PEER else OURS)

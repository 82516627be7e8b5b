"""Warm throughput: eight keep-alive clients on two workers, beside the emulator (one client) and a bare ASGI server.

The load generator is the same program in a process of its own for all three, and shares the cores with the server: a
figure here is what is left for serving, which is why only ratios of one run are claimed.
"""

from __future__ import annotations

import functools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, peers
from bench.client import load_from_own_process
from bench.conftest import Replay
from bench.measure import CLOCK, Side, interleave, ratio

ROUNDS = 12
"""Many short rounds: how a server with several processes shares out eight connections is a matter of luck each time."""
SECONDS = 1.2
CLIENTS = 8
WORKERS = 2
OURS, EMULATOR, UVICORN = "lamplighter, 2 workers", "emulator + awslambdaric", "uvicorn, 2 processes"
GRANIAN, GUNICORN = "granian, 2 processes", "gunicorn, 2 processes"
HANDLER = "trivial.handler"


@pytest.fixture(scope="module")
def sides() -> dict[str, Side]:
    """Per side, one sample a round: seconds of wall time per answered request."""
    seeds = iter(range(100, 100 + 10 * ROUNDS))
    with (
        peers.lamplighter(HANDLER, "--parked", str(WORKERS), "--concurrency", str(WORKERS), "--queue", "64") as host,
        peers.emulator(HANDLER) as emulator,
        peers.uvicorn(WORKERS) as uvicorn,
        peers.granian(WORKERS) as granian,
        peers.gunicorn(WORKERS) as gunicorn,
    ):
        servers = {OURS: host, EMULATOR: emulator, UVICORN: uvicorn, GRANIAN: granian, GUNICORN: gunicorn}

        def block(name: str, seconds: float = SECONDS) -> list[float]:
            clients = 1 if name == EMULATOR else CLIENTS
            load = load_from_own_process(servers[name].address, clients, seconds, next(seeds))
            return [1 / load.per_second]

        # First requests start runtimes and fill caches; they belong to no round.
        for name in servers:
            block(name, 0.5)
        return interleave({name: functools.partial(block, name) for name in servers}, ROUNDS)


@pytest.mark.parametrize(("number", "peer", "limit"), [("4a", EMULATOR, 8.0), ("4b", UVICORN, 0.5)])
def test_throughput_is_a_multiple_of_the_emulators_and_a_good_part_of_a_bare_server(
    sides: dict[str, Side], number: str, peer: str, limit: float, table: list[bars.Row]
) -> None:
    mine, other = sides[OURS], sides[peer]
    clients = 1 if peer == EMULATOR else CLIENTS
    table.append(
        bars.ratio_at_least(
            number,
            f"warm throughput, {CLIENTS} keep-alive clients",
            f"{1 / mine.p50:.0f}/s",
            f"{1 / other.p50:.0f}/s ({peer}, {clients} client{'s' if clients > 1 else ''})",
            ratio(other, mine),
            limit,
            ours_per_second=[round(1 / sample) for sample in mine.samples],
            peer_per_second=[round(1 / sample) for sample in other.samples],
        )
    )
    assert len(mine.samples) == len(other.samples) == ROUNDS


@pytest.mark.benchmark(group="warm-throughput", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, EMULATOR, UVICORN, GRANIAN, GUNICORN])
def test_seconds_per_request(benchmark: BenchmarkFixture, sides: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, sides[name], OURS if name != OURS else UVICORN)
    benchmark.extra_info["requests_per_second"] = round(1 / sides[name].p50)

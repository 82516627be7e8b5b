"""Density: a thousand parked workers of a function that uses the standard library, and what they all weigh together.

The weight is the proportional set size of the host's whole process tree, host and template included. A second host with
nothing parked says how many processes the house itself needs, so that a lost worker cannot hide behind another process.
"""

from __future__ import annotations

import itertools
import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, peers, processes
from bench.client import Connection
from bench.conftest import Replay
from bench.events import prepared_requests
from bench.measure import CLOCK, Side

WORKERS = 1000
LIMIT_GIB = 2.0
HANDLER = "stdlib_web.handler"


@pytest.fixture(scope="module")
def house() -> dict[str, float]:
    """PSS in bytes, seconds until all were parked, and process counts with and without the workers."""
    with peers.lamplighter(HANDLER, "--parked", "0", "--concurrency", str(WORKERS)) as empty:
        own = len(processes.tree(empty.pid))
    start = time.perf_counter()
    with peers.lamplighter(
        HANDLER, "--parked", str(WORKERS), "--concurrency", str(WORKERS), memory=128, ready_within=200
    ) as host:
        facts = peers.wait_ready(host, 120, parked=WORKERS)
        took = time.perf_counter() - start
        members = processes.tree(host.pid)
        weight = processes.pss_bytes(members)
        still = peers.wait_ready(host, 10)
        with Connection(host.address) as connection:
            for request in itertools.islice(prepared_requests(seed=41), 20):
                connection.invoke(request)
        return {
            "pss": weight,
            "seconds": took,
            "processes": len(members),
            "house": own,
            "parked": facts["parked"],
            "parked_after": still["parked"],
        }


def test_a_thousand_parked_workers_fit_in_two_gibibytes(house: dict[str, float], table: list[bars.Row]) -> None:
    gib = house["pss"] / 2**30
    table.append(
        bars.at_most(
            "5a",
            f"{WORKERS} parked stdlib workers, PSS of the whole tree",
            gib,
            LIMIT_GIB,
            "GiB",
            processes=house["processes"],
            mib_per_worker=round(house["pss"] / WORKERS / 2**20, 3),
        )
    )
    found = int(house["processes"] - house["house"])
    # An environment may be more than one process (a keeper of its namespaces beside the worker), but always as many.
    whole = found >= WORKERS and found % WORKERS == 0 and house["parked"] == house["parked_after"] == WORKERS
    shown = f"{int(house['parked_after'])} parked, {found} processes of theirs"
    bar = f"= {WORKERS}, processes a whole multiple"
    table.append(bars.Row("5b", "parked workers, none lost", shown, bar=bar, reached=whole))
    assert house["parked"] == house["parked_after"] == WORKERS
    assert found >= WORKERS, "readyz counts workers that have no process"


@pytest.mark.benchmark(group="density", timer=CLOCK)
def test_seconds_until_all_are_parked(benchmark: BenchmarkFixture, house: dict[str, float], replay: Replay) -> None:
    replay(benchmark, Side("lamplighter, 1000 parked", [[house["seconds"]]]), "none")
    benchmark.extra_info["pss_mib"] = round(house["pss"] / 2**20, 1)
    benchmark.extra_info["mib_per_worker"] = round(house["pss"] / WORKERS / 2**20, 3)


FEW = 8
"""Processes or environments that are weighed beside one."""
BOTO3 = "boto3_client.handler"


def _weight(server: peers.Server) -> float:
    return processes.pss_bytes(processes.tree(server.pid)) / 2**20


@pytest.fixture(scope="module")
def each() -> dict[str, float]:
    """MiB that one more worker of the boto3 function adds, ours and as others do it.

    Ours and the bare fork share an imported template; with the emulator every environment is a process of its own.
    """
    requests = prepared_requests(seed=43)
    weights: dict[str, float] = {}
    found: list[float] = []
    for count in (1, 1 + FEW):
        with peers.lamplighter(BOTO3, "--parked", str(count), "--concurrency", str(count)) as host:
            peers.wait_ready(host, 60, parked=count)
            found.append(_weight(host))
    weights["lamplighter, parked"] = (found[1] - found[0]) / FEW
    with peers.lamplighter(BOTO3, "--parked", "0", "--concurrency", "1") as host:
        found = [_weight(host)]
        with Connection(host.address) as connection:
            connection.invoke(next(requests))
        found.append(_weight(host))
    weights["lamplighter, invoked once"] = found[1] - found[0]
    with peers.emulator(BOTO3) as emulator:
        empty = _weight(emulator)
        with Connection(emulator.address) as connection:
            connection.invoke(next(requests))
        weights["awslambdaric, invoked once"] = _weight(emulator) - empty
    return weights


def test_a_worker_that_shares_its_template_weighs_less_than_a_process_of_its_own(
    each: dict[str, float], table: list[bars.Row]
) -> None:
    for number, (name, mib) in enumerate(each.items()):
        table.append(
            bars.Row(f"5c{number}", f"one more environment of the boto3 handler, PSS: {name}", f"{mib:.3g} MiB")
        )
    assert 0 < each["lamplighter, parked"] < each["awslambdaric, invoked once"]


@pytest.mark.benchmark(group="density", timer=CLOCK)
def test_memory_of_one_more_environment(benchmark: BenchmarkFixture, each: dict[str, float], replay: Replay) -> None:
    # pytest-benchmark knows times only: the figures are in the table and in extra_info.
    replay(benchmark, Side("memory, no time", [[0.0]]), "none")
    benchmark.extra_info["mib_per_worker_boto3"] = {name: round(mib, 3) for name, mib in each.items()}

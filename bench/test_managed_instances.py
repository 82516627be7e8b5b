"""Sixteen workers of one function, as on Lambda Managed Instances: how soon they are ready, what they cost and weigh.

The function imports numpy and makes an AWS client at init. Both clients get the same variables and the same server.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, processes
from bench.conftest import Replay
from bench.measure import CLOCK, Side, interleave, ratio
from bench.runtime_api import OURS, PEER, RuntimeAPI, client, cpu_seconds, http_api_bodies

pytest.importorskip("numpy", reason="the function of this suite imports it")

WORKERS = 16
STARTS = 7
ROUNDS = 15
BLOCK = 2000
"""Invocations in a row on one side before the other's turn, on all its workers together."""
HANDLER = "numpy_boto3.handler"
MANAGED = {
    "AWS_LAMBDA_MAX_CONCURRENCY": str(WORKERS),
    "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
}
USED = 25
"""Invocations a worker has had when the tree is weighed: a worker that never ran weighs too little."""


class Starts:
    """Starts both clients in turns. Ready: all workers wait in ``next``. Each start is one sample of each figure."""

    def __init__(self) -> None:
        self.cpu: dict[str, list[float]] = {OURS: [], PEER: []}
        self.pss: dict[str, list[float]] = {OURS: [], PEER: []}

    def once(self, module: str) -> list[float]:
        """The seconds from the spawn to ready; CPU seconds and the PSS after some use are noted aside."""
        with RuntimeAPI(http_api_bodies()) as api:
            began = time.monotonic_ns()
            with client(module, HANDLER, api.address, MANAGED) as process:
                ready = api.parked(WORKERS, 120)
                self.cpu[module].append(cpu_seconds(process.pid))
                api.serve(WORKERS * USED)
                assert api.errors() == 0
                self.pss[module].append(processes.pss_bytes(processes.tree(process.pid)))
                return [(ready - began) / 1e9]


@pytest.fixture(scope="module")
def starts() -> tuple[Starts, dict[str, Side]]:
    measured = Starts()
    for module in (OURS, PEER):  # cold caches of files belong to no round
        measured.once(module)
    measured = Starts()
    sides = interleave({OURS: lambda: measured.once(OURS), PEER: lambda: measured.once(PEER)}, STARTS)
    return measured, sides


@pytest.fixture(scope="module")
def rates() -> Iterator[dict[str, Side]]:
    """Per side, one sample a round: seconds of wall time per invocation, on all workers together."""
    with ExitStack() as stack:
        servers = {}
        for module in (OURS, PEER):
            api = stack.enter_context(RuntimeAPI(http_api_bodies()))
            stack.enter_context(client(module, HANDLER, api.address, MANAGED))
            api.parked(WORKERS, 120)
            api.serve(WORKERS * USED)
            servers[module] = api

        def block(module: str) -> list[float]:
            return [servers[module].serve(BLOCK)[0] / BLOCK]

        yield interleave({OURS: lambda: block(OURS), PEER: lambda: block(PEER)}, ROUNDS)
        assert all(api.errors() == 0 for api in servers.values())


def _side(name: str, samples: list[float]) -> Side:
    return Side(name, [[sample] for sample in samples])


def test_workers_are_ready_sooner_for_less_work_and_memory(
    starts: tuple[Starts, dict[str, Side]], table: list[bars.Row]
) -> None:
    measured, ready = starts
    what = f"{WORKERS} workers, numpy and a boto3 client at init"
    table.append(
        bars.ratio_at_most(
            "9a",
            f"{what}: spawn until all wait in next",
            f"{ready[OURS].p50:.3g} s",
            f"{ready[PEER].p50:.3g} s ({PEER})",
            ratio(ready[OURS], ready[PEER]),
            1 / 3,
            our_times=ready[OURS].facts(),
            peer_times=ready[PEER].facts(),
        )
    )
    cpu = {name: _side(name, samples) for name, samples in measured.cpu.items()}
    table.append(
        bars.ratio_at_most(
            "9b",
            f"{what}: CPU until then",
            f"{cpu[OURS].p50:.3g} s",
            f"{cpu[PEER].p50:.3g} s ({PEER})",
            ratio(cpu[OURS], cpu[PEER]),
            1 / 6,
        )
    )
    pss = {name: _side(name, samples) for name, samples in measured.pss.items()}
    table.append(
        bars.ratio_at_most(
            "9c",
            f"{what}: PSS of the tree after {USED} invocations a worker",
            f"{pss[OURS].p50 / 2**20:.4g} MiB",
            f"{pss[PEER].p50 / 2**20:.4g} MiB ({PEER})",
            ratio(pss[OURS], pss[PEER]),
            1 / 5,
            our_mib=[round(sample / 2**20, 1) for sample in measured.pss[OURS]],
            peer_mib=[round(sample / 2**20, 1) for sample in measured.pss[PEER]],
        )
    )
    assert len(measured.pss[OURS]) == len(measured.pss[PEER]) == STARTS


def test_throughput_is_not_lower(rates: dict[str, Side], table: list[bars.Row]) -> None:
    ours, peer = rates[OURS], rates[PEER]
    table.append(
        bars.ratio_at_least(
            "9d",
            f"throughput of the {WORKERS} workers, 1 KB event",
            f"{1 / statistics.median(ours.samples):.0f}/s",
            f"{1 / statistics.median(peer.samples):.0f}/s ({PEER})",
            ratio(peer, ours),
            1,
        )
    )
    assert len(ours.samples) == len(peer.samples) == ROUNDS


@pytest.mark.benchmark(group="managed-concurrency-ready", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, PEER])
def test_seconds_until_ready(
    benchmark: BenchmarkFixture, starts: tuple[Starts, dict[str, Side]], name: str, replay: Replay
) -> None:
    measured, sides = starts
    replay(benchmark, sides[name], PEER if name == OURS else OURS)
    benchmark.extra_info["cpu_seconds"] = measured.cpu[name]
    benchmark.extra_info["pss_mib"] = [round(sample / 2**20, 1) for sample in measured.pss[name]]


@pytest.mark.benchmark(group="managed-concurrency-throughput", timer=CLOCK)
@pytest.mark.parametrize("name", [OURS, PEER])
def test_seconds_per_invocation(benchmark: BenchmarkFixture, rates: dict[str, Side], name: str, replay: Replay) -> None:
    replay(benchmark, rates[name], PEER if name == OURS else OURS)

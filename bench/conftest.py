"""What every suite here shares: the table of bars, and the way interleaved samples reach pytest-benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars
from bench.measure import CLOCK, Side, ratio

RESULTS = Path(__file__).resolve().parent / "results"
_ROWS = pytest.StashKey[list[bars.Row]]()

Replay = Callable[[BenchmarkFixture, Side, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-bars", action="store_true", help="exit with status 1 if a measured bar is not reached")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).resolve().parent
    for item in items:
        if item.path.parent == here:
            # One module-wide fixture measures for all the tests that replay it, and counts for the first of them.
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> list[bars.Row]:
    """The rows so far; a suite appends its own."""
    return pytestconfig.stash[_ROWS]


@pytest.fixture(scope="session")
def replay() -> Replay:
    """Show a measured side in pytest-benchmark's table and JSON: ``replay(benchmark, side, peer)``.

    With a peer of the same rounds the ratio to it is kept, and each round's medians, which is what two runs can be
    compared by (:mod:`bench.compare`).
    """

    def show(benchmark: BenchmarkFixture, side: Side, compared_with: str) -> None:
        CLOCK.load(side.samples)
        benchmark.extra_info.update(side.facts(), server=side.name, compared_with=compared_with, **side.extra)
        peer = side.beside.get(compared_with)
        if peer is not None and peer is not side:
            benchmark.extra_info["ratio"] = asdict(ratio(side, peer))
        rounds = [[statistics.median(one)] for one in side.rounds]
        for mine, other in zip(rounds, peer.rounds if peer is not None else (), strict=False):
            mine.append(statistics.median(other))
        benchmark.extra_info["round_medians"] = rounds
        pedantic: Callable[..., object] = benchmark.pedantic
        pedantic(CLOCK.advance, rounds=len(side.samples), iterations=1)

    return show


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["facts"] = bars.machine_facts()


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: object, output_json: dict[str, Any]) -> None:
    output_json["bars"] = [asdict(row) for row in sorted(config.stash[_ROWS], key=lambda row: row.number)]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    missed = any(row.reached is False for row in session.config.stash[_ROWS])
    if missed and session.config.getoption("--require-bars") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if rows:
        terminalreporter.write_sep("=", "bars")
        terminalreporter.write_line(bars.write(rows, RESULTS))
        terminalreporter.write_line(f"written to {RESULTS}/bars.md and bars.json")

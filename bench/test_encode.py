"""Encoding what handlers mostly return: instructions by callgrind, and wall time beside orjson, msgspec and json."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, codec_times, instructions, returns
from bench.coding import JSON, LIBRARIES, ORJSON, OURS
from bench.conftest import Replay
from bench.measure import CLOCK, Side, ratio


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Instructions an encode, by kind of result and library; the values are made anew for each."""
    if reason := instructions.missing():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("callgrind")
    shim = instructions.build_shim(place)
    return {name: instructions.per_call(shim, "encode", name, place) for name in returns.RETURNS}


def test_encoding_plain_results_costs_little_more_than_orjson(
    counted: dict[str, dict[str, float]], table: list[bars.Row]
) -> None:
    rows = [
        bars.count_at_most(f"10e+ {name}", f"encode, {name}", found[OURS], found[ORJSON], ORJSON, 1.3, **found)
        for name, found in counted.items()
    ]
    worst = max(counted, key=lambda name: counted[name][OURS] / counted[name][ORJSON])
    found = counted[worst]
    claim = f"encode, the worst of {len(counted)} kinds of plain results: {worst}"
    table.append(bars.count_at_most("10e", claim, found[OURS], found[ORJSON], ORJSON, 1.3, **found))
    table += map(bars.context, rows)
    for name, of_libraries in counted.items():
        ours, peer = of_libraries[f"{OURS}, ascii"], of_libraries[f"{JSON}, ascii"]
        row = bars.count_at_most(f"10f+ {name}", f"encode, all escaped to ASCII, {name}", ours, peer, JSON, 1)
        table.append(bars.context(row))
    assert all(found.keys() >= set(LIBRARIES) for found in counted.values())


@pytest.fixture(scope="module")
def rounds() -> dict[str, dict[str, Side]]:
    return codec_times.measured("encode")


@pytest.fixture(scope="module", params=returns.RETURNS)
def timed(request: pytest.FixtureRequest, rounds: dict[str, dict[str, Side]]) -> tuple[str, dict[str, Side]]:
    """Seconds an encode; every block encodes values that nobody has encoded before."""
    return request.param, rounds[request.param]


def test_wall_time_beside_orjson(timed: tuple[str, dict[str, Side]], table: list[bars.Row]) -> None:
    name, sides = timed
    facts: dict[str, object] = {library: side.facts() for library, side in sides.items()}
    shown, other = (f"{sides[library].p50 * 1e6:.3g} µs" for library in (OURS, ORJSON))
    table.append(
        bars.Row(
            f"10e+ {name}, time",
            f"encode, {name}: wall time",
            shown,
            f"{other} ({ORJSON})",
            f"{ratio(sides[OURS], sides[ORJSON])}x",
            facts=facts,
        )
    )
    assert all(len(side.samples) == codec_times.ROUNDS * codec_times.BLOCKS for side in sides.values())


@pytest.mark.benchmark(group="encode", timer=CLOCK)
@pytest.mark.parametrize("library", LIBRARIES)
def test_encode(benchmark: BenchmarkFixture, timed: tuple[str, dict[str, Side]], library: str, replay: Replay) -> None:
    replay(benchmark, timed[1][library], ORJSON)

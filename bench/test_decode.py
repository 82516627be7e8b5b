"""Decoding events of shapes seen before, and of none: instructions by callgrind, and wall time in turns with the peers.

Every loop decodes each of its inputs once. A decoder starts empty, sees other events of the same source first, as in a
function's life, and is then measured on events it has never seen.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bars, codec_times, instructions, sources
from bench.coding import LIBRARIES, ORJSON, OURS
from bench.conftest import Replay
from bench.measure import CLOCK, Side, ratio

Counts = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """Instructions a decode, its value freed, by source and library."""
    if reason := instructions.missing():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("callgrind")
    shim = instructions.build_shim(place)
    return {name: instructions.per_call(shim, "decode", name, place) for name in (*sources.SOURCES, *sources.UNKNOWN)}


def _ratio(found: dict[str, float], suffix: str = "") -> float:
    return found[OURS + suffix] / found[ORJSON + suffix]


def test_events_of_a_known_shape_cost_a_fraction_of_orjson(counted: Counts, table: list[bars.Row]) -> None:
    judged = [counted[name] for name in sources.JUDGED]
    ours, peer = ([found[library] for found in judged] for library in (OURS, ORJSON))
    claim = f"decode, repeated shapes, fresh values: geometric mean of {len(judged)} sources"
    table.append(bars.count_at_most("10a", claim, _geometric_mean(ours), _geometric_mean(peer), ORJSON, 0.6))
    worst = max(sources.JUDGED, key=lambda name: _ratio(counted[name]))
    claim = f"decode, repeated shapes: the worst of them, {worst}"
    table.append(bars.count_at_most("10b", claim, counted[worst][OURS], counted[worst][ORJSON], ORJSON, 0.8))
    for name in sources.SOURCES:
        found = counted[name]
        row = bars.count_at_most(f"10b+ {name}", f"decode, {name}", found[OURS], found[ORJSON], ORJSON, 0.8, **found)
        table.append(bars.context(row))
    assert all(found.keys() >= set(LIBRARIES) for found in counted.values())


def _geometric_mean(counts: list[float]) -> float:
    return math.exp(math.fsum(map(math.log, counts)) / len(counts))


def test_documents_of_unknown_shape_cost_hardly_more_than_orjson(counted: Counts, table: list[bars.Row]) -> None:
    worst = max(sources.UNKNOWN, key=lambda name: _ratio(counted[name]))
    for name in sources.UNKNOWN:
        found = counted[name]
        claim = f"decode, a new shape every time: {name}"
        row = bars.count_at_most(f"10c+ {name}", claim, found[OURS], found[ORJSON], ORJSON, 1.1, **found)
        table.append(bars.context(row))
        if name == worst:
            table.append(replace(row, number="10c", claim=f"decode, a new shape every time, the worst kind: {name}"))


def test_decoding_and_reading_every_leaf_costs_no_more_than_with_orjson(counted: Counts, table: list[bars.Row]) -> None:
    suffix = ", reading"
    rows = {}
    for name in sources.SOURCES:
        found = counted[name]
        claim = f"decode and read every leaf once, {name}"
        rows[name] = bars.count_at_most("10d", claim, found[OURS + suffix], found[ORJSON + suffix], ORJSON, 1.0)
    worst = max(sources.SOURCES, key=lambda name: _ratio(counted[name], suffix))
    table.append(replace(rows[worst], claim=f"decode and read every leaf once, the worst source: {worst}"))
    table += [bars.context(replace(row, number=f"10d+ {name}")) for name, row in rows.items()]


@pytest.fixture(scope="module")
def rounds() -> dict[str, dict[str, Side]]:
    return codec_times.measured("decode")


@pytest.fixture(scope="module", params=[*sources.SOURCES, *sources.UNKNOWN])
def timed(request: pytest.FixtureRequest, rounds: dict[str, dict[str, Side]]) -> tuple[str, dict[str, Side]]:
    """Seconds a decode. All libraries see the same bodies, each of them once."""
    return request.param, rounds[request.param]


def test_wall_time_beside_orjson(timed: tuple[str, dict[str, Side]], table: list[bars.Row]) -> None:
    name, sides = timed
    facts: dict[str, object] = {library: side.facts() for library, side in sides.items()}
    shown, other = (f"{sides[library].p50 * 1e6:.3g} µs" for library in (OURS, ORJSON))
    number = f"10c+ {name}, time" if name in sources.UNKNOWN else f"10b+ {name}, time"
    found = f"{ratio(sides[OURS], sides[ORJSON])}x"
    table.append(bars.Row(number, f"decode, {name}: wall time", shown, f"{other} ({ORJSON})", found, facts=facts))
    assert all(len(side.samples) == codec_times.ROUNDS * codec_times.BLOCKS for side in sides.values())


@pytest.mark.benchmark(group="decode", timer=CLOCK)
@pytest.mark.parametrize("library", LIBRARIES)
def test_decode(benchmark: BenchmarkFixture, timed: tuple[str, dict[str, Side]], library: str, replay: Replay) -> None:
    replay(benchmark, timed[1][library], ORJSON)

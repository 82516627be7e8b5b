"""Statistics and the table: medians, intervals, interleaving, replay, verdicts."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.coding import LIBRARIES

from bench import bars, codec_times, measure, returns

TIMES = st.floats(min_value=1e-6, max_value=10.0)


@given(st.lists(TIMES, min_size=1, max_size=50), st.integers(min_value=1, max_value=100))
def test_a_percentile_is_the_smallest_sample_that_enough_samples_do_not_exceed(
    times: list[float], percent: int
) -> None:
    found = measure.percentile(times, percent)
    assert found in times
    assert sum(time <= found for time in times) * 100 >= percent * len(times)
    assert sum(time < found for time in times) * 100 < percent * len(times)


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], 0), ([1.0], 100.5)])
def test_a_percentile_of_nothing_or_out_of_range_is_refused(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        measure.percentile(samples, percent)


def test_sides_take_turns_and_every_second_round_goes_backwards() -> None:
    order: list[str] = []

    def block(name: str) -> Sequence[float]:
        order.append(name)
        return [1.0, 2.0]

    sides = measure.interleave({name: lambda name=name: block(name) for name in "abc"}, rounds=3)  # type: ignore[misc]
    assert "".join(order) == "abccbaabc"
    assert sides["b"].rounds == [[1.0, 2.0]] * 3
    assert sides["b"].samples == [1.0, 2.0] * 3


def test_a_block_that_measures_nothing_is_an_error_not_a_missing_sample() -> None:
    with pytest.raises(ValueError, match="measured nothing in round 0"):
        measure.interleave({"empty": list}, rounds=2)
    with pytest.raises(ValueError, match="at least one"):
        measure.interleave({}, rounds=2)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=20))
def test_a_ratio_is_that_of_the_medians_and_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    over = measure.Side("over", [[a] for a, _ in pairs])
    under = measure.Side("under", [[b] for _, b in pairs])
    found = measure.ratio(over, under, resamples=50)
    assert found.value == statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    assert found.low <= found.value <= found.high


def test_drift_that_meets_both_sides_alike_hardly_widens_the_interval() -> None:
    drift = [1.0 + turn / 10 for turn in range(20)]
    over = measure.Side("over", [[2 * slow] for slow in drift])
    under = measure.Side("under", [[slow] for slow in drift])
    found = measure.ratio(over, under)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_ratio_of_sides_with_different_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1 and 2"):
        measure.ratio(measure.Side("a", [[1.0]]), measure.Side("b", [[1.0], [2.0]]))


@given(st.lists(TIMES, min_size=1, max_size=50))
def test_the_replay_clock_shows_each_sample_as_the_time_between_two_readings(times: list[float]) -> None:
    clock = measure.ReplayClock()
    clock.load(times)
    shown: list[float] = []
    for _ in times:
        before = clock()
        clock.advance()
        shown.append(clock() - before)
    assert shown == pytest.approx(times)
    with pytest.raises(IndexError):
        clock.advance()


def test_a_bar_is_reached_at_its_limit_and_missed_beyond_it() -> None:
    exact = measure.Ratio(8.0, 7.0, 9.0)
    assert bars.at_most("1", "c", 10.0, 10, "ms").verdict == "yes"
    assert bars.at_most("1", "c", 10.01, 10, "ms").verdict == "NO"
    assert bars.ratio_at_least("4", "c", "o", "p", exact, 8.0).reached is True
    assert bars.ratio_at_least("4", "c", "o", "p", exact, 8.1).reached is False
    assert bars.ratio_at_most("3", "c", "o", "p", exact, 8.0).reached is True
    assert bars.ratio_at_most("3", "c", "o", "p", exact, 7.9).reached is False
    assert bars.Row("0", "context", "1 ms").verdict == "-"


def test_the_table_is_written_in_order_as_markdown_and_json_with_the_machines_facts(tmp_path: Path) -> None:
    rows = [
        bars.ratio_at_most("3", "warm | p50", "0.1 ms", "1 ms", measure.Ratio(0.1, 0.09, 0.11), 0.3, samples=5),
        bars.at_most("1", "cold", 12.0, 10, "ms"),
        bars.Row("2+", "context", "1 ms"),
    ]
    text = bars.write(rows, tmp_path / "results")
    assert text == (tmp_path / "results" / "bars.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[1:] == [
        "| 1 | cold | 12 ms | - | - | ≤ 10 ms | NO |",
        "| 2+ | context | 1 ms | - | - | - | - |",
        "| 3 | warm \\| p50 | 0.1 ms | 1 ms | 0.1 [0.09, 0.11]x | ≤ 0.3x | yes |",
    ]
    assert "1 of 2 bars reached." in text
    stored = json.loads((tmp_path / "results" / "bars.json").read_text())
    assert [row["reached"] for row in stored["rows"]] == [False, None, True]
    assert stored["rows"][2]["facts"] == {"samples": 5}
    assert {"kernel", "cpu", "cores", "python", "cgroup"} <= stored["machine"].keys()
    assert all(stored["machine"].values())


@pytest.mark.parametrize(
    ("files", "version"),
    [
        (["cgroup.controllers"], "v2"),
        (["unified/cgroup.controllers", "memory/tasks"], "hybrid"),
        (["memory/tasks"], "v1"),
        ([], "none"),
    ],
)
def test_the_cgroup_version_is_told_by_what_is_mounted(tmp_path: Path, files: list[str], version: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert bars.cgroup_version(tmp_path) == version


def test_each_round_of_the_codecs_is_a_process_in_which_every_kind_and_library_has_its_turns() -> None:
    found = codec_times.measured("encode", rounds=2)
    assert list(found) == codec_times.kinds("encode") == list(returns.RETURNS)
    for sides in found.values():
        assert list(sides) == list(LIBRARIES)
        for side in sides.values():
            assert [len(one) for one in side.rounds] == [codec_times.BLOCKS] * 2
            assert all(0 < seconds < 0.1 for seconds in side.samples)
            assert side.beside is sides


def test_there_are_two_codecs() -> None:
    with pytest.raises(ValueError, match="no codec to 'guess': encode or decode"):
        codec_times.measured("guess")

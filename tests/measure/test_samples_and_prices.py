"""Percentiles, and what calls cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.measure import prices
from lamplighter.measure.samples import percentile, summary

TIMES = st.lists(st.floats(min_value=1e-3, max_value=1e5), min_size=1, max_size=40)


@given(TIMES, st.integers(min_value=1, max_value=100))
def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed(times: list[float], percent: int) -> None:
    found = percentile(times, percent)
    assert found in times
    assert sum(time <= found for time in times) * 100 >= percent * len(times)
    assert sum(time < found for time in times) * 100 < percent * len(times)


@given(TIMES)
def test_a_summary_is_in_order(times: list[float]) -> None:
    one = summary(times)
    assert one.samples == len(times)
    assert min(times) == one.least <= one.p50 <= one.p90 <= one.p99 <= one.most == max(times)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


@pytest.mark.parametrize(("milliseconds", "billed"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (99.5, 100)])
def test_durations_are_billed_in_whole_milliseconds_rounded_up(milliseconds: float, billed: int) -> None:
    assert prices.billed(milliseconds) == billed


def test_a_million_calls_of_100_ms_at_1_gb_cost_their_gb_seconds_and_their_requests() -> None:
    # 1,000,000 calls x 0.1 s x 1 GB = 100,000 GB-s; the pricing page's own rates, by hand.
    cost = prices.million_calls(1024, 100.0, init_ms=0.0)
    assert cost.billed_ms == 100
    assert cost.usd["x86"] == pytest.approx(0.20 + 1.66667)
    assert cost.usd["arm64"] == pytest.approx(0.20 + 1.33334)
    assert cost.usd_per_percent_cold == {"x86": 0.0, "arm64": 0.0}


def test_init_is_billed_with_the_calls_that_are_cold() -> None:
    # 1 % of a million calls, each 300 ms longer at half a GB: 10,000 x 0.3 s x 0.5 GB = 1,500 GB-s.
    cost = prices.million_calls(512, 10.0, init_ms=300.0)
    assert cost.usd_per_percent_cold["x86"] == pytest.approx(1500 * 0.0000166667)
    assert cost.usd["x86"] == pytest.approx(0.20 + 5000 * 0.0000166667)

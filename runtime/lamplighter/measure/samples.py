"""Times that were measured, and the few numbers that stand for many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

PERCENTS = (50, 90, 99)


class Summary(NamedTuple):
    """Milliseconds of so many ``samples``: nearest-rank percentiles, the least and the most."""

    samples: int
    least: float
    p50: float
    p90: float
    p99: float
    most: float


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` % of all do not exceed (nearest rank). ValueError without any."""
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    return sorted(samples)[max(1, math.ceil(len(samples) * percent / 100)) - 1]


def summary(milliseconds: Sequence[float]) -> Summary:
    """The summary of at least one sample."""
    p50, p90, p99 = (percentile(milliseconds, percent) for percent in PERCENTS)
    return Summary(len(milliseconds), min(milliseconds), p50, p90, p99, max(milliseconds))

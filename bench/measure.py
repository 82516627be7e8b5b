"""How figures are made: sides interleaved round by round, medians of many, and an interval for every ratio.

Wall times on a small virtual machine swing by a third between minutes, so no figure here stands alone: each side of a
comparison takes its turn in every round, and the rounds are what the interval resamples.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Block = Callable[[], Sequence[float]]
"""Measure once or several times; the seconds each took."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that at least ``percent`` % of all samples do not exceed."""
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile lies above 0 and at most at 100, got {percent}")
    return sorted(samples)[math.ceil(len(samples) * percent / 100) - 1]


@dataclass
class Side:
    """All samples of one side, in seconds, kept by round."""

    name: str
    rounds: list[list[float]] = field(default_factory=list)
    beside: Mapping[str, Side] = field(default_factory=dict, repr=False, compare=False)
    """The sides of the same rounds, this one among them, by name."""
    extra: dict[str, object] = field(default_factory=dict, compare=False)
    """What else was measured of it, for the report."""

    @property
    def samples(self) -> list[float]:
        return [sample for block in self.rounds for sample in block]

    @property
    def p50(self) -> float:
        return statistics.median(self.samples)

    @property
    def p99(self) -> float:
        return percentile(self.samples, 99)

    def facts(self) -> dict[str, float]:
        """Milliseconds, for a report: p50, p90, p99, max; and how many samples."""
        samples = self.samples
        return {
            "samples": len(samples),
            "p50_ms": round(self.p50 * 1e3, 4),
            "p90_ms": round(percentile(samples, 90) * 1e3, 4),
            "p99_ms": round(self.p99 * 1e3, 4),
            "max_ms": round(max(samples) * 1e3, 4),
        }


def interleave(blocks: Mapping[str, Block], rounds: int) -> dict[str, Side]:
    """Run every block once a round for ``rounds`` rounds; every second round in reverse order.

    The order turns so that no side always follows the same other one, and drift of the machine meets all alike.
    """
    if rounds < 1 or not blocks:
        raise ValueError("interleaving needs at least one round and one block")
    sides = {name: Side(name) for name in blocks}
    names = list(blocks)
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            samples = list(blocks[name]())
            if not samples:
                raise ValueError(f"the block {name!r} measured nothing in round {turn}")
            sides[name].rounds.append(samples)
    beside_each_other(sides)
    return sides


def beside_each_other(sides: Mapping[str, Side]) -> None:
    """Tell each of these sides that the others have the same rounds."""
    for side in sides.values():
        side.beside = sides


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratio(over: Side, under: Side, resamples: int = 1000, seed: int = 1) -> Ratio:
    """Median of ``over`` by median of ``under``, with a 95 % percentile-bootstrap interval.

    Whole rounds are resampled, both sides together: samples of one round share the machine's mood, and to draw them
    singly would make the interval look narrower than it is.
    """
    if len(over.rounds) != len(under.rounds) or not over.rounds:
        raise ValueError(f"both sides need the same rounds, got {len(over.rounds)} and {len(under.rounds)}")
    rng = random.Random(seed)
    pairs = [
        (statistics.median(mine), statistics.median(other))
        for mine, other in zip(over.rounds, under.rounds, strict=True)
    ]
    drawn: list[float] = []
    for _ in range(resamples):
        picked = rng.choices(pairs, k=len(pairs))
        drawn.append(statistics.median(a for a, _ in picked) / statistics.median(b for _, b in picked))
    value = over.p50 / under.p50
    # The point is the median of all samples, the draws are medians of rounds: keep the point inside its interval.
    return Ratio(value, min(value, percentile(drawn, 2.5)), max(value, percentile(drawn, 97.5)))


class ReplayClock:
    """A timer for pytest-benchmark that shows samples measured elsewhere.

    pytest-benchmark times one function from first round to last, which is the opposite of interleaving. So samples are
    taken by :func:`interleave`, and each side is then replayed: calling :meth:`advance` moves this clock by the next
    sample, and the plugin reads the difference. Its tables and JSON then hold exactly the interleaved samples.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._samples: list[float] = []

    def __call__(self) -> float:
        return self._now

    def load(self, samples: Sequence[float]) -> None:
        """Replay ``samples`` (seconds), from zero: a large start value would cost the small ones their last digits."""
        self._now = 0.0
        self._samples = list(reversed(samples))

    def advance(self) -> None:
        """Let the next sample's time pass; raises ``IndexError`` when all have been shown."""
        self._now += self._samples.pop()


CLOCK = ReplayClock()
"""The timer of every suite (``@pytest.mark.benchmark(timer=CLOCK)``)."""

"""Two results side by side: what got slower, what faster, and what only looks so.

    python -m bench.compare [OLD.json NEW.json]        # by default the two newest of bench/results

What is compared is the ratio of each of our figures to its peer in the same run, round by round, so that a machine
that is slower today slows both sides. The change of the ratio between the runs has an interval from resampling whole
rounds, wide enough that all intervals of the table hold together in 95 of 100 comparisons (Bonferroni). *Slower* means
that the interval lies above 1 and the change is at least 5 %: less is not told apart from where a run's memory happened
to lie. Exit status 1 if something is.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
LEAST = 1.05
"""Changes below this factor are no news."""
FEWEST_ROUNDS = 5
CONFIDENCE = 0.95
RESAMPLES = 400

PEERS = (
    "awslambdaric",
    "bare fork",
    "emulator",
    "granian",
    "gunicorn",
    "json",
    "msgspec",
    "orjson",
    "python -c",
    "uvicorn",
)
"""How the names of sides begin that are not ours: what became of them is no news."""

Rounds = Sequence[Sequence[float]]
"""For each round the median seconds of a side and, where it has one, of its peer."""


class ResultFault(Exception):
    """A file that is no result of ``make bench``; the text says why."""


@dataclass(frozen=True)
class Series:
    """One figure of one run."""

    group: str
    name: str
    rounds: Rounds

    @property
    def paired(self) -> bool:
        return all(len(one) == 2 for one in self.rounds)

    def per_round(self) -> list[float]:
        """The ratio to the peer in each round; the seconds themselves without a peer."""
        return [one[0] / one[1] if self.paired else one[0] for one in self.rounds]


@dataclass(frozen=True)
class Change:
    """How one figure went from the old run to the new one: ``factor`` above 1 is slower."""

    series: Series
    old: float
    new: float
    factor: float
    low: float
    high: float
    judged: bool

    @property
    def verdict(self) -> str:
        if not self.judged:
            return "too few rounds to tell"
        if self.low > 1 and self.factor >= LEAST:
            return "SLOWER"
        if self.high < 1 and self.factor <= 1 / LEAST:
            return "faster"
        return "same"


def read(path: Path) -> tuple[dict[str, str], dict[str, Series]]:
    """The machine's facts, and each figure by its test's name."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        facts = content["machine_info"]["facts"]
        found, seen = {}, []
        for one in content["benchmarks"]:
            rounds = one["extra_info"].get("round_medians", [])
            if one["extra_info"].get("server", "").startswith(PEERS):
                continue
            # Two of ours that are compared with each other: the first of them says it.
            turned = [pair[::-1] for pair in rounds]
            if turned in seen:
                continue
            seen.append(rounds)
            if rounds and all(value > 0 for pair in rounds for value in pair):
                found[one["fullname"]] = Series(one["group"] or "", one["name"], rounds)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise ResultFault(f"{path} is no result of make bench: {type(fault).__name__}: {fault}") from fault
    return facts, found


def resampled(values: Sequence[float], length: int, rng: random.Random) -> list[float]:
    """As many values, drawn in runs of ``length`` neighbours (circular block bootstrap)."""
    drawn: list[float] = []
    while len(drawn) < len(values):
        start = rng.randrange(len(values))
        drawn += [values[(start + offset) % len(values)] for offset in range(length)]
    return drawn[: len(values)]


def spread(values: Sequence[float], rng: random.Random) -> float:
    """The standard error of the median's logarithm.

    Rounds that follow one another may share the machine's mood; drawn singly they would then look like more knowledge
    than they are, and drawn in blocks of about the root of their count a few rounds look like less. The larger counts.
    """
    errors = []
    for length in {1, max(1, round(len(values) ** 0.5))}:
        drawn = [math.log(statistics.median(resampled(values, length, rng))) for _ in range(RESAMPLES)]
        errors.append(statistics.stdev(drawn))
    return max(errors)


def student(probability: float, freedom: int) -> float:
    """The quantile of Student's t, to three terms of its expansion about the normal one (Abramowitz, Stegun 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def change(old: Series, new: Series, comparisons: int, seed: int = 1) -> Change:
    """The change, with an interval that allows for ``comparisons`` of them being looked at together."""
    if old.paired != new.paired:
        raise ResultFault(f"{new.name} has a peer in one result and none in the other")
    before, after = old.per_round(), new.per_round()
    was, now = statistics.median(before), statistics.median(after)
    factor = now / was
    if min(len(before), len(after)) < FEWEST_ROUNDS:
        return Change(new, was, now, factor, factor, factor, judged=False)
    rng = random.Random(seed)
    # The spread by resampling, the tail by Student's law: at this confidence few draws lie so far out.
    tail = student(1 - (1 - CONFIDENCE) / comparisons / 2, min(len(before), len(after)) - 1)
    reach = tail * math.hypot(spread(before, rng), spread(after, rng))
    middle = math.log(factor)
    return Change(new, was, now, factor, math.exp(middle - reach), math.exp(middle + reach), judged=True)


def compare(old: Mapping[str, Series], new: Mapping[str, Series]) -> list[Change]:
    """Every figure that both have, the largest slow-down first."""
    shared = [name for name in old if name in new]
    found = [change(old[name], new[name], len(shared)) for name in shared]
    return sorted(found, key=lambda one: (-one.judged, -one.factor))


def table(changes: Sequence[Change]) -> str:
    """Markdown."""
    lines = ["| group | figure | old | new | change | |", "|---|---|---|---|---|---|"]
    for one in changes:
        was, now = (f"{value:.3g}x" if one.series.paired else f"{value * 1e3:.4g} ms" for value in (one.old, one.new))
        interval = f" [{one.low:.3f}, {one.high:.3f}]" if one.judged else ""
        name = one.series.name.replace("|", "\\|")
        lines.append(f"| {one.series.group} | {name} | {was} | {now} | {one.factor:.3f}{interval} | {one.verdict} |")
    return "\n".join(lines) + "\n"


def newest(directory: Path) -> list[Path]:
    """The two newest results, older first."""
    found = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime)
    return [path for path in found if path.name != "bars.json"][-2:]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Compare two results of make bench.")
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT.json", help="old and new")
    paths = parser.parse_args(words).results or newest(RESULTS)
    if len(paths) != 2:
        parser.error(f"two results are needed, got {len(paths)}")
    try:
        (facts, old), (others, new) = (read(path) for path in paths)
        changes = compare(old, new)
    except ResultFault as fault:
        print(f"bench-compare: {fault}", file=sys.stderr)
        return 2
    print(f"{paths[0].name} -> {paths[1].name}\n")
    for name in sorted(facts.keys() | others.keys()):
        if facts.get(name) != others.get(name):
            print(f"the machines differ in {name}: {facts.get(name)} -> {others.get(name)}")
    print(table(changes))
    gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    print(
        "".join(f"only in the old: {name}\n" for name in gone) + "".join(f"only in the new: {name}\n" for name in come)
    )
    slower = [one for one in changes if one.verdict == "SLOWER"]
    names = ", ".join(one.series.name for one in slower)
    print(f"{len(slower)} of {len(changes)} slower beyond noise{': ' + names if names else ''}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())

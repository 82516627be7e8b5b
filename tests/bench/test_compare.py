"""Two results side by side: what is slower is found, and what only looks so is not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from bench.compare import Series, change, main

from bench import compare

FIGURES = 20
ROUNDS = 12


def run(seed: int, *, slow: float = 1.0, machine: float = 1.0) -> dict[str, Series]:
    """A run of figures, each round with a mood that meets both sides, and 3 % noise of each side's own.

    ``slow`` multiplies our side of figure 7 alone, ``machine`` both sides of all.
    """
    rng = random.Random(seed)
    found = {}
    for number in range(FIGURES):
        rounds = []
        for _ in range(ROUNDS):
            mood = machine * rng.lognormvariate(0, 0.25)
            mine, peer = (mood * base * rng.lognormvariate(0, 0.03) for base in (0.003, 0.1))
            rounds.append([mine * (slow if number == 7 else 1.0), peer])
        found[f"figure-{number}"] = Series("cold-fork", f"figure-{number}", rounds)
    return found


def verdicts(changes: list[compare.Change]) -> dict[str, str]:
    return {one.series.name: one.verdict for one in changes if one.verdict != "same"}


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_down_of_a_fifth_is_found_and_nothing_else(seed: int) -> None:
    assert verdicts(compare.compare(run(seed), run(seed + 100, slow=1.2))) == {"figure-7": "SLOWER"}


@pytest.mark.parametrize("seed", range(5))
def test_a_speed_up_of_a_fifth_is_found_as_one(seed: int) -> None:
    assert verdicts(compare.compare(run(seed), run(seed + 100, slow=1 / 1.2))) == {"figure-7": "faster"}


@pytest.mark.parametrize("constant", [0.5, 1.0, 1.2, 3.0])
def test_a_constant_that_meets_both_sides_is_not_found(constant: float) -> None:
    for seed in range(3):
        assert verdicts(compare.compare(run(seed), run(seed + 100, machine=constant))) == {}


def test_less_than_the_least_change_is_no_news_however_sure() -> None:
    still = {"a": Series("g", "a", [[1.0, 10.0]] * 30)}
    more = {"a": Series("g", "a", [[1.04, 10.0]] * 30)}
    assert verdicts(compare.compare(still, more)) == {}
    assert verdicts(compare.compare(still, {"a": Series("g", "a", [[1.06, 10.0]] * 30)})) == {"a": "SLOWER"}


def test_a_figure_without_a_peer_is_compared_by_its_seconds() -> None:
    old, new = (Series("g", "a", [[value * (1 + turn % 3 / 100)] for turn in range(12)]) for value in (1.0, 1.5))
    found = change(old, new, 1)
    assert (found.verdict, found.factor) == ("SLOWER", pytest.approx(1.5))
    assert (found.old, found.new) == (pytest.approx(1.01), pytest.approx(1.515))


def test_few_rounds_are_not_judged() -> None:
    old, new = (Series("g", "a", [[value, 1.0]] * 4) for value in (1.0, 9.0))
    assert change(old, new, 1).verdict == "too few rounds to tell"


def test_the_more_figures_are_compared_the_wider_each_interval() -> None:
    old, new = run(1)["figure-7"], run(2, slow=1.2)["figure-7"]
    one, many = change(old, new, 1), change(old, new, 1000)
    assert many.low < one.low <= one.factor == many.factor <= one.high < many.high


def written(path: Path, figures: dict[str, Series], facts: dict[str, str]) -> Path:
    benchmarks = [
        {
            "fullname": name,
            "name": name,
            "group": one.group,
            "extra_info": {"round_medians": one.rounds},
        }
        for name, one in figures.items()
    ]
    path.write_text(json.dumps({"machine_info": {"facts": facts}, "benchmarks": benchmarks}))
    return path


def test_rounds_that_share_a_mood_are_drawn_together() -> None:
    values = [float(number) for number in range(16)]
    drawn = compare.resampled(values, 4, random.Random(3))
    assert len(drawn) == 16 and set(drawn) <= set(values)
    assert all((drawn[at + 1] - drawn[at]) % 16 == 1 for at in range(15) if at % 4 != 3), "blocks of four neighbours"
    slow = [[1.0 + 0.5 * (turn // 15 % 2) + turn % 7 / 100] for turn in range(60)]
    shuffled = random.Random(3).sample(slow, 60)
    drifting, mixed = (compare.spread([one[0] for one in rounds], random.Random(3)) for rounds in (slow, shuffled))
    assert drifting > mixed


@pytest.mark.parametrize(("freedom", "quantile"), [(5, 2.571), (11, 2.201), (29, 2.045), (10**6, 1.960)])
def test_the_quantiles_of_student_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert compare.student(0.975, freedom) == pytest.approx(quantile, abs=0.02)


def test_a_peers_own_figure_is_not_compared(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", run(1), {})
    content = json.loads(path.read_text())
    content["benchmarks"][4]["extra_info"]["server"] = "uvicorn, 2 processes"
    path.write_text(json.dumps(content))
    assert "figure-4" not in compare.read(path)[1]


def test_of_two_figures_that_are_each_others_peer_the_first_is_compared(tmp_path: Path) -> None:
    figures = {"parked": Series("g", "parked", [[1.0, 2.0]] * 6), "warm": Series("g", "warm", [[2.0, 1.0]] * 6)}
    assert list(compare.read(written(tmp_path / "a.json", figures, {}))[1]) == ["parked"]


def test_the_command_names_what_got_slower_and_ends_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = written(tmp_path / "old.json", run(1), {"kernel": "6.1", "cpu": "x"})
    new = written(tmp_path / "new.json", run(2, slow=1.2), {"kernel": "6.2", "cpu": "x"})
    assert main([str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert "1 of 20 slower beyond noise: figure-7" in said
    assert "the machines differ in kernel: 6.1 -> 6.2" in said
    assert said.index("figure-7") < said.index("figure-0"), "the largest slow-down first"
    assert main([str(old), str(old)]) == 0
    assert "0 of 20 slower beyond noise\n" in capsys.readouterr().out


def test_figures_of_one_run_alone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run(1)
    fewer: dict[str, Any] = {name: one for name, one in figures.items() if name != "figure-3"}
    old, new = written(tmp_path / "old.json", figures, {}), written(tmp_path / "new.json", fewer, {})
    assert main([str(old), str(new)]) == 0
    assert "only in the old: figure-3\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"machine_info": {"facts": {}}, "benchmarks": [{}]}'])
def test_what_is_no_result_is_refused_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "bad.json").write_text(content)
    assert main([str(tmp_path / "bad.json"), str(tmp_path / "bad.json")]) == 2
    assert "is no result of make bench" in capsys.readouterr().err


def test_the_two_newest_results_are_taken_the_older_first(tmp_path: Path) -> None:
    import os

    for age, name in ((30, "c"), (20, "a"), (10, "b"), (5, "bars")):
        (tmp_path / f"{name}.json").write_text("{}")
        os.utime(tmp_path / f"{name}.json", (10**9 - age, 10**9 - age))
    assert [path.stem for path in compare.newest(tmp_path)] == ["a", "b"]

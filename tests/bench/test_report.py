"""From a result to its table and charts."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from bench.measure import interleave

from bench import __main__ as program
from bench import publish, report

NAMES = {"cold-fork": ["lamplighter, cold", "bare | fork"], "warm": ["lamplighter, warm", "emulator"]}


@pytest.fixture
def result() -> dict[str, Any]:
    """A result as pytest-benchmark writes it, as far as the report reads it."""
    benchmarks: list[dict[str, Any]] = []
    for group, names in NAMES.items():
        for number, name in enumerate(names):
            data = [0.001 * (1 + number) * (1 + turn / 10) for turn in range(10)]
            extra: dict[str, Any] = {"server": name, "compared_with": names[1 - number], "p50_ms": 1.5, "p90_ms": 2.0}
            extra |= {"p99_ms": 3.0, "samples": 10, "ratio": {"value": 2.0, "low": 1.9, "high": 2.1}}
            if name == "lamplighter, cold":
                extra |= {"handler": "trivial.handler", "stages_us": {"clone": 300.0, "hooks": 20.0, "ready": 900.0}}
            benchmarks.append(
                {"name": f"test[{name}]", "group": group, "extra_info": extra, "stats": {"max": 1, "data": data}}
            )
    weights = {"mib_per_worker_boto3": {"lamplighter": 1.8, "awslambdaric": 38.0}}
    nothing = {"max": 0.0, "data": [0.0]}
    benchmarks.append({"name": "memory", "group": "density", "extra_info": weights, "stats": nothing})
    row = {"number": "1", "claim": "cold", "ours": "1 ms", "reached": True, "bar": "≤ 2 ms"}
    return {"machine_info": {"facts": {"kernel": "6.1"}}, "benchmarks": benchmarks, "bars": [row]}


def test_the_table_has_the_bars_the_groups_and_the_machine(result: dict[str, Any]) -> None:
    text = report.markdown(result)
    assert "| 1 | cold | 1 ms | - | - | ≤ 2 ms | yes |" in text
    assert "- kernel: 6.1" in text
    line = "| lamplighter, cold, trivial | 1.5 ms | 2 ms | 3 ms | 10 | bare \\| fork | 2x [1.9, 2.1] |"
    assert line in text.splitlines()
    assert "## density" not in text, "it has no times"


def test_there_is_a_chart_of_each_group_of_stages_and_of_memory(result: dict[str, Any], tmp_path: Path) -> None:
    made = report.charts(result, tmp_path)
    assert [path.name for path in made] == ["cold-fork.svg", "warm.svg", "stages.svg", "memory.svg"]
    for path in made:
        texts = "".join(ET.parse(path).getroot().itertext())
        assert path.stem in texts or path.stem in {"stages", "memory"}
    assert "lamplighter, cold, trivial" in "".join(ET.parse(tmp_path / "cold-fork.svg").getroot().itertext())
    assert "38 MiB" in "".join(ET.parse(tmp_path / "memory.svg").getroot().itertext())


def test_a_chart_of_the_same_result_is_the_same_file(result: dict[str, Any], tmp_path: Path) -> None:
    first = [path.read_bytes() for path in report.charts(result, tmp_path / "a")]
    assert [path.read_bytes() for path in report.charts(result, tmp_path / "b")] == first


def test_the_command_writes_table_and_charts_beside_the_result(result: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "machine-date.json").write_text(json.dumps(result))
    assert report.main([str(tmp_path / "machine-date.json")]) == 0
    assert {path.name for path in (tmp_path / "machine-date").iterdir()} == {
        "README.md",
        "cold-fork.svg",
        "warm.svg",
        "stages.svg",
        "memory.svg",
    }


def test_sides_that_were_interleaved_know_one_another() -> None:
    sides = interleave({"a": lambda: [1.0, 3.0], "b": lambda: [2.0]}, rounds=2)
    assert sides["a"].beside is sides["b"].beside
    assert sides["a"].beside["b"] is sides["b"]


def test_a_machine_has_a_name_that_a_file_can_have() -> None:
    assert program.machine() == program.machine().strip("-").lower()
    assert not set(program.machine()) & set(" /()@.")


def test_readme_gets_the_bars_of_one_run_between_its_marks_and_nothing_else_changes() -> None:
    def row(number: str, reached: bool | None, **more: str) -> dict[str, object]:
        cells = {"claim": f"claim {number}", "ours": "1 ms", "peer": "-", "ratio": "-", "bar": "-", **more}
        return {"number": number, "reached": reached, **cells}

    rows = [row("10a", True, bar="≤ 2 ms"), row("1wa", None), row("2a", False, ratio="1.7x"), row("1h1", None)]
    facts = {"cores": "2", "cpu": "CPU", "kernel": "6.18.44-fc", "python": "CPython 3.11.7", "cgroup": "2"}
    result = {"machine_info": {"facts": facts}, "bars": rows, "datetime": "2026-11-27T10:00:00"}
    readme = "above\n<!-- figures -->\nold\n<!-- /figures -->\nbelow\n"
    written = publish.with_figures(readme, result)
    assert written.startswith("above\n<!-- figures -->\n| |")
    assert written.endswith("<!-- /figures -->\nbelow\n")
    table = [line for line in written.splitlines() if line.startswith(("| 1", "| 2"))]
    assert table == [
        "| 1wa | claim 1wa | 1 ms |  |  |  |  |",
        "| 2a | claim 2a | 1 ms |  | 1.7x |  | **missed** |",
        "| 10a | claim 10a | 1 ms |  |  | ≤ 2 ms | reached |",
    ]
    assert "2026-11-27: 1 of 2 bars reached" in written
    assert publish.with_figures(written, result) == written
    with pytest.raises(ValueError, match="needs the lines '<!-- figures -->' and '<!-- /figures -->'"):
        publish.with_figures("no marks", result)

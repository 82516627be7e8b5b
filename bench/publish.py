"""Take a result where readers see it: its charts to docs/figures, its bars to README, all of one run.

python -m bench.publish [RESULT.json]        # by default the newest of bench/results
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import compare, report
from bench.bars import NOT_A_BAR

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->\n"
ALSO = {"1wa", "1wb", "2c"}
"""Rows without a bar that README shows all the same: what a warm-up event does to those above them."""


def bars_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every row with a bar, in the order of their numbers, as Markdown."""
    lines = ["| | | Lamplighter | beside | ratio [95 % interval] | aim | |", "|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: _natural(row["number"])):
        if row["reached"] is None and row["number"] not in ALSO:
            continue
        cells = [row[name] for name in ("number", "claim", "ours", "peer", "ratio", "bar")]
        verdict = {True: "reached", False: "**missed**", None: ""}[row["reached"]]
        lines.append("| " + " | ".join("" if cell == NOT_A_BAR else cell for cell in [*cells, verdict]) + " |")
    return "\n".join(lines) + "\n"


def _natural(number: str) -> list[tuple[int, str]]:
    return [(int(digits or 0), letters) for digits, letters in re.findall(r"(\d*)(\D*)", number)]


def with_figures(readme: str, result: Mapping[str, Any]) -> str:
    """README with the table of a result between its two marks; raises ``ValueError`` where it has none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {BEGIN.strip()!r} and {END.strip()!r}")
    facts, rows = result["machine_info"]["facts"], result["bars"]
    judged = [row["reached"] for row in rows if row["reached"] is not None]
    said = (
        f"\nOne run of `make bench`, {result['datetime'][:10]}: {sum(judged)} of {len(judged)} bars reached. "
        f"{facts['cores']} cores of a virtual machine ({facts['cpu']}),\nLinux {facts['kernel'].partition('-')[0]}, "
        f"{facts['python']}, cgroup {facts['cgroup']}, 1,769 MB a function.\n"
    )
    return before + begin + bars_table(rows) + said + end + after


def main(words: Sequence[str]) -> int:
    found = [Path(word) for word in words] or compare.newest(compare.RESULTS)[-1:]
    if len(found) != 1:
        print("bench-publish: there is no result; run make bench first", file=sys.stderr)
        return 2
    result = json.loads(found[0].read_text())
    README.write_text(with_figures(README.read_text(), result))
    for stale in FIGURES.glob("*.svg"):
        stale.unlink()
    for file in report.charts(result, FIGURES):
        print(file)
    facts = result["machine_info"]["facts"]
    lines = [f"The charts are of one run of `make bench` on {result['datetime'][:10]}. Machine:", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    (FIGURES / "README.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

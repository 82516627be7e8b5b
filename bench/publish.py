"""Take a result's charts into docs/figures, where README and docs/performance.md show them.

python -m bench.publish [RESULT.json]        # by default the newest of bench/results
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import compare, report

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"


def main(words: Sequence[str]) -> int:
    found = [Path(word) for word in words] or compare.newest(compare.RESULTS)[-1:]
    if len(found) != 1:
        print("bench-publish: there is no result; run make bench first", file=sys.stderr)
        return 2
    result = json.loads(found[0].read_text())
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

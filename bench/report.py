"""From a result's JSON to what people look at: a Markdown table and SVG charts.

    python -m bench.report RESULT.json [DIRECTORY]

One chart of distributions a group, on a logarithmic axis; the stages of one cold start; memory by worker. Each figure
in them is in the JSON, and nothing is measured here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import bars

STAGES = {
    "nest": "keeper, pid namespace",
    "clone": "fork",
    "touch": "pages copied ahead",
    "place": "cgroups",
    "mount": "mounts, capabilities",
    "hooks": "hooks",
}
"""The stages that follow one another, as docs/performance.md has them."""
_COLOURS = ("#2f6fde", "#f0a02c", "#3aa675", "#c75b8e", "#7a6fd0", "#8a93a6", "#d0d5de")


def groups(result: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The benchmarks that have times, by group."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in result["benchmarks"]:
        if one["stats"]["max"] > 0:
            found.setdefault(one["group"] or "", []).append(one)
    return found


def label(one: Mapping[str, Any]) -> str:
    """What a row is called: the server and, where it differs within a group, the handler."""
    extra = one["extra_info"]
    handler = str(extra.get("handler", "")).replace(".handler", "")
    name = str(extra.get("server", one["name"]))
    return f"{name}, {handler}" if handler else name


def markdown(result: Mapping[str, Any]) -> str:
    """The table of bars, then one table of times a group."""
    rows = [bars.Row(**row) for row in result.get("bars", [])]
    lines = [bars.markdown(rows, result["machine_info"]["facts"])]
    for group, found in groups(result).items():
        lines += [f"## {group}", "", "| | p50 | p90 | p99 | samples | ratio to | |", "|---|---|---|---|---|---|---|"]
        for one in found:
            extra = one["extra_info"]
            times = [f"{extra[name]:.4g} ms" for name in ("p50_ms", "p90_ms", "p99_ms") if name in extra]
            found_ratio = extra.get("ratio")
            shown = ["", ""]
            if found_ratio:
                shown = [str(extra["compared_with"]), "{value:.3g}x [{low:.3g}, {high:.3g}]".format(**found_ratio)]
            cells = [label(one), *times, str(extra.get("samples", "")), *shown]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def charts(result: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw every chart the result has figures for; the files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "lamplighter", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False}
    )
    mpl.rcParams["axes.spines.right"] = False
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for group, found in groups(result).items():
        if any(len(one["stats"]["data"]) > 1 for one in found):
            made.append(_distribution(group, found, directory / f"{group}.svg"))
    staged = [one for one in result["benchmarks"] if one["group"] == "cold-fork" and "stages_us" in one["extra_info"]]
    if staged:
        made.append(_stages(staged, directory / "stages.svg"))
    weighed = [weights for one in result["benchmarks"] if (weights := one["extra_info"].get("mib_per_worker_boto3"))]
    return made + [_memory(weights, directory / "memory.svg") for weights in weighed[:1]]


def _figure(rows: int) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(9, 0.9 + 0.42 * rows), layout="constrained")


def _written(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _distribution(group: str, found: Sequence[Mapping[str, Any]], path: Path) -> Path:
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = _figure(len(found))
    names = [label(one) for one in found][::-1]
    samples = [[second * 1e3 for second in one["stats"]["data"]] for one in found][::-1]
    axes.boxplot(
        samples,
        orientation="horizontal",
        whis=(1, 99),
        widths=0.5,
        flierprops={"markersize": 2, "alpha": 0.4},
        medianprops={"color": _COLOURS[1], "linewidth": 2},
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_yticks(range(1, len(names) + 1), names)
    axes.set_xlabel("ms, logarithmic; box: quartiles, whiskers: 1 % and 99 %")
    axes.set_title(group, loc="left", fontweight="bold")
    return _written(figure, path)


def _stages(found: Sequence[Mapping[str, Any]], path: Path) -> Path:
    figure, axes = _figure(len(found) + 1)
    for row, one in enumerate(reversed(found)):
        stages, start = one["extra_info"]["stages_us"], 0.0
        parts = [(name, stages.get(name, 0.0) / 1e3) for name in STAGES]
        known = sum(value for _, value in parts)
        ready, whole = stages.get("ready", 0.0) / 1e3, one["extra_info"]["p50_ms"]
        parts += [("until ready", max(0.0, ready - known)), ("first answer", max(0.0, whole - max(ready, known)))]
        colours = (*_COLOURS, "#e8ebf0")
        for (name, value), colour in zip(parts, colours, strict=True):
            axes.barh(row, value, left=start, color=colour, label=STAGES.get(name, name) if row == 0 else None)
            start += value
    axes.set_yticks(range(len(found)), [label(one) for one in reversed(found)])
    axes.set_xlabel("ms, medians")
    axes.set_title("stages of a cold start by fork", loc="left", fontweight="bold")
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.55 / len(found) - 0.12), frameon=False)
    return _written(figure, path)


def _memory(weights: Mapping[str, float], path: Path) -> Path:
    figure, axes = _figure(len(weights))
    names = list(weights)[::-1]
    drawn = axes.barh(range(len(names)), [weights[name] for name in names], color=_COLOURS[0])
    axes.bar_label(drawn, fmt=" %.3g MiB")
    axes.margins(x=0.15)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("MiB of PSS that one more environment of the boto3 handler adds")
    axes.set_title("memory by worker", loc="left", fontweight="bold")
    return _written(figure, path)


def main(words: Sequence[str]) -> int:
    if not 1 <= len(words) <= 2:
        print("usage: python -m bench.report RESULT.json [DIRECTORY]", file=sys.stderr)
        return 2
    path = Path(words[0])
    result = json.loads(path.read_text())
    directory = Path(words[1]) if len(words) == 2 else path.with_suffix("")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "README.md").write_text(markdown(result))
    for file in charts(result, directory):
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

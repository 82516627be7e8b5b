"""One page for all figures of a function: self-contained, without scripts, so that it can be mailed and kept."""

from __future__ import annotations

import html
from collections.abc import Sequence

from lamplighter.measure import prices
from lamplighter.measure.bench import FORK, KINDS, PARKED, Result, ratios
from lamplighter.measure.drawing import Block, bars, distributions, figure, icicle
from lamplighter.measure.profile import Import, Profile

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6577; --line: #d9dee7; --paper: #fff; --panel: #f6f7fa;
  --one: #2f6fde; --two: #f0a02c; --faint: #2f6fde40; --used: #cfe0fb; --unused: #f8c9b4; --plain: #e4e8f0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #9aa4b6; --line: #343c4c; --paper: #12161f;
  --panel: #1a202c; --one: #6c9ff2; --two: #f2b35a; --faint: #6c9ff240; --used: #24406d; --unused: #7a3b24;
  --plain: #2b3342; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 920px; padding: 24px 16px 64px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 36px 0 6px; } p { margin: 6px 0; }
.soft, .small { color: var(--soft); } .over { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0; } th, td { padding: 4px 12px 4px 0; text-align: right; }
th { font-weight: 600; border-bottom: 1px solid var(--line); } td { border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } td.words { text-align: left; }
svg { width: 100%; height: auto; background: var(--panel); border-radius: 6px; padding: 10px; box-sizing: border-box; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg text.small { font-size: 11px; fill: var(--soft); }
svg text.value { font-weight: 600; } svg text.inside { font-size: 11.5px; pointer-events: none; }
.grid { stroke: var(--line); } .dot { fill: var(--faint); } .range { fill: var(--one); opacity: .55; }
.middle { fill: var(--two); } .bar, .stage { fill: var(--one); } .stage { stroke: var(--panel); }
.used { fill: var(--used); } .unused { fill: var(--unused); } .plain { fill: var(--plain); }
code { font: 13px ui-monospace, monospace; } .mark { background: var(--unused); padding: 0 4px; border-radius: 3px; }
"""

_STAGES = {
    "nest": "keeper and pid namespace",
    "clone": "the fork",
    "touch": "pages copied ahead",
    "place": "entering its cgroups",
    "mount": "/proc, /tmp, capabilities",
    "hooks": "after-restore hooks",
}
"""Stages that follow one another; ``worker`` and ``ready`` contain them."""


def page(result: Result | None, profile: Profile | None) -> str:
    """The page. At least one of the two is given."""
    handler = result.function.handler if result else profile.handler if profile else ""
    sections = [*(_of_bench(result) if result else ()), *(_of_profile(profile) if profile else ())]
    title = html.escape(f"{handler} · Lamplighter")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1><code>{html.escape(handler)}</code></h1>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already. A last column without a heading is for words."""
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    last = '<td class="words">' if head[-1] == "" else "<td>"
    lines += ["".join(f"<td>{cell}</td>" for cell in row[:-1]) + f"{last}{row[-1]}</td>" for row in rows]
    return '<div class="over"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def _of_bench(result: Result) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    enforced = ", ".join(f"{name}: {value}" for name, value in result.enforcement.items())
    sections = [
        f'<p class="soft">{html.escape(machine)}. {html.escape(enforced)}. {result.function.memory_mb} MB.</p>',
        *(f'<p class="soft">{html.escape(note)}</p>' for note in result.notes),
        "<h2>Starts</h2>",
        distributions(result.samples, "ms", "Milliseconds to the answer, by kind of start, on a logarithmic axis"),
        _starts(result),
    ]
    staged = [kind for kind in (FORK, PARKED) if result.stages.get(kind)]
    if staged:
        sections += ["<h2>What a start is made of</h2>", *(_stages(kind, result) for kind in staged)]
    memory = {name: value for name, value in result.memory.items() if value > 0}
    sections += [
        "<h2>Memory</h2>",
        bars(memory, "MB", "Memory in MB"),
        (
            '<p class="soft">Proportional set size: a page that n processes share counts as 1/n in each. '
            "Max Memory Used is what REPORT says of a warm environment, its template's pages included.</p>"
        ),
        *_costs(result),
    ]
    return sections


def _starts(result: Result) -> str:
    factor = ratios(result)
    rows = []
    for kind, one in result.summaries().items():
        times = [figure(value) for value in (one.p50, one.p90, one.p99, one.most)]
        than = f"{figure(factor[kind])} times" if kind in factor else ""
        rows.append([html.escape(kind), *times, str(one.samples), than, html.escape(KINDS[kind.rpartition(": ")[2]])])
    return table(["kind", "p50 ms", "p90", "p99", "most", "samples", "faster than cold", ""], rows)


def _stages(kind: str, result: Result) -> str:
    stages = result.stages[kind]
    total = stages.get("ready", 0) or sum(stages.values())
    blocks = [Block("until ready", f"until ready: {figure(total)} µs", 0, total, 0, "plain")]
    at = 0.0
    for name, meaning in _STAGES.items():
        if (size := stages.get(name, 0)) > 0:
            blocks.append(Block(name, f"{name} ({meaning}): {figure(size)} µs", at, size, 1, "used"))
            at += size
    blocks.append(Block("the rest", f"messages, waking, Python: {figure(total - at)} µs", at, total - at, 1, "plain"))
    rows = [[f"<code>{name}</code>", figure(size), _STAGES.get(name, "")] for name, size in stages.items()]
    drawn = icicle(blocks, total, "µs until ready", f"Stages of a start by {kind}, median microseconds")
    return f"<p>{kind}: {KINDS[kind]}</p>{drawn}{table(['stage', 'µs, median', ''], rows)}"


def _costs(result: Result) -> list[str]:
    rows = []
    for size in result.sizes:
        if size.cost is None:
            rows.append([f"{size.memory_mb:,} MB", *[""] * 6, f"{html.escape(size.problem)}"])
            continue
        usd, more = size.cost.usd, size.cost.usd_per_percent_cold
        where = "measured at this size" if size.measured else "as at 1,769 MB: one thread gets no faster"
        cells = [f"{usd['x86']:.2f}", f"{usd['arm64']:.2f}", f"{more['x86']:.2f}", f"{more['arm64']:.2f}"]
        rows.append([f"{size.memory_mb:,} MB", figure(size.duration_ms), str(size.cost.billed_ms), *cells, where])
    head = ["memory", "ms", "billed ms", "USD, x86", "USD, arm64", "each 1 % cold, x86", "arm64", ""]
    rates = ", ".join(f"{price:.10f} USD a GB-second ({kind})" for kind, price in prices.USD_PER_GB_SECOND.items())
    return [
        "<h2>What a million calls cost on Lambda</h2>",
        table(head, rows),
        (
            f'<p class="soft">Prices of {prices.REGION}, first tier, read on {prices.READ_ON}: '
            f"{rates}, {prices.USD_PER_MILLION_REQUESTS:.2f} USD a million requests; durations rounded up to 1 ms, "
            "init billed. The durations are this machine's, not Lambda's: read the column to compare sizes.</p>"
        ),
    ]


def _of_profile(profile: Profile) -> list[str]:
    total = max(profile.total_ms, sum(root.ms for root in profile.roots))
    imports, unused = profile.imports(), profile.unused()
    sections = [
        "<h2>Init, import by import</h2>",
        f"<p>{figure(profile.total_ms)} ms, {len(imports)} modules, {figure(profile.total_mb)} MB.</p>",
        icicle(_blocks(profile.roots, unused), total, "ms", "Imports, each below the one that needed it first"),
    ]
    if profile.events:
        saved = sum(one.ms for one in unused)
        sections.append(
            f'<p><span class="mark">Marked</span>: nothing of it, nor of what it brought in, ran while the handler '
            f"worked on {profile.events} recorded event{'s' if profile.events > 1 else ''}; {figure(saved)} ms in all. "
            "Modules that only give constants look the same, so check before removing an import, or import it where it "
            "is needed.</p>"
        )
    else:
        sections.append('<p class="soft">No events were recorded, so what is used is not known.</p>')
    sections += [f'<p class="soft">{html.escape(fault)}</p>' for fault in profile.faults]
    dearest = sorted(imports, key=lambda one: -one.own_ms)[:40]
    sections.append(table(["module", "own ms", "with its imports", "own MB", "with", "imported by"], _rows(dearest)))
    return sections


def _rows(imports: Sequence[Import]) -> list[list[str]]:
    rows = []
    for one in imports:
        name = f"<code>{html.escape(one.name)}</code>"
        shown = f'<span class="mark">{name}</span>' if one.needed is False else name
        by = f"<code>{html.escape(one.parent.name)}</code>" if one.parent else ""
        figures = [figure(value) if value >= 0.01 else "0" for value in (one.own_ms, one.ms, one.own_mb, one.mb)]
        rows.append([shown, *figures, by])
    return rows


def _blocks(roots: Sequence[Import], unused: Sequence[Import]) -> list[Block]:
    marked = {id(below) for one in unused for below in one.walk()}
    blocks: list[Block] = []

    def place(one: Import, start: float, depth: int) -> None:
        kind = "unused" if id(one) in marked else "plain" if one.used is None else "used"
        title = f"{one.name}: {figure(one.ms)} ms, {figure(one.mb)} MB; own {figure(one.own_ms)} ms"
        blocks.append(Block(one.name.rpartition(".")[2] or one.name, title, start, one.ms, depth, kind))
        for child in one.children:
            place(child, start, depth + 1)
            start += child.ms

    start = 0.0
    for root in roots:
        place(root, start, 0)
        start += root.ms
    return blocks

"""Charts as SVG text: nothing to load, nothing to run, and readable in light and in dark.

Colours are the page's CSS variables, so a drawing belongs into a page made by :mod:`lamplighter.measure.page`. Each
mark carries its figures as a ``<title>``, which browsers show on hovering.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lamplighter.measure.samples import percentile

WIDTH = 860
_LABEL = 250
_ROW = 34
_TEXT = 7.2
"""Width of a character at the page's font size, for deciding whether a label fits."""


class Block(NamedTuple):
    """One rectangle of an icicle: ``start`` and ``size`` in the unit of the axis, ``depth`` in rows from the top."""

    label: str
    title: str
    start: float
    size: float
    depth: int
    kind: str


def svg(height: float, content: Sequence[str], label: str) -> str:
    """The frame: as wide as the page lets it be."""
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{html.escape(label)}">'
    return "\n".join([head, *content, "</svg>"])


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    shape = f'<rect x="{x:.2f}" y="{y:.1f}" width="{max(width, 0.5):.2f}" height="{height:.1f}" class="{kind}">'
    return f"{shape}<title>{html.escape(title)}</title></rect>"


def figure(value: float) -> str:
    """Three digits that matter, no exponent."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def distributions(samples: Mapping[str, Sequence[float]], unit: str, label: str) -> str:
    """Each series as a row of its samples on one logarithmic axis: all faint, p50 to p99 as a bar, p50 named."""
    values = [value for series in samples.values() for value in series if value > 0]
    low = math.floor(math.log10(min(values)) * 3) / 3
    high = max(math.ceil(math.log10(max(values)) * 3) / 3, low + 1 / 3)
    right = 84

    def at(value: float) -> float:
        return _LABEL + (math.log10(value) - low) / (high - low) * (WIDTH - _LABEL - right)

    bottom = _ROW * len(samples) + 8
    content = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for step in (1, 2, 5):
            tick = step * 10.0**power
            if low - 1e-9 <= math.log10(tick) <= high + 1e-9:
                content.append(f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="4" y2="{bottom}" class="grid"/>')
                content.append(text(at(tick), bottom + 16, f"{tick:g}", anchor="middle", kind="small"))
    content.append(text(WIDTH, bottom + 16, f"{unit}, log", anchor="end", kind="small"))
    for row, (name, series) in enumerate(samples.items()):
        y = row * _ROW + 8
        p50, p99 = percentile(series, 50), percentile(series, 99)
        content.append(text(0, y + 17, name))
        content += [
            f'<circle cx="{at(value):.1f}" cy="{y + 12}" r="2.5" class="dot"/>' for value in series if value > 0
        ]
        title = f"{name}: p50 {figure(p50)} {unit}, p99 {figure(p99)} {unit}, {len(series)} samples"
        content.append(rectangle(at(p50), y + 8, at(p99) - at(p50), 8, "range", title))
        content.append(rectangle(at(p50) - 1.5, y + 2, 3, 20, "middle", title))
        content.append(text(WIDTH, y + 17, f"{figure(p50)} {unit}", anchor="end", kind="value"))
    return svg(bottom + 22, content, label)


def bars(values: Mapping[str, float], unit: str, label: str) -> str:
    """Horizontal bars from zero, each with its figure."""
    most = max(values.values()) or 1.0
    content = []
    for row, (name, value) in enumerate(values.items()):
        y = row * _ROW
        length = value / most * (WIDTH - _LABEL - 110)
        content.append(text(0, y + 19, name))
        content.append(rectangle(_LABEL, y + 6, length, 20, "bar", f"{name}: {figure(value)} {unit}"))
        content.append(text(_LABEL + length + 8, y + 20, f"{figure(value)} {unit}", kind="value"))
    return svg(_ROW * len(values) + 4, content, label)


def icicle(blocks: Sequence[Block], total: float, unit: str, label: str) -> str:
    """Blocks below those that contain them, as wide as their part of ``total``; what is too narrow is left out."""
    height = 20
    content = []
    deepest = 0
    for block in blocks:
        width = block.size / total * WIDTH
        if width < 0.4:
            continue
        deepest = max(deepest, block.depth)
        x, y = block.start / total * WIDTH, block.depth * (height + 1)
        content.append(rectangle(x, y, width - 0.6, height, block.kind, block.title))
        fits = int((width - 8) / _TEXT)
        if fits >= 3:
            words = block.label if len(block.label) <= fits else block.label[: fits - 1] + "…"
            content.append(text(x + 4, y + 14.5, words, kind="inside"))
    bottom = (deepest + 1) * (height + 1)
    content.append(text(WIDTH, bottom + 16, f"{figure(total)} {unit} in all", anchor="end", kind="small"))
    return svg(bottom + 22, content, label)

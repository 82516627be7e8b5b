"""The table of bars: one row a claim, with our figure, the peer's, the ratio, the bar, and whether it was reached.

Written as Markdown for people and JSON for machines, with the facts of the machine that every figure depends on.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.measure import Ratio

NOT_A_BAR = "-"


@dataclass(frozen=True)
class Row:
    """One line of the table. ``reached`` is ``None`` for a figure that is shown for context and has no bar."""

    number: str
    claim: str
    ours: str
    peer: str = NOT_A_BAR
    ratio: str = NOT_A_BAR
    bar: str = NOT_A_BAR
    reached: bool | None = None
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return NOT_A_BAR if self.reached is None else "yes" if self.reached else "NO"


def at_most(number: str, claim: str, value: float, limit: float, unit: str, **facts: object) -> Row:
    """A bar on a figure of our own: ``value`` may not pass ``limit``, both in ``unit``."""
    return Row(number, claim, f"{value:.4g} {unit}", bar=f"≤ {limit:g} {unit}", reached=value <= limit, facts=facts)


def ratio_at_most(number: str, claim: str, ours: str, peer: str, found: Ratio, limit: float, **facts: object) -> Row:
    """A bar on ours by the peer's, where less is better (times)."""
    return Row(number, claim, ours, peer, f"{found}x", f"≤ {limit:g}x", found.value <= limit, facts)


def ratio_at_least(number: str, claim: str, ours: str, peer: str, found: Ratio, limit: float, **facts: object) -> Row:
    """A bar on a gain, where more is better (a rate by the peer's rate, or the peer's time by ours)."""
    return Row(number, claim, ours, peer, f"{found}x", f"≥ {limit:g}x", found.value >= limit, facts)


def count_at_most(number: str, claim: str, ours: float, peer: float, name: str, limit: float, **facts: object) -> Row:
    """A bar on ours by the peer's, both counted in instructions, which have no noise to speak of."""
    found = ours / peer
    shown, other = f"{ours:,.0f} instructions", f"{peer:,.0f} ({name})"
    return Row(number, claim, shown, other, f"{found:.3f}x", f"≤ {limit:g}x", found <= limit, facts)


def context(row: Row) -> Row:
    """The same figures without a bar."""
    return replace(row, bar=NOT_A_BAR, reached=None)


def machine_facts() -> dict[str, str]:
    """What the figures depend on: kernel, CPU, cores, memory, Python, cgroup version, versions of the peers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(Path("/proc/cpuinfo")),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.1f} GiB",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cgroup": cgroup_version(Path("/sys/fs/cgroup")),
        "mitigations": mitigations(Path("/sys/devices/system/cpu/vulnerabilities")),
        "governor": _word(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "load": f"{os.getloadavg()[1]:.1f} over the last five minutes, this run's own included",
    }
    packages = ("awslambdaric", "boto3", "granian", "gunicorn", "numpy", "orjson", "msgspec", "uvicorn", "uvloop")
    for package in (*packages, "httptools", "pytest-benchmark"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpu_model(cpuinfo: Path) -> str:
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model", "CPU part"}:
            return value.strip()
    return "unknown"


def _word(path: Path) -> str:
    """What a file of one word says; ``none`` where the kernel has no such file, as on most virtual machines."""
    try:
        return path.read_text().strip() or "none"
    except OSError:
        return "none"


def mitigations(directory: Path) -> str:
    """What the kernel does against each hardware fault that this processor has; system calls cost more for most."""
    try:
        said = {path.name: path.read_text().strip() for path in sorted(directory.iterdir())}
    except OSError:
        return "unknown"
    found = [f"{name}: {text}" for name, text in said.items() if text != "Not affected"]
    return "; ".join(found) or "none needed"


def cgroup_version(root: Path) -> str:
    """``v2``, ``hybrid`` (v1 with a v2 tree beside it), ``v1`` or ``none``, by what is mounted below ``root``."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    if (root / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    return "v1" if (root / "memory").is_dir() or (root / "cpu").is_dir() else "none"


def _place(row: Row) -> tuple[int, str]:
    """Row 10a comes after row 9."""
    number = row.number.lstrip("0123456789")
    return int(row.number[: len(row.number) - len(number)] or 0), number


_COLUMNS = ("#", "claim", "ours", "peer", "ratio [95 % interval]", "bar", "reached")


def markdown(rows: Sequence[Row], machine: dict[str, str]) -> str:
    """The table and the machine's facts. A ``|`` inside a cell is escaped."""
    lines = ["# Bars", "", "| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    for row in rows:
        cells = (row.number, row.claim, row.ours, row.peer, row.ratio, row.bar, row.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    judged = [row for row in rows if row.reached is not None]
    lines += ["", f"{sum(bool(row.reached) for row in judged)} of {len(judged)} bars reached.", "", "Machine:", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row], directory: Path) -> str:
    """Write ``bars.md`` and ``bars.json`` into ``directory`` (made if missing); the Markdown."""
    machine = machine_facts()
    ordered = sorted(rows, key=_place)
    text = markdown(ordered, machine)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bars.md").write_text(text)
    content = {"machine": machine, "rows": [asdict(row) for row in ordered]}
    (directory / "bars.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return text

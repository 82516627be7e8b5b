"""The figures of one function: every kind of start in turns, memory, stages, and the price at each memory size."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lamplighter.measure import prices
from lamplighter.measure.exchange import AnswerFault, connected, cycled, invoke, invoke_anew
from lamplighter.measure.hosting import Function, Host, HostFault, Report, host
from lamplighter.measure.runtime_api import started_client
from lamplighter.measure.samples import Summary, summary

IDLE_S = 0.06
"""Quiet before each start: moving a process into a cgroup waits for RCU on a kernel that was idle, and only there."""
LAUNCHES, WARM = 3, 20
"""Starts by fork, and warm invocations, in each round."""
WEIGHED = 8
"""Parked environments that are weighed together."""
ONE_VCPU_MB = 1769
MEMORY_SIZES = (128, 256, 512, 1024, ONE_VCPU_MB, 3008, 10240)
PRICED = 5
"""Invocations at each memory size, after the first."""

COLD, FORK, PARKED, WARM_KIND, NEXT = "cold", "fork", "parked", "warm", "next event"
KINDS = {
    COLD: "Python started, the handler imported, the first answer: a new process with this runtime interface client",
    FORK: "first answer of an environment forked on demand, nothing parked",
    PARKED: "first answer of an environment forked ahead of demand",
    WARM_KIND: "a further answer of the same environment, over HTTP and through the host",
    NEXT: "a further answer to the Runtime API itself, without a host or an HTTP client before it",
}

Progress = Callable[[str, int, int], None]
"""Called with what is measured now, the steps done, and all of them."""


def _silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""


@dataclass
class Size:
    """What a million calls cost at one memory size; ``problem`` where the function does not run in it."""

    memory_mb: int
    duration_ms: float = 0.0
    measured: bool = False
    cost: prices.Cost | None = None
    problem: str = ""


@dataclass
class Result:
    """All figures. Times in ms, memory in MB, ``stages`` medians in microseconds by kind of start."""

    function: Function
    events: int
    machine: dict[str, str]
    enforcement: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    duration_ms: float = 0.0
    """The median Duration of a warm invocation, as REPORT has it."""
    sizes: list[Size] = field(default_factory=list)
    peer: str = ""
    notes: list[str] = field(default_factory=list)

    def summaries(self) -> dict[str, Summary]:
        return {kind: summary(times) for kind, times in self.samples.items()}

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "function": {**self.function._asdict(), "environment": sorted(self.function.environment)},
            "events": self.events,
            "machine": self.machine,
            "enforcement": self.enforcement,
            "starts_ms": {kind: one._asdict() for kind, one in self.summaries().items()},
            "samples_ms": self.samples,
            "stages_us": self.stages,
            "duration_ms": self.duration_ms,
            "memory_mb": self.memory,
            "cost_of_a_million_calls": [
                {
                    "memory_mb": size.memory_mb,
                    "duration_ms": size.duration_ms,
                    "measured_at_this_size": size.measured,
                    "problem": size.problem,
                    **(size.cost._asdict() if size.cost else {}),
                }
                for size in self.sizes
            ],
            "prices": {
                "region": prices.REGION,
                "read_on": prices.READ_ON,
                "usd_per_gb_second": prices.USD_PER_GB_SECOND,
            },
            "peer": self.peer,
            "notes": self.notes,
        }


def machine_facts() -> dict[str, str]:
    """What every figure depends on."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": models[0] if models else "unknown",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _lines(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace").splitlines()
    return []


def bench(
    function: Function, events: list[bytes], *, rounds: int, peer: str = "", progress: Progress = lambda *_: None
) -> Result:
    """Measure. Raises :class:`HostFault` or :class:`AnswerFault` when the function cannot be measured at all."""
    events = events or [b"{}"]
    result = Result(function, len(events), machine_facts(), peer=peer)
    smaller = [size for size in MEMORY_SIZES if size < ONE_VCPU_MB]
    total = rounds + 1 + len(smaller)
    _starts(result, events, rounds, lambda what, done: progress(what, done, total))
    progress("memory", rounds, total)
    _memory(result)
    for done, size in enumerate(smaller, rounds + 1):
        progress(f"{size} MB", done, total)
        result.sizes.append(_at(result, events, size))
    _full_speed(result)
    progress("done", total, total)
    return result


def _starts(result: Result, events: list[bytes], rounds: int, progress: Callable[[str, int], None]) -> None:
    function = result.function
    requests = cycled(events)
    with (
        host(function, "--parked", "0", "--fresh-per-invocation") as forking,
        host(function, "--parked", "1", "--fresh-per-invocation") as parking,
        host(function, "--parked", "1") as keeping,
        contextlib.ExitStack() as connections,
    ):
        ready = keeping.wait_parked(1)
        result.enforcement = dict(ready["enforcement"])
        if obstacles := ready["functions"]["function"].get("obstacles"):
            reasons = "; ".join(obstacles)
            result.notes.append(f"not safe to fork, so each environment is a process with its own init: {reasons}")
        forking.wait_parked()
        parking.wait_parked(1)
        to_parked, to_kept = (connections.enter_context(connected(one.address)) for one in (parking, keeping))
        # What a first invocation writes to is learned from the first; that one belongs to no figure.
        invoke_anew(forking.address, next(requests))
        invoke(to_parked, next(requests))
        for _ in range(3):
            invoke(to_kept, next(requests))

        def cold(client: str) -> list[float]:
            time.sleep(IDLE_S)
            run = started_client(client, function, events, WARM if result.peer else 0)
            if run.later_ms:
                result.samples.setdefault(f"{client}: {NEXT}", []).extend(run.later_ms)
            result.memory[f"{client}, one process"] = round(run.pss_mb, 2)
            return [run.first_ms]

        def forked() -> list[float]:
            times = []
            for _ in range(LAUNCHES):
                time.sleep(IDLE_S)
                times.append(invoke_anew(forking.address, next(requests)))
            return times

        def parked() -> list[float]:
            times = []
            for _ in range(LAUNCHES):
                parking.wait_parked(1)
                time.sleep(IDLE_S)
                times.append(invoke(to_parked, next(requests)))
            return times

        def warm() -> list[float]:
            return [invoke(to_kept, next(requests)) for _ in range(WARM)]

        blocks = {COLD: lambda: cold("lamplighter.bootstrap"), FORK: forked, PARKED: parked, WARM_KIND: warm}
        if result.peer:
            blocks[f"{result.peer}: {COLD}"] = lambda: cold(result.peer)
        names = list(blocks)
        for turn in range(rounds):
            progress("starts", turn)
            # Every second round the other way round: no kind always follows the same other one.
            for name in names if turn % 2 == 0 else reversed(names):
                result.samples.setdefault(name, []).extend(blocks[name]())
        for kind, one in ((FORK, forking), (PARKED, parking)):
            result.stages[kind] = _medians(_settled(one, 1 + rounds * LAUNCHES)[1:])
        reports = _settled(keeping, 3 + rounds * WARM)[3:]
        result.memory["Max Memory Used"] = float(reports[-1].used_mb)
        result.duration_ms = statistics.median(report.duration_ms for report in reports)


def _settled(one: Host, count: int) -> list[Report]:
    """The host's reports, once it has written as many: its log is written behind the answers."""
    deadline = time.monotonic() + 10
    while len(found := one.reports()) < count:
        if time.monotonic() > deadline:
            raise HostFault(f"{count} invocations were answered, and {len(found)} reported")
        time.sleep(0.02)
    return found


def _medians(reports: list[Report]) -> dict[str, float]:
    names = dict.fromkeys(name for report in reports for name in report.stages_us)
    return {
        name: statistics.median(report.stages_us[name] for report in reports if name in report.stages_us)
        for name in names
    }


def _memory(result: Result) -> None:
    weights = {}
    for count in (1, 1 + WEIGHED):
        with host(result.function, "--parked", str(count), "--concurrency", str(1 + WEIGHED)) as one:
            one.wait_parked(count)
            weights[count] = one.pss_mb()
    result.memory["each further parked environment"] = round((weights[1 + WEIGHED] - weights[1]) / WEIGHED, 2)
    result.memory["host, template and one environment"] = round(weights[1], 2)


def _at(result: Result, events: list[bytes], memory_mb: int) -> Size:
    """Warm durations under the CPU share and the memory limit of a smaller size, where they can be held here."""
    size = Size(memory_mb)
    if result.enforcement.get("cpu") in {None, "none"}:
        size.problem = "no CPU share can be held here, so the duration at this size is not known"
        return size
    requests = cycled(events)
    try:
        with host(result.function, "--parked", "1", "--memory", str(memory_mb)) as one:
            one.wait_parked(1)
            with connected(one.address) as sock:
                for _ in range(1 + PRICED):
                    invoke(sock, next(requests))
            size.duration_ms = statistics.median(report.duration_ms for report in _settled(one, 1 + PRICED)[1:])
    except (HostFault, AnswerFault) as fault:
        size.problem = str(fault).partition("\n")[0]
        return size
    size.measured = True
    size.cost = prices.million_calls(memory_mb, size.duration_ms, _init_ms(result))
    return size


def _full_speed(result: Result) -> None:
    """From one vCPU on, one thread gets no faster."""
    for memory_mb in MEMORY_SIZES:
        if memory_mb >= ONE_VCPU_MB:
            cost = prices.million_calls(memory_mb, result.duration_ms, _init_ms(result))
            result.sizes.append(Size(memory_mb, result.duration_ms, memory_mb == result.function.memory_mb, cost))
    if sys.flags.dev_mode:
        result.notes.append("measured in Python's development mode, which is slower")


def _init_ms(result: Result) -> float:
    """What a start by exec takes beyond a warm call: Python's start and the import, as Lambda bills init."""
    return max(0.0, statistics.median(result.samples[COLD]) - statistics.median(result.samples[WARM_KIND]))


def ratios(result: Result) -> Mapping[str, float]:
    """How many times a cold start is as long as each other kind of start, by medians."""
    middle = {kind: one.p50 for kind, one in result.summaries().items()}
    return {kind: middle[COLD] / value for kind, value in middle.items() if kind != COLD and value > 0}

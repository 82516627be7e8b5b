"""Wall time of the codecs, round by round, each round in a process of its own.

A call that takes a tenth of a microsecond is a third slower or faster from one process to the next, with the same code
and the same input, by where its memory came to lie; and stays so until the process ends. Rounds of one process would
agree with each other and be wrong together. So each round is a new process, in which all kinds of input have their
turn, and within each kind the libraries take turns on blocks that nobody has coded before.

``python -m bench.codec_times encode|decode ROUND`` is one such process: it writes ``{kind: {library: [seconds]}}``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import coding, returns, sources
from bench.coding import LIBRARIES
from bench.measure import Side, beside_each_other, interleave

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 20
BLOCKS = 5
"""Blocks of a round, for each kind and library."""
ENCODED = 100
"""Values of a block."""

Block = Callable[[str], list[float]]


def kinds(what: str) -> list[str]:
    """Raises ``ValueError`` unless ``what`` is ``encode`` or ``decode``."""
    match what:
        case "encode":
            return list(returns.RETURNS)
        case "decode":
            return [*sources.SOURCES, *sources.UNKNOWN]
    raise ValueError(f"there is no codec to {what!r}: encode or decode")


def measured(what: str, rounds: int = ROUNDS) -> dict[str, dict[str, Side]]:
    """The sides of each kind, by library; ``what`` is ``encode`` or ``decode``. Raises ``RuntimeError``."""
    found = {kind: {library: Side(library) for library in LIBRARIES} for kind in kinds(what)}
    for number in range(rounds):
        command = [sys.executable, "-m", "bench.codec_times", what, str(number)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"round {number} ended with status {done.returncode}: {done.stderr[-2000:]}")
        for kind, of_libraries in json.loads(done.stdout).items():
            for library, seconds in of_libraries.items():
                found[kind][library].rounds.append(seconds)
    for sides in found.values():
        beside_each_other(sides)
    return found


def _encoding(kind: str, seed: int) -> Block:
    maker, seeds = returns.RETURNS[kind], iter(range(seed, seed + 10_000))
    loops = {library: coding.encode_loop(library) for library in LIBRARIES}
    for loop in loops.values():
        loop(returns.values(maker, next(seeds), ENCODED))

    def block(library: str) -> list[float]:
        values = returns.values(maker, next(seeds), ENCODED)
        start = time.perf_counter()
        loops[library](values)
        return [(time.perf_counter() - start) / ENCODED]

    return block


def _decoding(kind: str, seed: int) -> Block:
    count = coding.counted(kind) // 5
    warm, bodies = coding.decode_inputs(kind, seed, count), coding.decode_inputs(kind, seed + 1, count * BLOCKS)
    loops = {library: coding.decode_loop(library) for library in LIBRARIES}
    taken = dict.fromkeys(LIBRARIES, 0)
    for loop in loops.values():
        loop(warm)

    def block(library: str) -> list[float]:
        fresh = bodies[taken[library] : taken[library] + count]
        taken[library] += count
        start = time.perf_counter()
        loops[library](fresh)
        return [(time.perf_counter() - start) / count]

    return block


def _round(what: str, number: int) -> dict[str, dict[str, list[float]]]:
    found = {}
    for kind in kinds(what):
        block = (_encoding if what == "encode" else _decoding)(kind, 10_000 * (number + 1))
        # Whose turn is first changes from round to round.
        order = LIBRARIES if number % 2 == 0 else LIBRARIES[::-1]
        sides = interleave({library: partial(block, library) for library in order}, BLOCKS)
        found[kind] = {library: side.samples for library, side in sides.items()}
    return found


if __name__ == "__main__":
    json.dump(_round(sys.argv[1], int(sys.argv[2])), sys.stdout)

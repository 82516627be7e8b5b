"""The codecs side by side: loops over fresh inputs, for wall time in this process and for callgrind in one of its own.

Run as ``python -m bench.coding SHIM encode|decode NAME`` it is the process that :mod:`bench.instructions` counts in. It
warms each library up on other inputs of the same kind, then runs each loop once between two marks.
"""

from __future__ import annotations

import ctypes
import gc
import json
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bench import returns, sources

OURS, ORJSON, MSGSPEC, JSON = "lamplighter", "orjson", "msgspec", "json"
LIBRARIES = (OURS, ORJSON, MSGSPEC, JSON)
EMPTY = "empty"
"""The loop without a call; its cost is in every other loop, and is taken off."""

Loop = Callable[[Sequence[Any]], None]


def _loop(call: Callable[[Any], object]) -> Loop:
    def run(values: Sequence[Any]) -> None:
        for value in values:
            call(value)

    return run


def _empty(values: Sequence[Any]) -> None:
    for _value in values:
        pass


def _decoder(library: str) -> Callable[[bytes], Any]:
    """A decoder that has seen nothing yet."""
    match library:
        case "orjson":
            import orjson

            return orjson.loads
        case "msgspec":
            import msgspec

            return msgspec.json.Decoder().decode
        case "json":
            return json.loads
    from lamplighter.events import Decoder

    return Decoder().decode


def decode_loop(library: str) -> Loop:
    """Decode each body once and let the value go, with a decoder that has seen nothing yet."""
    return _loop(_decoder(library))


def reading_loop(library: str, sample: bytes) -> Loop:
    """Decode each body and read every leaf once, as a handler would: by keys and indices written in its code."""
    lines: list[str] = []
    _leaves(json.loads(sample), "event", lines)
    code = "def run(bodies):\n for body in bodies:\n  event = decode(body)\n" + "".join(f"  {line}\n" for line in lines)
    space: dict[str, Any] = {"decode": _decoder(library)}
    exec(compile(code, "<a handler that reads every leaf>", "exec"), space)
    run: Loop = space["run"]
    return run


def _leaves(value: object, path: str, lines: list[str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _leaves(inner, f"{path}[{key!r}]", lines)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _leaves(inner, f"{path}[{index}]", lines)
    else:
        lines.append(path)


def encode_loop(library: str) -> Loop:
    """Encode each value once, non-ASCII characters as UTF-8, and let the bytes go."""
    match library:
        case "orjson":
            import orjson

            return _loop(orjson.dumps)
        case "msgspec":
            import msgspec

            return _loop(msgspec.json.Encoder().encode)
        case "json":
            return _loop(json.JSONEncoder(ensure_ascii=False).encode)
    from lamplighter.events import encode

    def run(values: Sequence[Any]) -> None:
        for value in values:
            encode(value, ascii_only=False)

    return run


def escaping_loop(library: str) -> Loop:
    """The same with everything beyond ASCII escaped, Lambda's default; of the peers only ``json`` can."""
    if library == JSON:
        return _loop(json.JSONEncoder(ensure_ascii=True).encode)
    assert library == OURS
    from lamplighter.events import encode

    def run(values: Sequence[Any]) -> None:
        for value in values:
            encode(value, ascii_only=True)

    return run


def decode_inputs(name: str, seed: int, count: int) -> list[bytes]:
    return sources.bodies({**sources.SOURCES, **sources.UNKNOWN}[name], seed, count)


def counted(name: str) -> int:
    """How many inputs of a kind one loop takes: about a megabyte, and enough to average over."""
    return 30 if name == "DynamoDB x100" else 100


class _Marks:
    """Callgrind's counters: zeroed by :meth:`start`, written out under a label by :meth:`stop`."""

    def __init__(self, shim: str) -> None:
        self._shim = ctypes.CDLL(shim)
        self._shim.stop.argtypes = [ctypes.c_char_p]

    def run(self, label: str, loop: Loop, warm: Sequence[Any], fresh: Sequence[Any]) -> None:
        loop(warm)
        gc.collect()
        self._shim.start()
        loop(fresh)
        self._shim.stop(label.encode())


def _count_decoding(marks: _Marks, name: str) -> None:
    count = counted(name)
    warm, fresh = decode_inputs(name, 1, count), decode_inputs(name, 2, count)
    gc.freeze()
    marks.run(EMPTY, _empty, warm, fresh)
    for library in LIBRARIES:
        marks.run(library, decode_loop(library), warm, fresh)
    if name in sources.SOURCES:
        for library in LIBRARIES:
            marks.run(f"{library}, reading", reading_loop(library, warm[0]), warm, fresh)


def _count_encoding(marks: _Marks, name: str) -> None:
    def run(label: str, loop: Loop) -> None:
        maker = returns.RETURNS[name]
        warm, fresh = returns.values(maker, 1, counted(name)), returns.values(maker, 2, counted(name))
        gc.collect()
        gc.freeze()
        marks.run(label, loop, warm, fresh)

    run(EMPTY, _empty)
    for library in LIBRARIES:
        run(library, encode_loop(library))
    for library in (OURS, JSON):
        run(f"{library}, ascii", escaping_loop(library))


if __name__ == "__main__":
    shim, what, name = sys.argv[1:]
    random.seed(0)
    (_count_encoding if what == "encode" else _count_decoding)(_Marks(shim), name)

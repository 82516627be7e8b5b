"""The judge of decoding: what ``json.loads`` makes of the same text."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

Decode = Callable[[bytes], Any]


class Refused:
    """There is no value, for this reason."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Refused({self.reason!r})"


def expected(body: bytes) -> Any:
    """The value of ``body``, or :class:`Refused`.

    ``json.loads`` also takes UTF-16, UTF-32 and surrogates in UTF-8; an event is UTF-8 and nothing else.
    """
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as fault:
        return Refused(fault)


def found(decode: Decode, body: bytes) -> Any:
    """What ``decode`` makes of ``body``, likewise. Nothing but ``ValueError`` and ``RecursionError`` is a refusal."""
    try:
        return decode(body)
    except (ValueError, RecursionError) as fault:
        return Refused(fault)


def difference(actual: Any, wanted: Any) -> str:
    """Where two values differ: in type, in sign of zero, in order of keys; empty where they do not."""
    stack = [("$", actual, wanted)]
    while stack:
        path, one, other = stack.pop()
        if isinstance(one, Refused) and isinstance(other, Refused):
            continue
        if type(one) is not type(other):
            return f"{path}: {_shown(one)} instead of {_shown(other)}"
        if isinstance(one, dict):
            if list(one) != list(other) or any(type(key) is not str for key in one):
                return f"{path}: the keys {_shown(list(one))} instead of {_shown(list(other))}"
            stack += [(f"{path}[{key!r}]", one[key], other[key]) for key in one]
        elif isinstance(one, list):
            if len(one) != len(other):
                return f"{path}: {len(one)} items instead of {len(other)}"
            stack += [(f"{path}[{at}]", *pair) for at, pair in enumerate(zip(one, other, strict=True))]
        elif isinstance(one, float):
            if struct.pack("<d", one) != struct.pack("<d", other) and (one == one or other == other):
                return f"{path}: {one!r} instead of {other!r}"
        elif one != other:
            return f"{path}: {_shown(one)} instead of {_shown(other)}"
    return ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def judge(decode: Decode, body: bytes) -> None:
    """Fail where ``decode`` and ``json.loads`` differ on ``body``."""
    wrong = difference(found(decode, body), expected(body))
    assert not wrong, f"{wrong} in {body[:300]!r}"


def containers(value: Any) -> set[int]:
    """The ids of all dicts and lists in ``value``."""
    ids: set[int] = set()
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict | list):
            assert id(one) not in ids, "one container in two places"
            ids.add(id(one))
            stack += one.values() if isinstance(one, dict) else one
    return ids

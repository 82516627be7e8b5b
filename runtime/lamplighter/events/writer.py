"""JSON for results of other than the plain types: subclasses, named tuples, Decimals, nested bytes.

It is also the judge of what cannot be written: the fast encoder's refusals all end here, and the words are the ones
observed on AWS's client. One call per array or object, one branch per value, in that client's order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring, encode_basestring_ascii
from math import inf, isnan
from typing import TypeVar

T = TypeVar("T")


def write(result: object, ascii_only: bool) -> str:
    """``result`` as JSON text. Raises ``TypeError``, ``ValueError``, or what a method of the result raises."""
    return _Writer(encode_basestring_ascii if ascii_only else encode_basestring).text(result)


def explain(fault: Exception) -> str:
    """The words for what :func:`write` raised."""
    if isinstance(fault, RecursionError):
        return "maximum recursion depth exceeded while encoding a JSON object"
    return str(fault)


class _Writer:
    """One result's writing. ``_open`` holds the ids of the containers around the present value."""

    __slots__ = ("_append", "_chunks", "_open", "_quote")

    def __init__(self, quote: Callable[[str], str]) -> None:
        self._quote = quote
        self._chunks: list[str] = []
        self._append = self._chunks.append
        self._open: set[int] = set()

    def text(self, result: object) -> str:
        self._value(result)
        return "".join(self._chunks)

    def _value(self, value: object) -> None:
        # One branch a type; their order is the meaning.
        if isinstance(value, str):
            self._append(self._quote(value))
        elif isinstance(value, bytes):
            self._append(self._quote(str(value, "utf-8")))
        elif value is None:
            self._append("null")
        elif value is True:
            self._append("true")
        elif value is False:
            self._append("false")
        elif isinstance(value, int):
            self._append(int.__repr__(value))
        elif isinstance(value, float):
            self._append(_number(value))
        elif (fields := _fields(value)) is not None:
            self._enclosed(value, self._object, fields)
        elif isinstance(value, list | tuple):
            self._enclosed(value, self._array, value)
        elif isinstance(value, dict):
            self._enclosed(value, self._object, value)
        else:
            self._append(_decimal(value))

    def _enclosed(self, container: object, body: Callable[[T], None], content: T) -> None:
        identity = id(container)
        if identity in self._open:
            raise ValueError("Circular reference detected")
        self._open.add(identity)
        body(content)
        self._open.discard(identity)

    def _array(self, items: Iterable[object]) -> None:
        separator = "["
        for item in items:
            self._append(separator)
            self._value(item)
            separator = ", "
        self._append("[]" if separator == "[" else "]")

    def _object(self, fields: dict[object, object]) -> None:
        separator = "{"
        for key, value in fields.items():
            self._append(separator)
            self._append(self._quote(_key(key)))
            self._append(": ")
            self._value(value)
            separator = ", "
        self._append("{}" if separator == "{" else "}")


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if value in (inf, -inf):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def _key(key: object) -> str:  # noqa: PLR0911 - one a type
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return str(key, "utf-8")
    if isinstance(key, float):
        return _number(key)
    if key is True:
        return "true"
    if key is False:
        return "false"
    if key is None:
        return "null"
    if isinstance(key, int):
        return int.__repr__(key)
    raise TypeError(f"keys must be str, int, float, bool or None, not {key.__class__.__name__}")


def _fields(value: object) -> dict[object, object] | None:
    """A named tuple's fields; ``None`` for what has no ``_asdict()``, or one that needs arguments."""
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method()
    except TypeError:
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"_asdict() must return a dict, not {type(fields).__name__}")
    return fields


def _decimal(value: object) -> str:
    # Who returns a Decimal has imported decimal; nobody else pays for it.
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return "NaN" if value.is_nan() else str(value)
    raise TypeError(f"Object of type {value.__class__.__name__} is not JSON serializable")

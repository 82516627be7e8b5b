"""The words for what is wrong with a JSON text.

AWS's client words a JSON fault as simplejson does, and the words reach the caller as ``errorMessage``. The standard
library finds the same faults, but its words differ, and change from one Python to the next. So only the kind and the
place of a fault are taken from it here, and the sentence is made anew. This runs only once decoding has failed: it may
read the text twice.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import NoReturn

WHITESPACE = " \t\n\r"

_STRING = r'"(?:[^"\\]|\\.)*"'


class NotJSON(ValueError):
    """A fault that is worded already."""


class _Constant(Exception):
    """The scanner met ``NaN`` or an infinity; it does not tell where."""


def _refuse_constant(name: str) -> NoReturn:
    raise _Constant(name)


_scan = JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


def read(body: bytes) -> object:
    """The value of ``body``, read anew; raises what :func:`explain` has the words for."""
    text = str(body, "utf-8")
    start = 1 if text.startswith("\ufeff") else 0
    start += len(text) - start - len(text[start:].lstrip(WHITESPACE))
    try:
        value, end = _scan(text, start)
    except StopIteration as fault:
        raise NotJSON(expecting_value(text, fault.value)) from None
    except _Constant:
        raise NotJSON(expecting_value(text, first_constant(text, start))) from None
    rest = end + len(text) - end - len(text[end:].lstrip(WHITESPACE))
    if rest != len(text):
        raise NotJSON(extra_data(text, rest))
    return value


def expecting_value(text: str, at: int) -> str:
    """There is no value at ``at``."""
    before = len(text[:at].rstrip(WHITESPACE)) - 1
    opener = text[before] if before >= 0 else ""
    if opener == "[" and at == len(text):
        return _placed("Expecting value or ']'", text, at)
    if opener == "," and text[at : at + 1] == "]":
        return _placed("Illegal trailing comma before end of array", text, before)
    return _placed("Expecting value", text, at)


def extra_data(text: str, at: int) -> str:
    """One value has ended, and from ``at`` on there is more."""
    line, column = _line_and_column(text, at)
    last_line, last_column = _line_and_column(text, len(text))
    return f"Extra data: line {line} column {column} - line {last_line} column {last_column} (char {at} - {len(text)})"


def first_constant(text: str, start: int) -> int:
    """Where the first ``NaN``, ``Infinity`` or ``-Infinity`` outside a string stands."""
    for found in re.finditer(rf"{_STRING}|NaN|-?Infinity", text[start:], re.DOTALL):
        if not found[0].startswith('"'):
            return start + found.start()
    return start


def explain(fault: Exception) -> str:
    """The words for a fault raised while decoding."""
    if isinstance(fault, JSONDecodeError):
        return _reworded(fault.msg, fault.doc, fault.pos)
    if isinstance(fault, RecursionError):
        return str(fault).replace("unicode string", "string")
    return str(fault)


def _reworded(message: str, text: str, at: int) -> str:  # noqa: PLR0911 - one a kind of fault
    if message.startswith("Expecting value"):
        return expecting_value(text, at)
    if message.startswith("Expecting property name"):
        return _expecting_name(text, at)
    if message.startswith("Expecting ',' delimiter"):
        return _placed(f"Expecting ',' delimiter or {_closer(text, at)!r}", text, at)
    if message.startswith("Invalid control character"):
        return _placed(f"Invalid control character {text[at]!r} at", text, at)
    if message.startswith("Invalid \\u"):
        escape = text.rfind("\\", 0, at + 1)
        if re.fullmatch(r"\\u[0-9a-fA-F]{4}", text[escape:]):  # sound, but the text ends with it
            return _placed("Unterminated string starting at", text, _open_quote(text, escape))
        return _placed("Invalid \\uXXXX escape sequence", text, escape)
    if message.startswith("Invalid \\"):
        escape = text.rfind("\\", 0, at + 1) + 1
        return _placed(f"Invalid \\X escape sequence {text[escape]!r}", text, escape)
    return _placed(message, text, at)


def _expecting_name(text: str, at: int) -> str:
    before = len(text[:at].rstrip(WHITESPACE)) - 1
    if text[before] == "{":
        return _placed("Expecting property name enclosed in double quotes or '}'", text, at)
    if text[at : at + 1] == "}":
        return _placed("Illegal trailing comma before end of object", text, before)
    return _placed("Expecting property name enclosed in double quotes", text, at)


def _closer(text: str, at: int) -> str:
    """What would close the innermost array or object that is open at ``at``; up to there the text is sound."""
    opened: list[str] = []
    for found in re.finditer(rf"{_STRING}|[\[\]{{}}]", text[:at], re.DOTALL):
        mark = found[0]
        if mark in "[{":
            opened.append(mark)
        elif mark in "]}":
            opened.pop()
    return "]" if opened[-1] == "[" else "}"


def _open_quote(text: str, at: int) -> int:
    """Where the string around ``at`` begins; up to there the text is sound."""
    return next(found.start() for found in re.finditer(rf'{_STRING}|"', text[:at], re.DOTALL) if found[0] == '"')


def _placed(message: str, text: str, at: int) -> str:
    line, column = _line_and_column(text, at)
    return f"{message}: line {line} column {column} (char {at})"


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)

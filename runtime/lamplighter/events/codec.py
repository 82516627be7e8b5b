"""The one face of event coding: :func:`decode` and :func:`encode`.

What the service does was observed on awslambdaric 4.2.2, AWS's own client for Python. It codes with simplejson, which
differs from the standard library's ``json`` where a handler's author can see it: an event may not hold ``NaN``, and
must be UTF-8; a named tuple becomes an object, nested bytes a string, a ``Decimal`` a bare number. Here C
code does the common case, and two slow paths own the rest: :mod:`lamplighter.events.syntax` words the faults of an
event, :mod:`lamplighter.events.writer` writes results of other than the plain types.
"""

from __future__ import annotations

from json import JSONDecoder
from typing import NoReturn

from lamplighter._events import encoder
from lamplighter.events import syntax


class CodecFault(Exception):
    """Data that cannot be coded. ``str()`` of it is the ``errorMessage``, ``error_type`` the ``errorType``."""

    error_type = "Runtime.Unknown"


class UnmarshalError(CodecFault):
    """The event's body is not JSON in UTF-8."""

    error_type = "Runtime.UnmarshalError"


class MarshalError(CodecFault):
    """The handler's result has no JSON form."""

    error_type = "Runtime.MarshalError"


class _Constant(Exception):
    """The scanner met ``NaN`` or an infinity; it does not tell where."""


def _refuse_constant(name: str) -> NoReturn:
    raise _Constant(name)


_scan = JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


def decode(body: bytes) -> object:
    """The Python value of the JSON text ``body``.

    Raises :class:`UnmarshalError` for whatever is not one JSON value in UTF-8 (a byte order mark may precede it).
    """
    try:
        text = str(body, "utf-8")
        value, end = _scan(text, 0)
        if end == len(text) or not text[end:].strip(syntax.WHITESPACE):
            return value
    except Exception:  # noqa: S110 - whatever it was, the second reading below finds it again, and words it
        pass
    return _decode_again(body)


def _decode_again(body: bytes) -> object:
    try:
        text = str(body, "utf-8")
        start = 1 if text.startswith("\ufeff") else 0
        start += len(text) - start - len(text[start:].lstrip(syntax.WHITESPACE))
        try:
            value, end = _scan(text, start)
        except StopIteration as fault:
            raise syntax.NotJSON(syntax.expecting_value(text, fault.value)) from None
        except _Constant:
            raise syntax.NotJSON(syntax.expecting_value(text, syntax.first_constant(text, start))) from None
        rest = end + len(text) - end - len(text[end:].lstrip(syntax.WHITESPACE))
        if rest != len(text):
            raise syntax.NotJSON(syntax.extra_data(text, rest))
    except Exception as fault:
        raise UnmarshalError(f"Unable to unmarshal input: {syntax.explain(fault)}") from None
    return value


def _encode_slowly(result: object, ascii_only: bool) -> tuple[bytes, bool]:
    """What :func:`encode` does, for results of other than the plain types."""
    if isinstance(result, bytes):
        return bytes(result), False
    from lamplighter.events import writer  # noqa: PLC0415 - most handlers never return what needs it

    try:
        text = writer.write(result, ascii_only)
    except Exception as fault:
        raise MarshalError(f"Unable to marshal response: {writer.explain(fault)}") from None
    # A lone surrogate has no UTF-8 form. Written as a backslash escape it is JSON again; awslambdaric ends its process
    # here.
    return text.encode("utf-8", "backslashreplace"), True


encode = encoder(_encode_slowly)

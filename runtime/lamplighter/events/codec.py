"""The one face of event coding: :func:`decode` and :func:`encode`.

What the service does was observed on awslambdaric 4.2.2, AWS's own client for Python. It codes with simplejson, which
differs from the standard library's ``json`` where a handler's author can see it: an event may not hold ``NaN``, and
must be UTF-8; a named tuple becomes an object, nested bytes a string, a ``Decimal`` a bare number. Here the standard
library's C code does the common case, and two slow paths own the rest: :mod:`lamplighter.events.syntax` words the
faults of an event, :mod:`lamplighter.events.writer` writes results of other than the plain types.
"""

from __future__ import annotations

import _json
import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs 4 ms to import, json and re, which the slow paths need, as much again
    from typing import Any, NoReturn


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


class _Reading:
    """What the standard library's scanner asks a decoder for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


def _refuse_type(value: object) -> NoReturn:
    raise TypeError(f"Object of type {value.__class__.__name__} is not JSON serializable")


def _encoder(quote: Any) -> Any:
    # The arguments of json.JSONEncoder's own one-shot encoder: markers, default, quote, indent, separators, sort_keys,
    # skipkeys, allow_nan.
    return _json.make_encoder(None, _refuse_type, quote, None, ": ", ", ", False, False, True)


_scan: Any = _json.make_scanner(_Reading)  # type: ignore[arg-type]  # any object with these attributes will do
_ascii = _encoder(_json.encode_basestring_ascii)
_unicode = _encoder(_json.encode_basestring)


def decode(body: bytes) -> object:
    """The Python value of the JSON text ``body``.

    Raises :class:`UnmarshalError` for whatever is not one JSON value in UTF-8 (a byte order mark may precede it).
    """
    try:
        text = str(body, "utf-8")
        value, end = _scan(text, 0)
        if end == len(text) or not text[end:].strip(" \t\n\r"):
            return value
    except Exception:  # noqa: S110 - whatever it was, the second reading below finds it again, and words it
        pass
    return _decode_again(body)


def _decode_again(body: bytes) -> object:
    from lamplighter.events import syntax  # noqa: PLC0415 - it brings re, and few events are faulty

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


def encode(result: object, *, ascii_only: bool) -> tuple[bytes, bool]:
    """A handler's result as bytes, and whether they are JSON.

    Bytes are sent as they are, and are not JSON. Everything else becomes JSON with the separators ``", "`` and
    ``": "``; ``ascii_only`` says whether other characters are escaped. Floats that JSON does not know go out as ``NaN``
    and ``Infinity``, as on Lambda. Raises :class:`MarshalError`.
    """
    if isinstance(result, bytes):
        return bytes(result), False
    try:
        # Marshal takes the exact built-in types and refuses every subclass. So where it succeeds, the C encoder cannot
        # meet a named tuple, which it would write as an array without asking; no other test is as fast. Shared and
        # circular structures are walked once.
        marshal.dumps(result)  # type: ignore[arg-type]
        text = "".join((_ascii if ascii_only else _unicode)(result, 0))
    except Exception:
        from lamplighter.events import writer  # noqa: PLC0415 - as above

        try:
            text = writer.write(result, ascii_only)
        except Exception as fault:
            raise MarshalError(f"Unable to marshal response: {writer.explain(fault)}") from None
    # A lone surrogate has no UTF-8 form. Written as a backslash escape it is JSON again; awslambdaric ends its process
    # here.
    return text.encode("utf-8", "backslashreplace"), True

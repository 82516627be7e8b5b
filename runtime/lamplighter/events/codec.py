"""The one face of event coding: :func:`decode` and :func:`encode`.

What the service does was observed on awslambdaric 4.2.2, AWS's own client for Python. It codes with simplejson, which
differs from the standard library's ``json`` where a handler's author can see it: an event may not hold ``NaN``, and
must be UTF-8; a named tuple becomes an object, nested bytes a string, a ``Decimal`` a bare number. Here C code does the
common case, and two slow paths own the rest: :mod:`lamplighter.events.syntax` words the faults of an event,
:mod:`lamplighter.events.writer` writes results of other than the plain types. Neither is imported before it is needed,
nor is the standard library's ``json``.
"""

from __future__ import annotations

from lamplighter._events import Decoder, encoder


class CodecFault(Exception):
    """Data that cannot be coded. ``str()`` of it is the ``errorMessage``, ``error_type`` the ``errorType``."""

    error_type = "Runtime.Unknown"


class UnmarshalError(CodecFault):
    """The event's body is not JSON in UTF-8."""

    error_type = "Runtime.UnmarshalError"


class MarshalError(CodecFault):
    """The handler's result has no JSON form."""

    error_type = "Runtime.MarshalError"


_decode = Decoder(constants=False).decode
"""The decoder of this process: what it has learned by the time of a fork, from warm-up events say, its workers know."""


def decode(body: bytes) -> object:
    """The Python value of the JSON text ``body``.

    Raises :class:`UnmarshalError` for whatever is not one JSON value in UTF-8 (a byte order mark may precede it).
    """
    try:
        return _decode(body)
    except Exception:  # whatever it was, the second reading finds it again, and words it
        return _decode_again(body)


def _decode_again(body: bytes) -> object:
    from lamplighter.events import syntax  # noqa: PLC0415 - most workers are never sent what needs it

    try:
        return syntax.read(body)
    except Exception as fault:
        raise UnmarshalError(f"Unable to unmarshal input: {syntax.explain(fault)}") from None


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

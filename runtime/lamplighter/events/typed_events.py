"""Typed events: an event decoded straight into the type that a handler names for it.

    from lamplighter.events import typed
    from lamplighter.events.sources.sqs import Event

    @typed
    def handler(event: Event, context):
        for record in event.records: ...

msgspec does the decoding: it skips what the type does not name, so little of a large event is ever built, and it checks
what it keeps. It is imported here and in :mod:`lamplighter.events.sources`, and so only where a handler asks for it.
"""

from __future__ import annotations

from lamplighter.events.codec import UnmarshalError, decode

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs 4 ms to import, and every worker comes by here
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    AnyHandler = Callable[[Any, Any], Any]
    Reader = Callable[[bytes], object]
    H = TypeVar("H", bound=AnyHandler)

_MARK = "__lamplighter_typed__"


class ValidationError(UnmarshalError):
    """The event is JSON, but not of the type that the handler names. The message ends with the place in the event."""

    error_type = "Function.ValidationError"


class TypedHandlerFault(TypeError):
    """A handler whose event type cannot be found out, or is none that an event can be decoded into."""


class _Mark:
    """What :func:`typed` leaves on a handler: the type, once it is known, and the reader, once there is one."""

    __slots__ = ("event_type", "known", "reader")

    def __init__(self) -> None:
        self.known = False
        self.event_type: object = None
        self.reader: Reader | None = None


if TYPE_CHECKING:

    @overload
    def typed(handler: type) -> Callable[[H], H]: ...  # type: ignore[overload-overlap]  # types can be called

    @overload
    def typed(handler: H) -> H: ...


def typed(handler: Any) -> Any:
    """Have a handler's events decoded into the type its first parameter is annotated with.

    ``@typed`` above a handler and ``handler = typed(handler)`` do the same. Where there is no annotation to read (a
    ``functools.partial``, another library's wrapper), ``typed(EventType)`` is a decorator that names the type: a type,
    or what is not callable, is taken for one.

    The type is a ``msgspec.Struct``, a dataclass, a ``TypedDict``, a ``NamedTuple``, or whatever else msgspec decodes
    JSON into. The annotation is read when the function is initialised, after its module has been imported, so it may be
    a string that names what is defined further down. An event that does not fit the type is a :class:`ValidationError`,
    and the handler is not called. Who calls the handler by hand calls it as it is: it takes what it is given.

    What the type does not name is skipped, and checked only for where it ends. Raises ``ImportError`` where msgspec is
    not installed.
    """
    try:
        import msgspec  # noqa: F401, PLC0415 - only handlers that ask for it pay for it
    except ImportError as fault:
        raise ImportError(
            f"typed handlers need msgspec, which cannot be imported ({fault}): pip install msgspec"
        ) from fault
    mark = _Mark()
    if callable(handler) and not isinstance(handler, type) and not hasattr(handler, "__origin__"):
        return _marked(handler, mark)
    mark.event_type, mark.known = handler, True
    return lambda decorated: _marked(decorated, mark)


def reader_of(handler: object, untyped: Reader) -> Reader:
    """What decodes the events of ``handler``: ``untyped``, unless it is a typed handler.

    Raises :class:`TypedHandlerFault` for a typed handler whose type is not known or not decodable.
    """
    mark = getattr(handler, _MARK, None)
    if not isinstance(mark, _Mark):
        return untyped
    if mark.reader is None:
        mark.reader = _reader(mark.event_type if mark.known else _annotation(handler), _name(handler))
    return mark.reader


def _marked(handler: Any, mark: _Mark) -> Any:
    try:
        setattr(handler, _MARK, mark)
    except AttributeError:
        # A bound method, or an object with slots, takes no attributes; a function around it does.
        def around(event: Any, context: Any) -> Any:
            return handler(event, context)

        for name, value in (("__wrapped__", handler), (_MARK, mark)):  # the annotation is found through the first
            setattr(around, name, value)
        return around
    return handler


def _name(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or type(handler).__qualname__


def _annotation(handler: Any) -> object:
    """The annotation of the first parameter that a caller fills."""
    import inspect  # noqa: PLC0415 - msgspec has imported both already
    import typing  # noqa: PLC0415

    handler = inspect.unwrap(handler)
    name = _name(handler)
    annotated = handler if inspect.isroutine(handler) else type(handler).__call__
    try:
        first = next(iter(inspect.signature(handler).parameters))
        return typing.get_type_hints(annotated, include_extras=True)[first]
    except StopIteration:
        raise TypedHandlerFault(f"the handler {name!r} takes no event") from None
    except NameError as fault:
        raise TypedHandlerFault(f"the annotation of the handler {name!r} cannot be resolved: {fault}") from fault
    except (KeyError, TypeError, ValueError):
        raise TypedHandlerFault(
            f"the event parameter of the handler {name!r} has no annotation: annotate it, or use @typed(EventType)"
        ) from None


def _reader(event_type: Any, name: str) -> Reader:
    import msgspec  # noqa: PLC0415 - typed() has imported it

    try:
        read = msgspec.json.Decoder(event_type).decode
    except Exception as fault:
        raise TypedHandlerFault(f"the handler {name!r} names a type that no event decodes into: {fault}") from fault

    def reader(body: bytes) -> object:
        try:
            return read(body)
        except msgspec.ValidationError as fault:
            raise ValidationError(f"Unable to unmarshal input: {fault}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return again(body)

    def again(body: bytes) -> object:
        # Either it is no JSON, which decode() says in the words of all other handlers; or it is JSON by the client's
        # rules and not by msgspec's: a byte order mark, a lone surrogate.
        value = decode(body)
        try:
            return msgspec.convert(value, event_type, str_keys=True)
        except msgspec.ValidationError as fault:
            raise ValidationError(f"Unable to unmarshal input: {fault}") from None

    return reader

"""Events: what lies between the bytes of an invocation and the Python objects a handler sees.

This room turns an event's JSON into objects and a handler's result into the bytes that leave, exactly as the Python
runtime of AWS Lambda does: the same values, the same bytes, the same words when either cannot be done. Its face is
:func:`decode` and :func:`encode`; what lies behind them may change, they may not. :class:`Decoder` is what decodes: it
learns the shapes of the events it sees. A handler that asks for it with :func:`typed` gets its events as instances of
the type it names; types for AWS's own events are in ``events.sources``.

It promises that whatever a body or a result holds, the outcome is a value or one of its two faults, so that the loop
above never dies of data. It must never know what an invocation, a context or a transport is, import a sibling room, or
read the environment.
"""

from lamplighter._events import DecodeError, Decoder
from lamplighter.events.codec import CodecFault, MarshalError, UnmarshalError, decode, encode
from lamplighter.events.typed_events import TypedHandlerFault, ValidationError, reader_of, typed

__all__ = [
    "CodecFault",
    "DecodeError",
    "Decoder",
    "MarshalError",
    "TypedHandlerFault",
    "UnmarshalError",
    "ValidationError",
    "decode",
    "encode",
    "reader_of",
    "typed",
]

"""The C extension behind lamplighter.events."""

from collections.abc import Callable
from typing import Literal, Protocol, final

from typing_extensions import Buffer

layout: str
"""How dicts are built: ``"direct"``, or what of this interpreter's dict layout is not as expected."""
scanner: Literal["avx2", "sse2", "neon", "words", "bytes"]
"""By what long strings are searched."""

class DecodeError(ValueError):
    """A text is not one JSON value."""

    msg: str
    pos: int
    lineno: int
    colno: int

@final
class Decoder:
    def __new__(cls, *, shapes: int = 8, memory: int = 1 << 20, constants: bool = True) -> Decoder: ...
    def decode(self, data: Buffer, /) -> object: ...
    def stats(self) -> dict[str, int]: ...

class Encode(Protocol):
    def __call__(self, result: object, *, ascii_only: bool) -> tuple[bytes, bool]: ...

def encoder(slowly: Callable[[object, bool], tuple[bytes, bool]], /) -> Encode: ...

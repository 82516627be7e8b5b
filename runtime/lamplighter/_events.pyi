"""The C extension behind lamplighter.events."""

from collections.abc import Callable
from typing import Protocol

class Encode(Protocol):
    def __call__(self, result: object, *, ascii_only: bool) -> tuple[bytes, bool]: ...

def encoder(slowly: Callable[[object, bool], tuple[bytes, bool]], /) -> Encode: ...

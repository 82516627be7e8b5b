"""The hooks of AWS's ``snapshot_restore_py``, so that code written for SnapStart works unchanged around a fork.

Order as AWS documents it: before-snapshot hooks last registered first, after-restore hooks first registered first.
Code that never imported the library has no hooks, and the library is not imported for its sake.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

_LIBRARY = "snapshot_restore_py"
_Hook = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def run_before_snapshot() -> None:
    """Run the hooks that let go of what must not be in a snapshot. Their exceptions are the caller's."""
    library = sys.modules.get(_LIBRARY)
    if library is not None:
        _run(reversed(library.get_before_snapshot()))


def run_after_restore() -> None:
    """Run the hooks that take up again what a copy needs for itself. Their exceptions are the caller's."""
    library = sys.modules.get(_LIBRARY)
    if library is not None:
        _run(library.get_after_restore())


def _run(hooks: Iterable[_Hook]) -> None:
    for function, positional, named in hooks:
        function(*positional, **named)

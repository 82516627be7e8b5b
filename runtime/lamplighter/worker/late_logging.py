"""Sets the root logger up when ``logging`` is first imported, so that a function that never logs never pays for it.

``logging`` and what it brings cost some 10 ms, more than all else that a worker does before its first event. What a
function can see is the same: whoever imports ``logging``, finds the root logger as Lambda sets it up, from the first
moment on. The hook is a finder at the head of ``sys.meta_path`` that finds ``logging`` as it would be found without it,
and adds one step after the module's own code. Once that has run, nothing is left of it: no finder, no loader.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_NAME = "logging"


def when_imported(configure: Callable[[], None]) -> None:
    """Call ``configure`` once: now, if ``logging`` is loaded already, else at the end of its first import."""
    if _NAME in sys.modules:
        configure()
    else:
        sys.meta_path.insert(0, _Finder(configure))


class _Finder:
    """Finds ``logging`` and nothing else. Both methods are the import system's protocol."""

    def __init__(self, configure: Callable[[], None]) -> None:
        self._configure = configure

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if name != _NAME:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._done)  # type: ignore[assignment]  # it is one by its methods
                return spec
        return None

    def _done(self) -> None:
        if self in sys.meta_path:  # a second spec, made by hand, may be executed too
            sys.meta_path.remove(self)
            self._configure()


class _Loader:
    """The module's own loader with one step more."""

    def __init__(self, loader: Loader, done: Callable[[], None]) -> None:
        self._loader = loader
        self._done = done

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._done()

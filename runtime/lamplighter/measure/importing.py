"""The profiled process: imports the handler with a clock in hand, runs its events, and says what it saw as JSON.

``python -c "from lamplighter.measure.importing import main; main()" DESCRIPTOR`` reads an order from the descriptor, a
Python literal::

    {"handler": str, "path": [str], "events": [str], "output": path}

and writes to ``output``. Nothing but what Python itself loads at its start is loaded before the handler's import, this
module excepted, so that what the handler needs is counted as the handler's.

*Used* means: while the handler ran on a recorded event, code of the module ran, or one of its functions in C was
called. A module that only gives constants, or a class that is merely compared with, is not seen this way; nor is what
runs in a child process.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # typing.TYPE_CHECKING without typing, which would then be nobody's import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, ModuleType
    from typing import Any

_PAGE_MB = 4096 / 2**20


class Imports:
    """Every module's import as a node: how long it took, what memory it added, and whose import it was part of.

    CPython looks ``_find_and_load`` up in its import system at each import of a module that is not loaded yet, which is
    the same place that ``-X importtime`` times.
    """

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self._open: list[int] = []
        self._system: Any = sys.modules["_frozen_importlib"]
        self._original = self._system._find_and_load
        self._statm = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115 - read at every import, until stop

    def start(self) -> None:
        self._system._find_and_load = self._timed

    def stop(self) -> None:
        self._system._find_and_load = self._original
        self._statm.close()

    def _resident(self) -> int:
        self._statm.seek(0)
        return int(self._statm.read().split()[1])

    def _timed(self, name: str, import_: Any) -> Any:
        node: dict[str, Any] = {"name": name, "parent": self._open[-1] if self._open else -1, "failed": False}
        self._open.append(len(self.nodes))
        self.nodes.append(node)
        before, start = self._resident(), time.perf_counter()
        try:
            return self._original(name, import_)
        except BaseException:
            node["failed"] = True
            raise
        finally:
            node["ms"] = (time.perf_counter() - start) * 1e3
            node["mb"] = (self._resident() - before) * _PAGE_MB
            self._open.pop()


class Ran:
    """Which modules' code ran: the files of Python functions, and the modules of functions in C."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.modules: set[str] = set()

    def start(self) -> None:
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            tool, events = monitoring.PROFILER_ID, monitoring.events

            def started(code: CodeType, _offset: int) -> object:
                self.files.add(code.co_filename)
                return monitoring.DISABLE

            def called(_code: CodeType, _offset: int, function: object, _argument: object) -> None:
                self._c_function(function)

            monitoring.use_tool_id(tool, "lamplighter profile")
            monitoring.register_callback(tool, events.PY_START, started)
            monitoring.register_callback(tool, events.CALL, called)
            monitoring.set_events(tool, events.PY_START | events.CALL)
        else:
            sys.setprofile(self._profiled)

    def stop(self) -> None:
        if sys.version_info >= (3, 12):
            sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
            sys.monitoring.restart_events()
            sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)
        else:
            sys.setprofile(None)

    def _profiled(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.files.add(frame.f_code.co_filename)
        elif event == "c_call":
            self._c_function(argument)

    def _c_function(self, function: object) -> None:
        # A method of a type in C has no module of its own, but the type has.
        for owner in (function, type(getattr(function, "__self__", None))):
            try:
                module = owner.__module__
            except Exception:  # noqa: S112 - a user's object may raise anything when it is asked for an attribute
                continue
            if type(module) is str:
                self.modules.add(module)


def main() -> None:
    with open(int(sys.argv[1]), "rb") as file:
        text = file.read().decode()
    # A literal, since reading JSON would load modules that are to be the handler's.
    order: dict[str, Any] = eval(text, {"__builtins__": {}})  # noqa: S307 - by lamplighter.measure.profile, for itself
    sys.path[:1] = order["path"]
    sys.argv[:] = ["lamplighter", order["handler"]]
    name, _, function = order["handler"].rpartition(".")
    name = name.replace("/", ".")
    imports, ran = Imports(), Ran()
    failure, faults = "", []
    imports.start()
    began = time.perf_counter()
    try:
        __import__(name)
    except BaseException as fault:
        failure = f"{type(fault).__name__}: {fault}"
    total = (time.perf_counter() - began) * 1e3
    imports.stop()
    files = {module: getattr(sys.modules[module], "__file__", None) or "" for module in list(sys.modules)}
    if not failure and not callable(getattr(sys.modules[name], function, None)):
        failure = f"the module {name} has no function {function}"
    if not failure:
        faults = _run(sys.modules[name], function, order["events"], ran)
    import json  # noqa: PLC0415 - only now, see above

    seen = {"failure": failure, "total_ms": total, "imports": imports.nodes, "files": files, "faults": faults}
    with open(order["output"], "w", encoding="utf-8") as file:
        json.dump({**seen, "ran_files": sorted(ran.files), "ran_modules": sorted(ran.modules)}, file)


def _run(module: ModuleType, function: str, events: list[str], ran: Ran) -> list[str]:
    """Run the events through the runtime's own path, and watch the handler's part; what went wrong, a line each."""
    from lamplighter.worker.loop import invoke_once  # noqa: PLC0415 - after the handler's import, see above

    handler: Callable[..., Any] = getattr(module, function)

    def watched(event: Any, context: Any) -> Any:
        ran.start()
        try:
            return handler(event, context)
        finally:
            ran.stop()

    faults = []
    for number, event in enumerate(events, 1):
        try:
            invoke_once(watched, event.encode(), request_id=f"profile-{number}")
        except Exception as fault:
            faults.append(f"event {number}: {type(fault).__name__}: {fault}")
    return faults

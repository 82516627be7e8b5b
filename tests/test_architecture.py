"""The rooms of the package: which may import which, what may be imported at all, and what a worker must not pay for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "runtime" / "lamplighter"
ARROWS = {
    "cli": {"host", "bootstrap", "function", "measure"},
    "measure": {"function", "worker"},
    "host": {"template", "sandbox", "function", "worker"},
    "bootstrap": {"template", "worker"},
    "template": {"worker"},
    "worker": {"events"},
    "function": set(),
    "events": set(),
    "sandbox": set(),
}
NATIVE = {"sandbox": {"_sandbox"}, "events": {"_events"}, "bootstrap": {"_http"}, "template": {"_template"}}
"""Extension modules, and the one room that may face each."""
ON_AWS = ("bootstrap", "template", "worker", "events")
"""Rooms that run inside AWS Lambda as well, where there is nothing but Python."""
ON_DEMAND = {"msgspec": {"events/typed_events.py", "events/sources"}}
"""What else these rooms may import, in the files named and those below the folders named: only for a handler that asks
for it."""
HEAVY = {
    "uvloop",
    "httptools",
    "orjson",
    "msgspec",
    "cffi",
    "_cffi_backend",
    "click",
    "rich",
    "psutil",
    "asyncio",
    "ssl",
}
SLOW_AT_START = {
    "logging",
    "traceback",
    "typing_extensions",
    "inspect",
    "subprocess",
    "tempfile",
    "shutil",
    "uuid",
}


class Import(NamedTuple):
    where: str
    module: str


def _room(path: Path) -> str:
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else ""


def _sources(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def _imports(path: Path) -> list[Import]:
    """Everything that is imported anywhere in a file; ``from lamplighter.worker import loop`` is lamplighter.worker."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            found += [Import(where, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: imports are absolute here"
            assert node.module is not None
            if node.module == "lamplighter":
                found += [Import(where, f"lamplighter.{alias.name}") for alias in node.names]
            else:
                found.append(Import(where, node.module))
    return found


ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


def test_every_room_has_its_arrows() -> None:
    assert set(ROOMS) <= set(ARROWS), "a new room needs its place in the map"
    assert {"cli", "host", "bootstrap", "template", "worker", "events", "function", "sandbox"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    sources = _sources(room)
    assert sources
    strays = []
    for one in [one for path in sources for one in _imports(path)]:
        top, _, rest = one.module.partition(".")
        sibling = rest.partition(".")[0]
        if top == "lamplighter" and sibling not in {room, *ARROWS[room], *NATIVE.get(room, set())}:
            strays.append(f"{one.where} imports {one.module}")
    assert strays == []


@pytest.mark.parametrize("room", [room for room in ON_AWS if room in ROOMS])
def test_what_runs_on_aws_imports_only_the_standard_library_and_this_package(room: str) -> None:
    known = sys.stdlib_module_names | {"lamplighter"}
    strays = [
        f"{one.where} imports {one.module}"
        for path in _sources(room)
        for one in _imports(path)
        if one.module.partition(".")[0] not in known and not _on_demand(path, one.module)
    ]
    assert strays == []


def _on_demand(path: Path, module: str) -> bool:
    inside = path.relative_to(PACKAGE)
    places = {inside.as_posix(), *(parent.as_posix() for parent in inside.parents)}
    return bool(places & ON_DEMAND.get(module.partition(".")[0], set()))


def test_no_room_imports_what_the_package_does_not_declare() -> None:
    declared = {"click", "rich", "httptools", "msgspec", "orjson", "psutil", "uvloop", "snapshot_restore_py", "cffi"}
    known = sys.stdlib_module_names | declared | {"lamplighter"}
    strays = [
        f"{one.where} imports {one.module}"
        for path in PACKAGE.rglob("*.py")
        for one in _imports(path)
        if one.module.partition(".")[0] not in known
    ]
    assert strays == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_at_its_door(room: str) -> None:
    said = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(said.split()) > 30, f"{room}/__init__.py needs its paragraph"
    assert "never" in said.lower(), f"{room}/__init__.py does not say what the room must never do"


def test_there_is_no_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}
    assert [path for path in PACKAGE.rglob("*") if path.stem in drawers] == []


def _loaded_by(module: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    return loaded


def test_what_is_imported_on_demand_is_imported_by_nobody_else() -> None:
    code = "import sys, lamplighter.events, lamplighter.events.sources, lamplighter.worker.loop; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lamplighter.events.typed_events" in loaded
    assert not loaded & set(ON_DEMAND)


@pytest.mark.parametrize(
    "module", ["lamplighter.worker.loop", "lamplighter.worker.initialise", "lamplighter.template.server"]
)
def test_a_worker_starts_without_what_it_does_not_need(module: str) -> None:
    # -S: no site-packages, so this also shows that nothing but the standard library is needed.
    assert _loaded_by(module) & (HEAVY | SLOW_AT_START) == set()


def test_the_bootstrap_gets_to_its_first_event_without_what_many_functions_never_need() -> None:
    loaded = _loaded_by("lamplighter.bootstrap.main")
    assert "lamplighter.worker.loop" in loaded
    # 0.5 to 10 ms each, with what they bring; all of them are more than the rest of the start.
    slow = SLOW_AT_START | {
        "json",
        "re",
        "enum",
        "typing",
        "collections",
        "contextlib",
        "functools",
        "socket",
        "struct",
    }
    assert loaded & (HEAVY | slow) == set()
    rooms = {name.split(".")[1] for name in loaded if name.startswith("lamplighter.")}
    assert rooms <= {"bootstrap", "worker", "events", "_events", "_http"}


def test_the_process_in_a_sandbox_loads_cffi_and_nothing_else_that_is_heavy() -> None:
    code = "import sys; import lamplighter.host.process; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lamplighter._sandbox" in loaded
    assert loaded & (HEAVY - {"_cffi_backend"}) == set()
    assert {module for module in loaded if module.startswith("lamplighter.host.")} == {"lamplighter.host.process"}


def test_help_is_printed_without_loading_the_host() -> None:
    code = "import sys; import lamplighter.cli; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lamplighter.cli" in loaded
    assert not loaded & {"lamplighter.host", "lamplighter._sandbox", "uvloop", "msgspec", "orjson"}

"""What init spends, import by import: runs :mod:`lamplighter.measure.importing` and makes a tree of what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamplighter.function.config import function_config
from lamplighter.function.environment import base_environment
from lamplighter.measure.hosting import Function, HostFault

_LONGEST_S = 300.0


@dataclass
class Import:
    """One import: ``ms`` and ``mb`` with all it imported in turn, ``own_ms`` and ``own_mb`` without.

    ``used`` is whether its own code ran in the events, ``needed`` whether that of anything it brought in did; both are
    ``None`` where no event was recorded.
    """

    name: str
    ms: float
    mb: float
    parent: Import | None = None
    children: list[Import] = field(default_factory=list)
    used: bool | None = None
    failed: bool = False

    @property
    def own_ms(self) -> float:
        return max(0.0, self.ms - sum(child.ms for child in self.children))

    @property
    def own_mb(self) -> float:
        return max(0.0, self.mb - sum(child.mb for child in self.children))

    @property
    def needed(self) -> bool | None:
        if self.used is None:
            return None
        return self.used or any(child.needed for child in self.children)

    def walk(self) -> list[Import]:
        """This one and all below it."""
        found, waiting = [], [self]
        while waiting:
            one = waiting.pop()
            found.append(one)
            waiting += reversed(one.children)
        return found


@dataclass
class Profile:
    """The imports of one init. ``faults`` are events that failed; what ran before their fault counts as used."""

    handler: str
    total_ms: float
    roots: list[Import]
    events: int
    faults: list[str]

    @property
    def total_mb(self) -> float:
        return sum(root.mb for root in self.roots)

    def imports(self) -> list[Import]:
        return [one for root in self.roots for one in root.walk()]

    def unused(self) -> list[Import]:
        """The topmost imports of which nothing ran in any event, dearest first; empty without events."""
        topmost = [one for one in self.imports() if one.needed is False and (one.parent is None or one.parent.needed)]
        return sorted(topmost, key=lambda one: -one.ms)

    def plain(self) -> dict[str, Any]:
        """As JSON has it: the unused by name, and every import in the order in which they began."""
        return {
            "handler": self.handler,
            "init_ms": self.total_ms,
            "events": self.events,
            "faults": self.faults,
            "unused": [one.name for one in self.unused()],
            "imports": [
                {
                    "name": one.name,
                    "imported_by": one.parent.name if one.parent else None,
                    "ms": one.ms,
                    "own_ms": one.own_ms,
                    "mb": one.mb,
                    "own_mb": one.own_mb,
                    "used": one.used,
                }
                for one in self.imports()
            ],
        }


def profile(function: Function, events: list[bytes]) -> Profile:
    """Import the handler in a fresh Python and run the events. Raises :class:`HostFault` if the import fails."""
    config = function_config(
        handler=function.handler, code=function.code, layers=function.layers, environment=dict(function.environment)
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    variables = base_environment(
        config, region="us-east-1", python_version=version, task_root=config.code, layer_roots=config.layers
    )
    if "PYTHONPATH" in os.environ:
        variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
    path = [config.code]
    for layer in config.layers:
        path += [f"{layer}/python/lib/python{version}/site-packages", f"{layer}/python"]
    with tempfile.TemporaryDirectory(prefix="lamplighter-profile-") as directory:
        output = Path(directory) / "seen.json"
        order = {
            "handler": config.handler,
            "path": path,
            "events": [event.decode() for event in events],
            "output": str(output),
        }
        said = _run(repr(order), variables, config.code)
        if not output.exists():
            raise HostFault(f"the process ended before it had imported {config.handler}:\n{said}".strip())
        seen = json.loads(output.read_text(encoding="utf-8"))
    if seen["failure"]:
        raise HostFault(f"init failed: {seen['failure']}")
    return Profile(config.handler, seen["total_ms"], tree(seen, bool(events)), len(events), seen["faults"])


def _run(order: str, variables: dict[str, str], directory: str) -> str:
    descriptor = os.memfd_create("lamplighter-order", 0)
    try:
        os.write(descriptor, order.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        start = "from lamplighter.measure.importing import main; main()"
        done = subprocess.run(  # noqa: S603 - this interpreter, with words of ours
            [sys.executable, "-c", start, str(descriptor)],
            cwd=directory,
            env=variables,
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise HostFault(f"init and events took more than {_LONGEST_S:g} s") from fault
    finally:
        os.close(descriptor)
    return done.stdout[-2000:].decode(errors="replace")


def tree(seen: dict[str, Any], recorded: bool) -> list[Import]:
    """The nodes that the profiled process wrote, as trees; those that failed are kept, for the time they took."""
    files, modules = set(seen["ran_files"]), set(seen["ran_modules"])
    # What is written in C says that it is of the module it is meant to be used by: ``_decimal``'s says ``decimal``.
    modules |= {f"_{name}" for name in modules}
    made: list[Import] = []
    for node in seen["imports"]:
        name = node["name"]
        ran = seen["files"].get(name, "") in files or f"<frozen {name}>" in files or name in modules
        parent = made[node["parent"]] if node["parent"] >= 0 else None
        one = Import(name, node["ms"], node["mb"], parent, used=ran if recorded else None, failed=node["failed"])
        made.append(one)
        if parent is not None:
            parent.children.append(one)
    return [one for one in made if one.parent is None]

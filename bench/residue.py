"""What a host leaves on the machine: processes, cgroups, mounts, descriptors, directories. Counted, then compared.

Identities change while a pool works (a killed worker's pid never comes back), so a comparison is of counts, and a count
that grew names what it grew by. Only what belongs to this host is looked at: others may be at work on the machine.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes
from bench.processes import PROC, Process

CGROUPS = Path("/sys/fs/cgroup")
_PLACES = (Path("/run"), Path("/var/tmp"), Path("/dev/shm"), Path("/var/lib"))
_NAME = "lamplighter"


@dataclass
class Residue:
    """One look at the machine. Every field is a set of names, so that a difference can be shown."""

    members: set[Process] = field(default_factory=set)
    cgroups: set[str] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)
    descriptors: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        return {name: len(names) for name, names in vars(self).items()}


def look(host: int, temporary: Path, cgroup_roots: set[str]) -> Residue:
    """Everything that belongs to the host with pid ``host``.

    ``temporary`` is the TMPDIR it was given alone; ``cgroup_roots`` is what :func:`cgroup_roots` said of it.
    Descriptors are the host's own; mounts are those of its own mount namespace that could be its: there it lives with
    everybody else's.
    """
    return Residue(
        members=processes.tree(host),
        cgroups={found for root in cgroup_roots for found in _directories(Path(root))},
        mounts={
            line.split(" ", 1)[0] + " " + line.split()[4]
            for line in _lines(PROC / str(host) / "mountinfo")
            if str(temporary) in line or _NAME in line or " /dev/loop" in line
        },
        descriptors=_descriptors(host),
        directories=_directories(temporary) | named_directories(host),
    )


def named_directories(host: int) -> set[str]:
    """Directories of the host with pid ``host`` where system services keep theirs: named for the project and the pid.

    The pid tells them from those of another host on the machine, which may come and go meanwhile.
    """
    own = re.compile(rf"(?<!\d){host}(?!\d)")
    found: set[str] = set()
    for place in (*_PLACES, Path("/tmp")):
        if place.is_dir():
            for entry in place.iterdir():
                if entry.name.startswith(_NAME) and entry.is_dir() and not entry.is_symlink():
                    found |= {path for path in (str(entry), *_directories(entry)) if own.search(path)}
    return found


def cgroup_roots(host: int) -> set[str]:
    """Below which cgroup directories this host keeps its own: in each hierarchy, the topmost that bears its name.

    Found from where its processes are (``/proc/PID/cgroup``), so that another host on the machine is left out. A host
    without workers may have all its processes outside; call it while some are parked.
    """
    roots: set[str] = set()
    for process in processes.tree(host):
        for line in _lines(PROC / str(process.pid) / "cgroup"):
            _, controllers, path = line.split(":", 2)
            parts = path.strip("/").split("/")
            named = [index for index, part in enumerate(parts) if part.startswith(_NAME)]
            if named:
                for base in _hierarchies(controllers):
                    root = base.joinpath(*parts[: named[0] + 1])
                    if root.is_dir():
                        roots.add(str(root))
    return roots


def named_cgroups() -> set[str]:
    """Every cgroup directory of the machine that bears the project's name, whosever it is."""
    return {found for found in _directories(CGROUPS) if Path(found).name.startswith(_NAME)}


def _hierarchies(controllers: str) -> list[Path]:
    """Where a line of /proc/PID/cgroup is mounted: by controller names on version 1, at one of two places on 2."""
    if not controllers:
        return [CGROUPS, CGROUPS / "unified"]
    names = controllers.split(",")
    return [CGROUPS / name.removeprefix("name=") for name in (controllers, *names)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _directories(root: Path) -> set[str]:
    """All directories below ``root``; one that vanishes meanwhile is simply not there."""
    return {os.path.join(where, name) for where, names, _ in os.walk(root) for name in names}


def _descriptors(pid: int) -> set[str]:
    found: set[str] = set()
    folder = PROC / str(pid) / "fd"
    try:
        for entry in os.listdir(folder):
            try:
                found.add(f"{entry} -> {os.readlink(folder / entry)}")
            except FileNotFoundError:
                continue
    except FileNotFoundError:
        pass
    return found


def growth(before: Residue, after: Residue) -> dict[str, list[str]]:
    """Per kind that has more members than before: the new ones, sorted. Empty if nothing grew."""
    grown: dict[str, list[str]] = {}
    for kind, names in vars(after).items():
        old = vars(before)[kind]
        if len(names) > len(old):
            grown[kind] = sorted(str(name) for name in names - old)
    return grown


def at_rest(look_again: Callable[[], Residue], quiet: float, seconds: float, pause: float = 0.1) -> Residue:
    """Look until no count has changed for ``quiet`` seconds; the last look.

    A host removes and replaces what it keeps ready late, when nothing else is to do. Raises ``TimeoutError`` if the
    counts still change after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    last, since = look_again(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() > deadline:
            raise TimeoutError(f"what the host owns still changes after {seconds:g} s: {last.counts()}")
        time.sleep(pause)
        now = look_again()
        if now.counts() != last.counts():
            since = time.monotonic()
        last = now
    return last


def settled(
    before: Residue, look_again: Callable[[], Residue], seconds: float, pause: float = 0.1
) -> tuple[Residue, dict[str, list[str]]]:
    """Look until nothing has grown against ``before``, at most ``seconds`` long: the last look and what it had more."""
    deadline = time.monotonic() + seconds
    while True:
        after = look_again()
        grown = growth(before, after)
        if not grown or time.monotonic() > deadline:
            return after, grown
        time.sleep(pause)

"""Nests for the tests: built in a directory of the test's own, ended after it, and looked for once they are gone."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lamplighter.host.workspace import Workspace, default_base
from lamplighter.sandbox import root
from lamplighter.sandbox.cgroups import Leaf
from lamplighter.sandbox.native import Exit, Process
from lamplighter.sandbox.nest import Nest, keeper_program

SLOT = 4_001
"""Above the slots that hosts choose from, so that a host on this machine never has the same ids."""


class Ran(NamedTuple):
    """How a program in a nest ended, and what it wrote."""

    exit: Exit
    said: str


class Nests:
    """Makes nests, and runs programs in them."""

    def __init__(self, directory: Path) -> None:
        self.staging = directory / "staging"
        self.code = directory / "code"
        self.staging.mkdir()
        self.code.mkdir()
        self.program = keeper_program()
        lifeline, end = socket.socketpair()
        self.lifeline, self.lifeline_end = lifeline.detach(), end.detach()
        self._nests: list[Nest] = []

    def create(self, layers: Sequence[str] = (), **changed: Any) -> Nest:
        settings = {
            "staging": str(self.staging),
            "slot": SLOT + len(self._nests),
            "code": str(self.code),
            "layers": layers,
            "tmp_bytes": 1 << 20,
            "program": self.program,
            "lifeline": self.lifeline,
            **changed,
        }
        nest = Nest.create(**settings)
        self._nests.append(nest)
        return nest

    def run(
        self,
        nest: Nest,
        argv: Sequence[str],
        *,
        leaf: Leaf | None = None,
        directory: str = "/",
        forks: bool = False,
        extra: Sequence[int] = (),
        **variables: str,
    ) -> Ran:
        """Run a program to its end. Its descriptors from 3 on are ``extra``."""
        out, process = self.start(nest, argv, leaf=leaf, directory=directory, forks=forks, extra=extra, **variables)
        with open(out, encoding="utf-8", errors="replace") as file:
            said = file.read()
        return Ran(ended(process), said)

    def start(
        self,
        nest: Nest,
        argv: Sequence[str],
        *,
        leaf: Leaf | None = None,
        directory: str = "/",
        forks: bool = False,
        extra: Sequence[int] = (),
        **variables: str,
    ) -> tuple[int, Process]:
        """Start a program; returns the read end of what it writes, and itself."""
        out, theirs = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fds = [null, theirs, theirs, *extra]
            return out, nest.spawn(argv, variables, directory, fds, leaf or Leaf(), forks=forks)
        except BaseException:
            os.close(out)
            raise
        finally:
            os.close(theirs)
            os.close(null)

    def python(self, nest: Nest, code: str, **settings: Any) -> str:
        """What Python code writes inside; it must succeed."""
        ran = self.run(nest, root.python_command(code), HOME="/tmp", **settings)
        assert str(ran.exit) == "Exit(status=0)", ran
        return ran.said

    def close(self) -> None:
        for nest in self._nests:
            nest.end()
        for fd in (self.program, self.lifeline, self.lifeline_end):
            with contextlib.suppress(OSError):
                os.close(fd)


def ended(process: Process, seconds: float = 20.0) -> Exit:
    """Wait for a child of ours to end, and reap it."""
    until = time.monotonic() + seconds
    while (found := process.reap()) is None:
        assert time.monotonic() < until, f"process {process.pid} does not end"
        time.sleep(0.002)
    process.close()
    return found


def _held() -> tuple[list[str], str, list[str]]:
    """Descriptors, mounts and children (zombies are some) of this process."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return sorted(os.listdir("/proc/self/fd")), Path("/proc/self/mountinfo").read_text(), sorted(children)


@pytest.fixture
def nests(tmp_path: Path) -> Iterator[Nests]:
    if os.geteuid() != 0:
        pytest.skip("namespaces and uid ranges need root")
    before = _held()
    made = Nests(tmp_path)
    yield made
    made.close()
    *held, children = _held()
    assert held == list(before[:2])
    assert set(children) <= set(before[2])  # ending a nest also reaps zombies that other tests have left
    assert list(made.staging.iterdir()) == []


@pytest.fixture
def eventually() -> Callable[[Callable[[], object], str], None]:
    """``eventually(condition, what)`` asks until the answer is true."""

    def ask(condition: Callable[[], object], what: str) -> None:
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until, what
            time.sleep(0.005)

    return ask


@pytest.fixture
def host_name() -> Iterator[str]:
    """A name for a tree of cgroups, held as a living host holds its own: one that starts removes those of the dead."""
    workspace = Workspace(default_base())
    yield workspace.name
    workspace.close()

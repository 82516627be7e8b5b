"""A host of our own for one function, as a process, seen from outside: readiness, memory, and the stages in its log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from lamplighter.measure.exchange import asking, connected, exchange

_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
_STAGES = re.compile(r"Stages: ([a-z_=0-9.,us]+)")
_REPORT = re.compile(r"REPORT RequestId: \S+\tDuration: ([0-9.]+) ms.*?Max Memory Used: (\d+) MB")
READY_S = 120.0


class HostFault(Exception):
    """A process that was to be measured did not start, did not get ready, or did not end; the text says which."""


class Function(NamedTuple):
    """What is measured: options of ``lamplighter serve`` that say which function it is."""

    handler: str
    code: str
    layers: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    memory_mb: int = 1769
    timeout_s: int = 60

    def options(self) -> list[str]:
        words = [self.handler, "--code", self.code, "--function-name", "function", "--timeout", str(self.timeout_s)]
        for layer in self.layers:
            words += ["--layer", layer]
        for name, value in self.environment.items():
            words += ["--env", f"{name}={value}"]
        return words


class Report(NamedTuple):
    """One REPORT line: milliseconds, MB, and microseconds by stage."""

    duration_ms: float
    used_mb: int
    stages_us: dict[str, float]


class Host:
    """A running host. ``address`` is where it serves."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._output, self._log = directory / "output", directory / "log"
        self.address = ("127.0.0.1", 0)

    def wait_listening(self) -> None:
        """Until its address is known."""
        deadline = time.monotonic() + READY_S
        while not (found := _LISTENING.search(self._log.read_text(errors="replace"))):
            self._still_there(deadline, "listen")
            time.sleep(0.01)
        self.address = ("127.0.0.1", int(found[1]))

    def wait_parked(self, count: int | None = None, *, pause: float = 0.003) -> dict[str, Any]:
        """Until the template is there and, if given, exactly ``count`` environments are parked; what /readyz says."""
        deadline = time.monotonic() + READY_S
        with connected(self.address) as sock:
            while True:
                status, _, body = exchange(sock, asking("/readyz"))
                said: dict[str, Any] = json.loads(body)
                function = said["functions"].get("function", {})
                if function.get("template") == "failed":
                    raise HostFault(f"the function's init failed:\n{self.said()}")
                if status == 200 and count in {None, function.get("parked")}:
                    return said
                self._still_there(deadline, f"get ready with {count} parked")
                time.sleep(pause)

    def _still_there(self, deadline: float, purpose: str) -> None:
        if self.process.poll() is not None:
            raise HostFault(f"the host ended with status {self.process.returncode}:\n{self.said()}")
        if time.monotonic() > deadline:
            raise HostFault(f"the host did not {purpose} within {READY_S:g} s:\n{self.said()}")

    def said(self) -> str:
        """The end of all that host and function wrote."""
        return "".join(path.read_text(errors="replace")[-2000:] for path in (self._log, self._output)).strip()

    def reports(self) -> list[Report]:
        """Every REPORT so far."""
        found = []
        for line in self._output.read_text(errors="replace").splitlines():
            if (report := _REPORT.search(line)) is not None:
                stages = _STAGES.search(line)
                pairs = [pair.split("=") for pair in stages[1].split(",")] if stages else []
                times = {name: float(value.removesuffix("us")) for name, value in pairs}
                found.append(Report(float(report[1]), int(report[2]), times))
        return found

    def pss_mb(self) -> float:
        """The proportional set size of the host and all its processes: a page that n of them share counts once."""
        parent = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().pss for one in [parent, *parent.children(recursive=True)]) / 2**20


@contextlib.contextmanager
def host(function: Function, *options: str) -> Iterator[Host]:
    """A host of ``function``, listening; ended on the way out. Raises :class:`HostFault`."""
    with tempfile.TemporaryDirectory(prefix="lamplighter-bench-") as name:
        directory = Path(name)
        command = [sys.executable, "-P", "-m", "lamplighter", "serve", *function.options()]
        command += ["--listen", "127.0.0.1:0", "--report", "full", *options]
        if "--memory" not in options:
            command += ["--memory", str(function.memory_mb)]
        with open(directory / "output", "wb") as output, open(directory / "log", "wb") as log:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, with words of ours
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=log, start_new_session=True
            )
        running = Host(process, directory)
        try:
            running.wait_listening()
            yield running
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, ten seconds, SIGKILL to its whole group."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait(10)

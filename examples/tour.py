"""A tour of Lamplighter: the host started for real, and every example invoked through the public API.

``python examples/tour.py`` (or ``make run``) starts ``lamplighter serve`` with the functions of ``lamplighter.toml``
twice. The first host parks nothing and forks an environment for every invocation; the second parks one environment
of each function ahead of demand, and has a twin of each function (``NAME-warm``) whose environments are kept. The tour
shows each answer with its log, and what each kind of start costs as the HTTP client sees it. Then it stops the host
and checks that nothing of it is left.

Exit status: 0 when every invocation succeeded and every host left cleanly, 1 when not, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import http.client
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

EXAMPLES = Path(__file__).resolve().parent
LISTENING = re.compile(r"listening on http://(127\.0\.0\.1|\[::1\]):(\d+)")
START_SECONDS = 30.0
"""How long a host may take from its start to ``/readyz`` answering 200: four inits of at most 10 s, two at a time."""
STOP_SECONDS = 10.0
SETTLE_SECONDS = 0.07
"""Pause before each launch that is timed. A host that was idle for 50 ms and more pays costs that a tight loop hides
(kernel locks wait for an RCU grace period, caches are cold), and those are what real traffic meets."""
PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h: orphaned descendants become our children, so none can be missed when the host is gone."""


class TourError(Exception):
    """The tour cannot go on; the text says why."""


@dataclass(frozen=True)
class Stop:
    """One invocation worth showing: a function of ``lamplighter.toml``, its event file, and what to look for."""

    function: str
    event: str
    remark: str


STOPS = (
    Stop("thumbnail", "thumbnail/event.json", "Pillow shrinks a photograph by way of /tmp"),
    Stop("http_api", "http_api/event-get.json", "API Gateway HTTP API: read an order"),
    Stop("http_api", "http_api/event-post.json", "API Gateway HTTP API: place an order"),
    Stop("queue", "queue/event.json", "an SQS batch of ten with two poison messages"),
    Stop("object_lister", "object_lister/event.json", "boto3 signs a download link for each new S3 object"),
)


@dataclass(frozen=True)
class Reply:
    """What came back from one invocation. ``seconds`` is from the request's first byte to the answer's last."""

    status: int
    function_error: str | None
    payload: bytes
    log: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether the invocation failed: at the service, in the function, or as an HTTP answer the function made."""
        if self.status != 200 or self.function_error is not None:
            return True
        try:
            answer = json.loads(self.payload)
        except ValueError:
            return True
        code = answer.get("statusCode", 200) if isinstance(answer, dict) else 200
        return not isinstance(code, int) or code >= 400


@dataclass
class Measured:
    """What was learned about one function: milliseconds as the client saw them, and MB from REPORT lines."""

    init_ms: float | None = None
    fork: list[float] = field(default_factory=list)
    parked: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    memory_mb: int = 0

    def saw(self, reply: Reply) -> None:
        found = re.search(r"Max Memory Used: (\d+) MB", reply.log)
        self.memory_mb = max(self.memory_mb, int(found[1]) if found else 0)


def to_toml(config: dict[str, Any]) -> str:
    """TOML text of ``config``: nested tables of strings, numbers, booleans and lists of those."""

    def value(item: object) -> str:
        if isinstance(item, bool):
            return str(item).lower()
        if isinstance(item, int | float):
            return repr(item)
        if isinstance(item, str):
            # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
            return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
        if isinstance(item, list):
            return f"[{', '.join(value(one) for one in item)}]"
        raise TypeError(f"no TOML for {type(item).__name__}")

    def table(name: str, content: dict[str, Any]) -> Iterator[str]:
        if name:
            yield f"\n[{name}]"
        yield from (f"{value(key)} = {value(item)}" for key, item in content.items() if not isinstance(item, dict))
        for key, item in content.items():
            if isinstance(item, dict):
                yield from table(f"{name}.{value(key)}" if name else value(key), item)

    return "\n".join(table("", config)).strip() + "\n"


def host_config(source: Path, *, parked: int, twins: bool) -> dict[str, Any]:
    """The configuration in ``source`` for one measuring host: any free port, fresh environments, absolute paths.

    With ``twins`` each function is there a second time as ``NAME-warm``, whose environments are kept.
    """
    config = tomllib.loads(source.read_text())
    config["host"] = {**config.get("host", {}), "listen": "127.0.0.1:0"}
    functions: dict[str, Any] = {}
    for name, function in config["functions"].items():
        placed = {
            **function,
            "code": str(source.parent / function["code"]),
            "warm_up": [str(source.parent / event) for event in function.get("warm_up", [])],
        }
        functions[name] = {**placed, "parked": parked, "fresh_per_invocation": True}
        if twins:
            functions[f"{name}-warm"] = {**placed, "parked": 1, "fresh_per_invocation": False}
    return {**config, "functions": functions}


class Host:
    """A running ``lamplighter serve``. As a context manager it never outlives its block, however that ends.

    :meth:`stop` is the orderly end, and checks it; leaving the block without it (an error, Ctrl-C) kills what is left.
    """

    def __init__(self, command: Sequence[str], config: dict[str, Any], folder: Path) -> None:
        path = folder / "lamplighter.toml"
        path.write_text(to_toml(config))
        self.functions: list[str] = list(config["functions"])
        self.log: deque[str] = deque(maxlen=400)
        self._address: tuple[str, int] | None = None
        self._said = threading.Event()
        # A session of its own: Ctrl-C at the terminal then reaches only the tour, which stops the host in order.
        self._process = subprocess.Popen(
            [*command, "serve", "--config", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line.rstrip("\n"))
            if self._address is None and (found := LISTENING.search(line)):
                self._address = (found[1].strip("[]"), int(found[2]))
                self._said.set()
        self._said.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        give_up = time.monotonic() + STOP_SECONDS
        while (strays := left_over(0.0)) and time.monotonic() < give_up:
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self._reader.join(2.0)
        if self._process.stderr is not None and not self._reader.is_alive():
            self._process.stderr.close()

    def connect(self) -> http.client.HTTPConnection:
        """A keep-alive connection to the address that the host said it listens on."""
        if not self._said.wait(START_SECONDS):
            raise TourError(f"the host did not say where it listens within {START_SECONDS:g} s")
        if self._address is None:
            raise TourError(f"the host ended before it listened (exit status {self._process.wait()})")
        return http.client.HTTPConnection(*self._address, timeout=START_SECONDS)

    def ready(self) -> dict[str, dict[str, Any]]:
        """Waits until ``/readyz`` answers 200, and returns what it says of each function."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            status, state = self._readyz()
            if status == 200:
                missing = set(self.functions) - state.keys()
                if missing:
                    raise TourError(f"/readyz says nothing of {', '.join(sorted(missing))}")
                return state
            if time.monotonic() > give_up:
                raise TourError(f"the host was not ready within {START_SECONDS:g} s; /readyz: {status} {state}")
            time.sleep(0.05)

    def wait_for_parked(self, function: str) -> None:
        """Waits until an environment of ``function`` is parked."""
        give_up = time.monotonic() + START_SECONDS
        while not self._readyz()[1].get(function, {}).get("parked"):
            if time.monotonic() > give_up:
                raise TourError(f"no environment of {function} was parked within {START_SECONDS:g} s")
            time.sleep(0.02)

    def _readyz(self) -> tuple[int, dict[str, dict[str, Any]]]:
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            body = response.read()
        functions: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(ValueError, KeyError, TypeError):
            functions = json.loads(body)["functions"]
        return response.status, functions

    def stop(self) -> list[str]:
        """SIGTERM, as a service manager would. Returns what was wrong with the end: nothing, if all is well."""
        self._process.terminate()
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"the host did not stop within {STOP_SECONDS:g} s of SIGTERM"]
        faults = [] if status == 0 else [f"the host ended with exit status {status}, not 0"]
        return faults + [f"left running: process {pid} ({command_line(pid)})" for pid in left_over(2.0)]


def left_over(patience: float) -> list[int]:
    """Our children that still run after ``patience`` seconds; those that have ended are reaped.

    Call it when the host is gone. The tour is a subreaper, so every process the host left behind is a child by then.
    The kernel ends the processes of a dying pid namespace by itself and in its own time, hence the patience.
    """
    give_up = time.monotonic() + patience
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        if time.monotonic() >= give_up:
            return children(os.getpid())
        time.sleep(0.01)


def children(parent: int) -> list[int]:
    """Process ids of the children of ``parent`` that are not zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command's name stands in parentheses and may hold anything, so read from the last one on.
            state, ppid = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append(int(entry.parent.name))
    return sorted(found)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return shorten(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip(), 100)
    return "ended meanwhile"


def invoke(connection: http.client.HTTPConnection, function: str, event: bytes) -> Reply:
    """One synchronous invocation by the Invoke API, asking for the tail of the log (4 KB at most)."""
    headers = {"Content-Type": "application/json", "X-Amz-Log-Type": "Tail"}
    began = time.perf_counter()
    connection.request("POST", f"/2015-03-31/functions/{function}/invocations", event, headers)
    response = connection.getresponse()
    payload = response.read()
    seconds = time.perf_counter() - began
    log = base64.b64decode(response.headers.get("X-Amz-Log-Result", "")).decode(errors="replace")
    return Reply(response.status, response.headers.get("X-Amz-Function-Error"), payload, log, seconds)


def shorten(payload: bytes, limit: int) -> str:
    """``payload`` as text of at most ``limit`` characters; the middle is left out, and said to be."""
    text = payload.decode(errors="replace")
    if len(text) <= limit:
        return text
    cut = f" ...{len(text) - limit:,} characters... "
    return text[: limit * 2 // 3] + cut + text[len(text) - limit // 3 :]


class Tour:
    """What the tour saw so far, and how it shows it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failures: list[str] = []
        self.measured: dict[str, Measured] = {stop.function: Measured() for stop in STOPS}
        # The first event of each function is the one that is timed.
        self.timed = {stop.function: (EXAMPLES / stop.event).read_bytes() for stop in reversed(STOPS)}

    def fork_leg(self, host: Host, launches: int) -> None:
        """Shows every stop once, then times ``launches`` environments of each function forked on demand."""
        ready = host.ready()
        for name, measured in self.measured.items():
            measured.init_ms = ready[name].get("init_ms")
        with contextlib.closing(host.connect()) as connection:
            for stop in STOPS:
                self.show(stop, self.invoked(connection, stop.function, (EXAMPLES / stop.event).read_bytes()))
            for _ in range(launches):
                for name, event in self.timed.items():
                    time.sleep(SETTLE_SECONDS)
                    self.measured[name].fork.append(self.invoked(connection, name, event).seconds * 1e3)

    def parked_leg(self, host: Host, launches: int, warm: int) -> None:
        """Times ``launches`` first invocations on parked environments, and ``warm`` ones on an idle environment."""
        host.ready()
        with contextlib.closing(host.connect()) as connection:
            for _ in range(launches):
                for name, event in self.timed.items():
                    host.wait_for_parked(name)
                    time.sleep(SETTLE_SECONDS)
                    self.measured[name].parked.append(self.invoked(connection, name, event).seconds * 1e3)
            for name, event in self.timed.items():
                self.invoked(connection, name, event, twin="-warm")
                times = [self.invoked(connection, name, event, twin="-warm").seconds * 1e3 for _ in range(warm)]
                self.measured[name].warm.extend(times)

    def invoked(self, connection: http.client.HTTPConnection, name: str, event: bytes, twin: str = "") -> Reply:
        reply = invoke(connection, name + twin, event)
        self.measured[name].saw(reply)
        if reply.failed:
            fault = f"HTTP {reply.status}, {reply.function_error or 'no function error'}"
            self.failures.append(f"{name}{twin}: {fault}: {shorten(reply.payload, 300)}")
        return reply

    def show(self, stop: Stop, reply: Reply) -> None:
        self.console.print()
        self.console.rule(f"[bold]{stop.function}[/]  {stop.remark}", align="left")
        self.console.print(Text(f"examples/{stop.event} -> HTTP {reply.status}", style="dim"))
        self.console.print(Text(shorten(reply.payload, 600), style="red" if reply.failed else "green"))
        for line in reply.log.splitlines():
            ours = line.startswith(("START ", "END ", "REPORT "))
            self.console.print(Text("  " + line.rstrip().replace("\t", "  "), style="dim" if ours else "cyan"))

    def table(self, name: str) -> Table:
        measured = self.measured[name]
        table = Table(title=f"{name}: Max Memory Used {measured.memory_mb} MB", title_justify="left", min_width=90)
        table.add_column("start", style="bold")
        table.add_column("what it is")
        for heading in ("median ms", "fastest", "slowest", "of"):
            table.add_column(heading, justify="right")
        first = [] if measured.init_ms is None else [measured.init_ms]
        rows = (
            ("first start", "init of the template, once", first),
            ("fork", "first invoke, environment forked on demand", measured.fork),
            ("parked", "first invoke, environment forked ahead of demand", measured.parked),
            ("warm", "another invoke on the same environment", measured.warm),
        )
        for start, meaning, times in rows:
            figures = (statistics.median(times), min(times), max(times)) if times else ()
            shown = [f"{figure:,.2f}" for figure in figures] or ["not measured", "", ""]
            table.add_row(start, meaning, *shown, str(len(times)))
        return table

    @contextlib.contextmanager
    def hosting(self, command: Sequence[str], config: dict[str, Any]) -> Iterator[Host]:
        """A host for one leg, stopped and checked at the end. What it logged is shown only if the leg goes wrong."""
        before = len(self.failures)
        with (
            tempfile.TemporaryDirectory(prefix="lamplighter-tour-") as folder,
            Host(command, config, Path(folder)) as host,
        ):
            try:
                yield host
                faults = host.stop()
            except (TourError, OSError, http.client.HTTPException) as error:
                faults = [f"{type(error).__name__}: {error}"]
            else:
                if not faults:
                    self.console.print("\nHost stopped by SIGTERM: exit status 0, nothing left running.", style="dim")
            self.failures.extend(faults)
        if len(self.failures) > before:
            self.console.print("\nThe host's last lines:", style="bold red")
            self.console.print(Text("\n".join(list(host.log)[-30:]) or "(none)"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Runs every example on a real host and shows what each start costs.")
    parser.add_argument("--launches", type=int, default=15, help="timed launches of each kind (default 15)")
    parser.add_argument("--warm", type=int, default=100, help="timed warm invocations of each function (default 100)")
    parser.add_argument("--host", metavar="COMMAND", help="what to run instead of this Python's `-m lamplighter`")
    options = parser.parse_args(arguments)
    if options.launches < 1 or options.warm < 1:
        parser.error("--launches and --warm must be 1 or more")
    command = shlex.split(options.host) if options.host else [sys.executable, "-m", "lamplighter"]
    console = Console(highlight=False)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        parser.error(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `timeout` and service managers deserve a clean end too
    tour, source = Tour(console), EXAMPLES / "lamplighter.toml"
    try:
        with tour.hosting(command, host_config(source, parked=0, twins=False)) as host:
            tour.fork_leg(host, options.launches)
        if not tour.failures:
            with tour.hosting(command, host_config(source, parked=1, twins=True)) as host:
                tour.parked_leg(host, options.launches, options.warm)
    except KeyboardInterrupt:
        console.print("\nInterrupted; the host is stopped.", style="bold red")
        return 130
    except OSError as error:  # the legs keep their own, so this one is from the start of a host
        tour.failures.append(f"cannot start {command[0]}: {error.strerror}")
    for name, measured in tour.measured.items():
        if measured.fork:
            console.print()
            console.print(tour.table(name))
    for failure in dict.fromkeys(tour.failures):
        console.print(Text(f"FAILED  {failure}", style="bold red"))
    return 1 if tour.failures else 0


if __name__ == "__main__":
    sys.exit(main())

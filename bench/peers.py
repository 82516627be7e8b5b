"""The servers that are compared: our host, AWS's emulator with AWS's Python client, and a bare ASGI server.

Each is a context manager that yields a :class:`Server` once it accepts connections, and that ends every process it
started, whatever happens inside. All listen on loopback only, on free ports.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes
from bench.client import ROOT, Address, Connection
from bench.events import FUNCTION

HANDLERS = ROOT / "bench" / "handlers"
CACHE = ROOT / ".cache" / "peers"
ONE_VCPU_MB = 1769
"""The memory at which a function gets one vCPU (AWS's page on configuring memory). With less, the CPU limit would
slow our side by a quota that no peer has; limits stay on."""
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}
_STAGES = re.compile(rb"\tStages: ([^\t\n]+)")
_LISTENING = re.compile(rb"listening on http://127\.0\.0\.1:(\d+)")


class PeerFault(Exception):
    """A server could not be installed, did not start, or did not get ready; the text holds the end of its output."""


@dataclass
class Server:
    """A running server. ``output`` is the file that takes its standard output and error."""

    name: str
    address: Address
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def tail(self) -> str:
        """The last 4,000 bytes of what it wrote."""
        with open(self.output, "rb") as file:
            file.seek(max(0, self.output.stat().st_size - 4000))
            return file.read().decode(errors="replace")

    def stages_us(self, at_least: int, seconds: float = 10.0) -> dict[str, float]:
        """Median microseconds of each stage in the REPORT lines of a host with ``--report full``.

        Lines are written behind the answers, so this waits until there are ``at_least`` so many.
        """
        deadline = time.monotonic() + seconds
        while len(found := _STAGES.findall(self.output.read_bytes())) < at_least:
            if time.monotonic() > deadline:
                raise PeerFault(f"{self.name} reported the stages of {len(found)} launches, not of {at_least}")
            time.sleep(0.02)
        times: dict[str, list[float]] = {}
        for line in found:
            for pair in line.decode().split(","):
                stage, _, value = pair.partition("=")
                times.setdefault(stage, []).append(float(value.removesuffix("us")))
        return {stage: statistics.median(values) for stage, values in times.items()}

    def require_running(self, waiting_for: str) -> None:
        """Raise :class:`PeerFault` if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise PeerFault(f"{self.name} ended with status {status} before {waiting_for}; it wrote:\n{self.tail()}")


@contextlib.contextmanager
def started(
    name: str, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], port: int | None
) -> Iterator[Server]:
    """Start ``command`` in a process group of its own and end all of it on the way out.

    With ``port``, wait until it accepts there; with ``None``, until it has written the line that names its address.
    """
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as directory:
        output = Path(directory) / "output"
        with open(output, "wb") as sink:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        server = Server(name, ("127.0.0.1", port or 0), process, output)
        try:
            if port is None:
                server.address = _announced_address(server)
            else:
                _wait_accepting(server)
            yield server
        finally:
            processes.end(process)


def _announced_address(server: Server, seconds: float = 30.0) -> Address:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = _LISTENING.search(server.output.read_bytes())
        if found is not None:
            return "127.0.0.1", int(found[1])
        server.require_running("it named its address")
        time.sleep(0.01)
    raise PeerFault(f"{server.name} named no address within {seconds:g} s; it wrote:\n{server.tail()}")


def _wait_accepting(server: Server, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(server.address, 1).close()
            return
        except OSError:
            server.require_running("it accepted a connection")
            time.sleep(0.01)
    raise PeerFault(f"{server.name} did not accept on {server.address} within {seconds:g} s:\n{server.tail()}")


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def lamplighter(
    handler: str,
    *options: str,
    code: Path = HANDLERS,
    memory: int = ONE_VCPU_MB,
    timeout: int = 30,
    environment: Mapping[str, str] | None = None,
    ready_within: float = 60.0,
) -> Iterator[Server]:
    """Our host, ready, serving ``handler`` of ``code`` with ``options`` of ``lamplighter serve``.

    ``memory`` is in MB, ``timeout`` and ``ready_within`` in seconds; ``environment`` is added to this process's own.
    """
    command = [sys.executable, "-m", "lamplighter", "serve", handler, "--code", str(code), "--function-name", FUNCTION]
    command += ["--memory", str(memory), "--timeout", str(timeout), "--listen", "127.0.0.1:0", *options]
    own = dict(os.environ)
    own["PYTHONPATH"] = os.pathsep.join(filter(None, [own.get("PYTHONPATH", ""), str(ROOT / "runtime")]))
    own.update(environment or {})
    with started("lamplighter", command, cwd=ROOT, environment=own, port=None) as server:
        wait_ready(server, ready_within)
        yield server


def readiness(connection: Connection) -> tuple[bool, dict[str, Any]]:
    """``GET /readyz``: (was it 200, the JSON of the one function served here, ``{}`` before it has any)."""
    answer = connection.get("/readyz")
    try:
        facts: dict[str, Any] = json.loads(answer.body)["functions"].get(FUNCTION, {})
    except (ValueError, KeyError, AttributeError, TypeError) as fault:
        raise PeerFault(f"/readyz must hold JSON with a table of functions, got {answer.body[:300]!r}") from fault
    return answer.status == 200, facts


def wait_ready(server: Server, seconds: float = 60.0, *, parked: int | None = None) -> dict[str, Any]:
    """Wait until the host says it is ready and, where ``parked`` is given, holds exactly that many; its last facts."""
    with Connection(server.address) as connection:
        return wait_parked(server, connection, parked, seconds, pause=0.01)


def wait_parked(
    server: Server, connection: Connection, parked: int | None, seconds: float = 30.0, pause: float = 0.002
) -> dict[str, Any]:
    """:func:`wait_ready` on a connection that is already open, asking every ``pause`` seconds."""
    deadline = time.monotonic() + seconds
    while True:
        ready, facts = readiness(connection)
        if ready and (parked is None or facts.get("parked") == parked):
            return facts
        if time.monotonic() > deadline:
            wanted = "ready" if parked is None else f"ready with {parked} parked"
            raise PeerFault(f"{server.name} was not {wanted} within {seconds:g} s: {facts}; it wrote:\n{server.tail()}")
        server.require_running("it was ready")
        time.sleep(pause)


def emulator_binary(cache: Path = CACHE) -> Path:
    """AWS's Runtime Interface Emulator, from the wheel of ``aws-sam-cli``; downloaded once, by pip, into ``cache``.

    The wheel is unpacked, not installed: its many pinned dependencies have no part in the comparison. The file's name
    keeps the wheel's version. Raises :class:`PeerFault` with pip's words when the download fails.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise PeerFault(f"the emulator exists for {', '.join(sorted(_MACHINES))}; this machine is {machine}")
    kind = _MACHINES[machine]
    known = sorted(cache.glob(f"aws-lambda-rie-*-{kind}"))
    if known:
        return known[-1]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "aws-sam-cli"], capture_output=True, text=True, timeout=300, check=False
        )
        wheels = list(Path(directory).glob("aws_sam_cli-*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise PeerFault(f"pip could not download aws-sam-cli (status {done.returncode}):\n{done.stderr[-2000:]}")
        binary = cache / f"aws-lambda-rie-{wheels[0].name.split('-')[1]}-{kind}"
        part = Path(directory) / "part"
        member = f"samcli/local/rapid/aws-lambda-rie-{kind}"
        with zipfile.ZipFile(wheels[0]) as wheel:
            if member not in wheel.namelist():
                raise PeerFault(f"{wheels[0].name} holds no {member}")
            with wheel.open(member) as source, open(part, "wb") as sink:
                shutil.copyfileobj(source, sink)
        part.chmod(0o755)
        part.rename(binary)
    return binary


@contextlib.contextmanager
def emulator(
    handler: str, *, code: Path = HANDLERS, timeout: int = 30, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The emulator with ``python -m awslambdaric HANDLER`` behind it; the runtime starts at the first invoke.

    It serves one request at a time: a second one in flight crashes it, so use one connection only.
    """
    port, api = free_port(), free_port()
    command = [str(emulator_binary()), "--log-level", "error"]
    command += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    command += ["--runtime-api-address", f"127.0.0.1:{api}"]
    command += [sys.executable, "-m", "awslambdaric", handler]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/tmp"),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "LAMBDA_TASK_ROOT": str(code),
        **(variables or {}),
    }
    with started("emulator + awslambdaric", command, cwd=code, environment=environment, port=port) as server:
        yield server


@contextlib.contextmanager
def _web(name: str, *words: str) -> Iterator[Server]:
    """A web server by its module; ``PORT`` in a word stands for its port."""
    port = free_port()
    command = [sys.executable, "-m", name, *(word.replace("PORT", str(port)) for word in words)]
    with started(name, command, cwd=ROOT, environment=os.environ, port=port) as server:
        yield server


def uvicorn(workers: int = 2) -> contextlib.AbstractContextManager[Server]:
    """uvicorn with uvloop and httptools serving :mod:`bench.asgi` from ``workers`` processes."""
    words = ["bench.asgi:app", "--host", "127.0.0.1", "--port", "PORT", "--workers", str(workers), "--loop", "uvloop"]
    return _web(
        "uvicorn", *words, "--http", "httptools", "--no-access-log", "--log-level", "warning", "--lifespan", "off"
    )


def granian(workers: int = 2) -> contextlib.AbstractContextManager[Server]:
    """granian, whose HTTP is Rust's, serving :mod:`bench.asgi` from ``workers`` processes."""
    words = ["--interface", "asginl", "--host", "127.0.0.1", "--port", "PORT", "--workers", str(workers)]
    return _web("granian", *words, "--loop", "uvloop", "--no-access-log", "--log-level", "warning", "bench.asgi:app")


def gunicorn(workers: int = 2) -> contextlib.AbstractContextManager[Server]:
    """gunicorn serving :mod:`bench.wsgi` from ``workers`` processes with 8 threads each, forked after the import.

    Threads, since its plain worker closes every connection after one answer.
    """
    words = ["bench.wsgi:app", "--bind", "127.0.0.1:PORT", "--workers", str(workers), "--worker-class", "gthread"]
    return _web("gunicorn", *words, "--threads", "8", "--keep-alive", "75", "--preload", "--log-level", "warning")


@contextlib.contextmanager
def bare_fork(handler: str, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """:mod:`bench.bare_fork` with ``handler`` of the benchmarks' own."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare_fork", f"bench.handlers.{handler}", str(port)]
    environment = {**os.environ, **(variables or {})}
    with started("bare fork", command, cwd=ROOT, environment=environment, port=port) as server:
        yield server

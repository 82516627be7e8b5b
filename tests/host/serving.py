"""A real ``lamplighter serve`` for the tests: started on a free port, invoked over HTTP, stopped, and looked for after.

:func:`serving` is a context manager: leaving it sends SIGTERM and asserts an exit status of 0 and that no process,
cgroup, mount or directory of the host is left.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from bench.processes import Process

from bench import processes
from lamplighter.host.workspace import default_base
from lamplighter.sandbox.hierarchy import own_cgroups

T = TypeVar("T")

COMMAND = (sys.executable, "-P", "-c", "from lamplighter.cli import main; main()")
"""``-P``: the current directory stays off the path, and so out of the sandbox."""

RUNS = """
kept = {}


def handler(event, context):
    scope = {"event": event, "context": context, "kept": kept}
    exec(event["run"], scope)
    return scope.get("result")
"""
"""A function whose event says in Python what to do: ``run`` is executed, and ``result`` is returned. ``kept`` is a
dictionary of the module's."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and uid ranges need root")


def needs(*limits: str) -> pytest.MarkDecorator:
    """Skip where no cgroup can hold ``limits``: ``memory``, ``cpu`` or ``pids``."""
    found = own_cgroups()
    missing = [limit for limit in limits if limit not in found and "unified" not in found]
    return pytest.mark.skipif(bool(missing), reason=f"no writable cgroup for {', '.join(missing)}")


class Answer(NamedTuple):
    """One answer. Header names are lower case; ``log`` is the decoded tail, if it was asked for."""

    status: int
    headers: dict[str, str]
    body: bytes
    log: str

    @property
    def value(self) -> Any:
        """The payload of an invocation that must have succeeded."""
        assert self.status == 200, self
        assert "x-amz-function-error" not in self.headers, f"{self.body!r} {self.log}"
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The payload of an invocation that must have failed in the function."""
        assert self.status == 200, self
        assert self.headers.get("x-amz-function-error") == "Unhandled", self
        return dict(json.loads(self.body))

    @property
    def request_id(self) -> str:
        return self.headers["x-amzn-requestid"]

    @property
    def report(self) -> dict[str, str]:
        """The fields of the REPORT line: ``{"Duration": "1.23 ms", ...}``."""
        (line,) = [line for line in self.log.splitlines() if line.startswith("REPORT ")]
        fields = line.removeprefix("REPORT ").rstrip("\t").split("\t")
        return dict(field.split(": ", 1) for field in fields)

    @property
    def verdict(self) -> tuple[str, str]:
        """Status and error type of the REPORT; empty where it has none."""
        return self.report.get("Status", ""), self.report.get("Error Type", "")


def wait_for(condition: Callable[[], T], what: str | Callable[[], str], seconds: float = 10.0) -> T:
    """Ask until the answer is true, and return it; fail if it never is, and say ``what`` was waited for."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:g} s in vain: {what if isinstance(what, str) else what()}")
        time.sleep(0.005)
    return found


class Reader:
    """Collects what a pipe gives, in a thread."""

    def __init__(self, fd: int) -> None:
        self._data = bytearray()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(fd,), daemon=True)
        self._thread.start()

    def _run(self, fd: int) -> None:
        while data := os.read(fd, 1_048_576):
            with self._more:
                self._data += data
                self._more.notify_all()

    @property
    def text(self) -> str:
        with self._more:
            return self._data.decode(errors="replace")

    def wait(self, pattern: str, seconds: float = 15.0) -> re.Match[str]:
        """Wait until ``pattern`` is found in what has come so far."""
        with self._more:
            found: list[re.Match[str]] = []

            def look() -> bool:
                match = re.search(pattern, self._data.decode(errors="replace"))
                found.extend([match] if match else [])
                return match is not None

            assert self._more.wait_for(look, seconds), (
                f"no {pattern!r} within {seconds:g} s in: {self._data[-4000:].decode(errors='replace')}"
            )
            return found[0]

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive(), "somebody still holds the other end of the pipe"


class Serving:
    """A running host. ``function`` is the name :meth:`invoke` uses if it is not told another."""

    def __init__(
        self,
        arguments: list[str],
        directory: Path,
        function: str,
        *,
        read_output: bool = True,
        variables: Mapping[str, str] | None = None,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self.directory = directory
        self.code = directory / "code"
        self.function = function
        self.process = subprocess.Popen(
            [*command, "serve", *arguments, "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output = Reader(self.process.stdout.fileno()) if read_output else None
        self.errors = Reader(self.process.stderr.fileno())
        self.port = int(self.errors.wait(r"listening on http://127\.0\.0\.1:(\d+)")[1])

    @property
    def pid(self) -> int:
        return self.process.pid

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            got = {name.lower(): value for name, value in response.getheaders()}
            log = base64.b64decode(got.get("x-amz-log-result", "")).decode(errors="replace")
            return Answer(response.status, got, response.read(), log)
        finally:
            connection.close()

    def invoke(
        self,
        event: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        function: str = "",
        qualifier: str = "",
        body: bytes | None = None,
    ) -> Answer:
        """Invoke with ``event`` as JSON (or ``body`` as it is), asking for the log's tail."""
        path = f"/2015-03-31/functions/{function or self.function}/invocations"
        if qualifier:
            path += f"?Qualifier={qualifier}"
        data = json.dumps(event).encode() if body is None else body
        return self.request("POST", path, data, {"X-Amz-Log-Type": "Tail", **(headers or {})})

    def run(self, code: str, *, function: str = "", **event: object) -> Answer:
        """Invoke a function made of :data:`RUNS` with code for it."""
        return self.invoke({"run": code, **event}, function=function)

    def settle(self, function: str = "") -> None:
        """Invoke a function of :data:`RUNS` until one environment serves twice in a row: the next one is its as well.

        The first worker of a template is busy for some milliseconds after its first answer, with telling what it
        learned; a parked one is used meanwhile.
        """
        last = 0
        while last != (last := self.run("import os; result = os.getpid()", function=function).value):
            pass

    def facts(self, function: str = "") -> dict[str, Any]:
        """What ``GET /readyz`` says of a function."""
        body = json.loads(self.request("GET", "/readyz").body)
        return dict(body["functions"][function or self.function])

    def wait_ready(self) -> None:
        wait_for(
            lambda: self.request("GET", "/readyz").status == 200,
            lambda: f"{self.request('GET', '/readyz').body!r}; {self.errors.text[-4000:]}",
            20,
        )

    # --- processes --------------------------------------------------------------------------------------------------

    def tree(self) -> set[Process]:
        """The host and everything below it."""
        return processes.tree(self.pid)

    def pids_by_depth(self, depth: int) -> dict[int, int]:
        """``{innermost pid: host's pid}`` of its processes that have ``depth`` pids: 2 in a nest, 3 in a worker's own
        namespace; without the keepers, which are pid 1."""
        found = {}
        for process in self.tree():
            pids = processes.namespace_pids(process.pid)
            if len(pids) == depth and pids[-1] != 1:
                found[pids[-1]] = pids[0]
        return found

    def template(self) -> int:
        """The host's pid of the one template."""
        (pid,) = self.pids_by_depth(2).values()
        return pid

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # --- the end ----------------------------------------------------------------------------------------------------

    def left(self) -> list[str]:
        """Cgroups, directories, mounts and processes that bear this host's name."""
        name = f"{self.pid}-"
        found = [f"cgroup {path}" for path in self.cgroups()]
        base = default_base()
        if base.is_dir():
            found += [f"directory {path}" for path in base.iterdir() if path.name.startswith(name)]
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            found += [f"mount {line}" for line in file if f"{base}/{name}" in line or str(self.directory) in line]
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and f"lamplighter-{name}" in Path(f"/proc/{entry}/cgroup").read_text():
                    found.append(f"process {entry}")
        return found

    def cgroups(self) -> list[str]:
        """The topmost cgroup directories of this host."""
        found = []
        for base in own_cgroups().values():
            with os.scandir(base) as entries:
                found += [entry.path for entry in entries if entry.name.startswith(f"lamplighter-{self.pid}-")]
        return found

    def stop(self, seconds: float = 20.0) -> None:
        """SIGTERM; then everything must be gone."""
        if self.process.returncode is not None:
            return
        members = self.tree()
        self.process.send_signal(signal.SIGTERM)
        self.wait_stopped(members, seconds)

    def wait_stopped(self, members: set[Process], seconds: float = 20.0) -> None:
        """A host that has been told to stop: it must end with status 0 and leave nothing."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the host did not stop within {seconds:g} s: {self.errors.text[-4000:]}")
        self.errors.join()
        assert status == 0, self.errors.text[-4000:]
        assert processes.wait_gone(members, 0.5) == set()
        assert self.left() == []

    def kill(self) -> None:
        """SIGKILL, for the host and all that may be left of it."""
        members = self.tree() if self.process.poll() is None else set()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for process in processes.wait_gone(members, 2.0):
            processes.kill(process)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def serving(
    directory: Path,
    source: str | Mapping[str, str] = RUNS,
    *options: str,
    handler: str = "app.handler",
    ready: bool = True,
    **settings: Any,
) -> Iterator[Serving]:
    """Serve ``source`` (``app.py``, or ``{file name: text}``) as the function ``probe``, with ``options``.

    ``ready=False`` does not wait for ``/readyz``: a function that cannot be initialised never is.
    """
    code = directory / "code"
    code.mkdir(exist_ok=True)
    for name, text in ({"app.py": source} if isinstance(source, str) else source).items():
        (code / name).write_text(text)
    arguments = [handler, "--code", str(code), "--function-name", "probe", *options]
    with _stopped_after(Serving(arguments, directory, "probe", **settings)) as host:
        if ready:
            host.wait_ready()
        yield host


def _toml(value: object) -> str:
    """JSON's scalars and lists are TOML's as well; its objects are not."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


@contextlib.contextmanager
def serving_many(
    directory: Path, functions: Mapping[str, Mapping[str, object]], *, ready: bool = True, **settings: Any
) -> Iterator[Serving]:
    """Serve several functions: ``{name: {"source": text of app.py, and fields of a lamplighter.toml table}}``."""
    text = ""
    for name, fields in functions.items():
        code = directory / name
        code.mkdir(exist_ok=True)
        (code / "app.py").write_text(str(fields["source"]))
        table = {"handler": "app.handler", "code": name, **fields}
        del table["source"]
        text += f"[functions.{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
    (directory / "lamplighter.toml").write_text(text)
    arguments = ["--config", str(directory / "lamplighter.toml")]
    with _stopped_after(Serving(arguments, directory, next(iter(functions)), **settings)) as host:
        if ready:
            host.wait_ready()
        yield host


@contextlib.contextmanager
def _stopped_after(host: Serving) -> Iterator[Serving]:
    try:
        yield host
        host.stop()
    finally:
        host.kill()

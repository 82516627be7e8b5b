"""The Runtime API server that clients are measured against, and the clients: ours, and AWS's.

The server is ``bench/native/runtime_api.c``, compiled when first asked for. It takes the time itself, on the same clock
as ``time.monotonic_ns``.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import processes
from bench.client import ROOT
from bench.events import http_api_event, queue_event
from bench.peers import CACHE, HANDLERS, PeerFault

SOURCE = ROOT / "bench" / "native" / "runtime_api.c"
OURS, PEER = "lamplighter.bootstrap", "awslambdaric"
"""The modules that ``python -m`` runs, and the names of the sides."""

_HEAD = struct.Struct("<II")
Body = tuple[bytes, bytes]
"""A marker that every answer to an event must hold, and the event as JSON."""


def compiled(cache: Path = CACHE) -> Path:
    """The server's program, of its source as it is now; raises :class:`PeerFault` with the compiler's words."""
    source = SOURCE.read_bytes()
    program = cache / f"runtime_api-{hashlib.sha256(source).hexdigest()[:16]}"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        part = Path(directory) / "part"
        command = [*os.environ.get("CC", "cc").split(), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        done = subprocess.run(
            [*command, "-o", str(part), str(SOURCE)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise PeerFault(f"{SOURCE.name} does not compile (status {done.returncode}):\n{done.stderr[-2000:]}")
        part.rename(program)
    return program


def http_api_bodies(count: int = 512, seed: int = 51) -> list[Body]:
    """``count`` events of about 1 KB, markers their request ids."""
    rng = random.Random(seed)
    events = [http_api_event(rng) for _ in range(count)]
    return [(event["requestContext"]["requestId"].encode(), _json(event)) for event in events]


def queue_bodies(count: int = 64, seed: int = 52) -> list[Body]:
    """``count`` events of about 60 KB, markers the ids of their first messages."""
    rng = random.Random(seed)
    events = [queue_event(rng) for _ in range(count)]
    return [(event["Records"][0]["messageId"].encode(), _json(event)) for event in events]


def _json(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


class RuntimeAPI:
    """A running server, for one client or the workers of one. A context manager; every wait has a limit in seconds.

    Raises :class:`PeerFault` when the server ends, as it does on a wrong answer, or says nothing in time.
    """

    def __init__(self, bodies: Sequence[Body]) -> None:
        self._stack = contextlib.ExitStack()
        with self._stack:
            directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-runtime-api-")))
            file = directory / "bodies"
            file.write_bytes(b"".join(_HEAD.pack(len(marker), len(body)) + marker + body for marker, body in bodies))
            self._process = subprocess.Popen(
                [str(compiled()), str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            self._stack.callback(self._end)
            self._heard = b""
            self.address = f"127.0.0.1:{self._answer('listening', 30)[0]}"
            self._stack = self._stack.pop_all()

    def __enter__(self) -> RuntimeAPI:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def parked(self, count: int, seconds: float = 60) -> int:
        """Wait until ``count`` connections wait for events; when that was, in nanoseconds of ``time.monotonic_ns``."""
        self._say(f"parked {count}")
        return self._answer("parked", seconds)[0]

    def serve(self, count: int, seconds: float = 120) -> tuple[float, list[float]]:
        """Hand out ``count`` events; the seconds until all were answered, and the seconds of each cycle."""
        self._say(f"serve {count}")
        total, *cycles = self._answer("served", seconds)
        return total / 1e9, [cycle / 1e9 for cycle in cycles]

    def errors(self) -> int:
        """How many invocations were answered with an error so far."""
        self._say("errors")
        return self._answer("errors", 30)[0]

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # that it has ended shows when its answer is read
            self._process.stdin.write(f"{command}\n".encode())

    def _answer(self, word: str, seconds: float) -> list[int]:
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        while b"\n" not in self._heard:
            ready, _, _ = select.select([out], [], [], seconds)
            more = os.read(out, 1 << 20) if ready else b""
            if not more:
                self._process.kill()
                assert self._process.stderr is not None
                why = self._process.stderr.read().decode(errors="replace") if ready else f"silent for {seconds:g} s"
                raise PeerFault(f"the Runtime API server did not say {word!r}: {why}")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        first, *numbers = line.split()
        if first != word.encode():
            raise PeerFault(f"the Runtime API server said {line[:80]!r}, not {word!r}")
        return [int(number) for number in numbers]

    def _end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        self._process.wait(10)


def client_environment(address: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a runtime client finds in its environment on Lambda, as far as it reads it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/tmp"),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(ROOT / "runtime")])),
        "LAMBDA_TASK_ROOT": str(HANDLERS),
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/function",
        "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
        "AWS_REGION": "us-east-1",
        **(more or {}),
    }


@contextlib.contextmanager
def client(
    module: str, handler: str, address: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m MODULE HANDLER`` against the server at ``address``; all its processes end with the block."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, handler],
            cwd=HANDLERS,
            env=client_environment(address, environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield process
        except PeerFault as fault:
            output.seek(0)
            fault.add_note(f"{module} wrote:\n{output.read()[-4000:].decode(errors='replace')}")
            raise
        finally:
            processes.end(process)


def cpu_seconds(root: int) -> float:
    """User and system time that a process and all its living descendants have used so far (proc(5), ``stat``)."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for process in processes.tree(root):
        text = (processes.PROC / str(process.pid) / "stat").read_text(errors="replace")
        fields = text[text.rindex(")") + 2 :].split()
        # utime, stime, and those of children that were waited for: a trial fork, say.
        total += sum(int(field) for field in itertools.islice(fields, 11, 15))
    return total / ticks

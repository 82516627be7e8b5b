"""The bootstrap with a pool, as a process of its own beside a Runtime API: for the tests of this folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bootstrap.pool_api import Invocation, PoolAPI

from bench import processes
from lamplighter import bootstrap

HERE = Path(__file__).parent
RUNTIME = Path(bootstrap.__file__).parents[2]


class Pooled:
    """A running bootstrap. ``output`` takes its standard output, ``errors`` its standard error."""

    def __init__(self, api: PoolAPI, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.api = api
        self.process = process
        self.output = output
        self.errors = errors

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """The supervisor's living children."""
        return sorted(one.pid for one in processes.tree(self.pid) if one.pid != self.pid)

    def run(self, **event: Any) -> Invocation:
        """Invoke, and wait for the answer."""
        return self.api.invoke(json.dumps(event).encode()).wait()

    def result(self, **event: Any) -> dict[str, Any]:
        """Invoke; the result, which must be one."""
        one = self.run(**event)
        assert one.kind == "response", one.answer
        return dict(json.loads(one.answer))

    def said(self) -> str:
        """What it wrote to both streams so far."""
        return self.output.read_text(errors="replace") + self.errors.read_text(errors="replace")

    def wait_said(self, text: str, times: int = 1, seconds: float = 60) -> str:
        """Wait until it has written ``text``, so many times."""
        until = time.monotonic() + seconds
        while self.said().count(text) < times:
            assert time.monotonic() < until, f"{text!r} was not said {times} times:\n{self.said()}"
            time.sleep(0.01)
        return self.said()

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)


@contextlib.contextmanager
def pooled(
    api: PoolAPI, handler: str = "pool_functions.handler", module: str = "lamplighter.bootstrap", **environment: str
) -> Iterator[Pooled]:
    """``python -m MODULE HANDLER`` with these variables; every process of it has ended when the block has."""
    with tempfile.TemporaryDirectory(prefix="pooled-") as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", module, handler],
                cwd=HERE,
                env={
                    "PATH": os.environ["PATH"],
                    "LC_ALL": "C.UTF-8",
                    "PYTHONPATH": str(RUNTIME),
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                    "AWS_LAMBDA_FUNCTION_NAME": "pool",
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        running = Pooled(api, process, output, errors)
        try:
            yield running
        except AssertionError as fault:
            fault.add_note(f"it wrote:\n{running.said()[-6000:]}")
            raise
        finally:
            processes.end(process)


def managed(workers: int, **more: str) -> dict[str, str]:
    """The variables of Managed Instances."""
    return {"AWS_LAMBDA_MAX_CONCURRENCY": str(workers), "AWS_LAMBDA_LOG_FORMAT": "JSON", **more}

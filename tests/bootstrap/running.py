"""The bootstrap, or the client it replaces, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lamplighter

RUNTIME = Path(lamplighter.__file__).parents[1]
OURS, THEIRS = "lamplighter.bootstrap", "awslambdaric"


class Process:
    """A running client."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self._output = output
        self.pid = process.pid

    def status(self) -> int:
        """Its exit status, once it has ended; waits for 30 s."""
        return self._process.wait(30)

    def output(self) -> str:
        """Everything it wrote so far."""
        return self._output.read_text(errors="replace")


@contextmanager
def running(
    module: str,
    address: str | None,
    *arguments: str,
    code: Path,
    environment: Mapping[str, str] | None = None,
    interpreter: tuple[str, ...] = (),
) -> Iterator[Process]:
    """``python -m MODULE ARGUMENTS`` in ``code``, gone when the block ends. ``interpreter``: options of Python."""
    variables = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(RUNTIME),
        "PYTHONDONTWRITEBYTECODE": "1",
        **({} if address is None else {"AWS_LAMBDA_RUNTIME_API": address}),
        **(environment or {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, *interpreter, "-m", module, *arguments],
                cwd=code,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        try:
            yield Process(process, output)
        finally:
            process.kill()
            process.wait(30)

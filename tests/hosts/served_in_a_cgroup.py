"""A host that is served from a cgroup of its own, below the root of version 2: root's, or one delegated to a user."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MOUNT = Path("/sys/fs/cgroup")
HANDLER = """
held = bytearray(b"x" * 1024) * (96 * 1024)


def handler(event, context):
    if event.get("take"):
        return len(bytearray(b"x" * 1024) * (event["take"] * 1024))
    if event.get("run"):
        scope = {}
        exec(event["run"], scope)
        return scope["result"]
    return {"cgroup": open("/proc/self/cgroup").read().strip(), "said": event["say"]}
"""
"""Most of its memory is taken at init, whose CPU is not limited: at a fourteenth of a processor that is itself slow, a
handler would be at it for a minute."""


class Served:
    """``python`` is the command that runs Python there; ``owner`` the user to whom the cgroup is delegated."""

    def __init__(self, directory: Path, python: Sequence[str], owner: int, variables: dict[str, str]) -> None:
        (directory / "code").mkdir()
        (directory / "code" / "app.py").write_text(HANDLER)
        self.cgroup = MOUNT / f"serve-{os.getpid()}-{owner}"
        self.cgroup.mkdir()
        for path in (self.cgroup, self.cgroup / "cgroup.procs", self.cgroup / "cgroup.subtree_control"):
            os.chown(path, owner, owner)
        self.log = directory / "log"
        serve = [*python, "-P", "-m", "lamplighter", "serve", "app.handler", "--code", str(directory / "code")]
        serve += ["--function-name", "probe", "--memory", "128", "--timeout", "60", "--listen", "127.0.0.1:0"]
        serve += ["--require", "memory,cpu,processes,files,timeout,tmp,pid,mount,ipc"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(self.cgroup), *serve],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **variables},
            )
        until = time.monotonic() + 30
        while "listening on" not in self.text and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        match = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.text)
        assert match, self.text
        self.port = int(match[1])

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def invoke(self, event: object) -> tuple[bool, Any]:
        """Whether the function failed, and the payload."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/2015-03-31/functions/probe/invocations", json.dumps(event))
            response = connection.getresponse()
            payload = json.loads(response.read())
            assert response.status == 200, payload
            return response.headers.get("X-Amz-Function-Error") is not None, payload

    def stop(self) -> None:
        """SIGTERM; then the host must end with status 0, and nothing of it be left in its cgroup."""
        self.process.terminate()
        assert self.process.wait(60) == 0, self.text
        assert not [entry for entry in self.cgroup.iterdir() if entry.is_dir()]
        assert (self.cgroup / "cgroup.subtree_control").read_text().split() == []
        self.cgroup.rmdir()


@contextlib.contextmanager
def served_in_a_cgroup(
    directory: Path, python: Sequence[str] = (sys.executable,), owner: int = 0, **variables: str
) -> Iterator[Served]:
    host = Served(directory, python, owner, variables)
    try:
        yield host
    finally:
        if host.process.poll() is None:
            host.process.kill()
            host.process.wait(20)

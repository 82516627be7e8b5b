"""A stand-in for ``lamplighter serve``, enough of one to take the tour: real handlers, no workers, no limits.

``FAKE_HOST_FAULT`` makes it misbehave in one way: ``mute`` (ends before it listens), ``orphan`` (leaves a process
behind), ``status`` (ends with exit status 3), ``function`` (every invocation of ``queue`` raises).
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULT = os.environ.get("FAKE_HOST_FAULT", "")


def load(name: str, function: dict[str, Any]) -> Any:
    os.environ.update(function.get("environment", {}))
    spec = importlib.util.spec_from_file_location(f"{name}_app", Path(function["code"], "app.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    handlers: dict[str, Any]
    parked: dict[str, int]

    def do_GET(self) -> None:
        functions = {
            name: {"template": "ready", "init_ms": 12.5, "parked": self.parked[name], "idle": 0}
            for name in self.handlers
        }
        self.answer(200, json.dumps({"functions": functions}).encode())

    def do_POST(self) -> None:
        name = self.path.split("/")[3]
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        error = {}
        if FAULT == "function" and name == "queue":
            payload: Any = {"errorType": "RuntimeError", "errorMessage": "on purpose"}
            error = {"X-Amz-Function-Error": "Unhandled"}
        else:
            payload = self.handlers[name](event, None)
        log = "START RequestId: 1 Version: $LATEST\nREPORT RequestId: 1\tMax Memory Used: 37 MB\t\n"
        self.answer(
            200, json.dumps(payload).encode(), {"X-Amz-Log-Result": base64.b64encode(log.encode()).decode(), **error}
        )

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> int:
    assert sys.argv[1:3] == ["serve", "--config"]
    print("fake host starts", file=sys.stderr, flush=True)
    if FAULT == "mute":
        return 7
    config = tomllib.loads(Path(sys.argv[3]).read_text())
    sys.stdout = sys.stderr
    Front.handlers = {name: load(name, function) for name, function in config["functions"].items()}
    Front.parked = {name: function["parked"] for name, function in config["functions"].items()}
    host, port = config["host"]["listen"].split(":")
    server = ThreadingHTTPServer((host, int(port)), Front)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    orphan = subprocess.Popen(["sleep", "600"], stderr=subprocess.DEVNULL) if FAULT == "orphan" else None
    print(f"host listening on http://{host}:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever(poll_interval=0.05)
    if orphan is not None:
        print(f"orphan is {orphan.pid} at {time.time():.0f}", file=sys.stderr, flush=True)
    return 3 if FAULT == "status" else 0


if __name__ == "__main__":
    sys.exit(main())

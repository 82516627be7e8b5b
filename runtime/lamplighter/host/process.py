"""The process that joins template and sandbox: :func:`main` in a Python exec'd inside a nest.

Descriptors: 0 /dev/null, 1 and 2 the log, 3 the control socket of a template or the channel of an environment, 4 the
keeper program, 5 a memfd with the order, a JSON object::

    {"mode": "template" | "environment", "handler": str, "path": [str], "isolated": bool,
     "tmp_bytes": int, "tmp_inodes": int, "disk": bool, "network": bool, "birth": bool, "filtered": bool,
     "scopes": int, "tmp": str, "warm_up": [str]}

``disk``, ``network`` and ``birth`` say which descriptors come first, in this order, in a fork request: a mount for
the worker's /tmp, its network, and its leaf's directory, to be born in. ``filtered`` and ``scopes`` are what it lays on
itself. ``tmp`` is where each environment makes a directory for its temporary files, if
it has no /tmp of its own.

A ``template`` initialises the function once, freezes and forks; an ``environment`` serves in this very process, for
functions whose template cannot be forked. What a template says first is one JSON object::

    {"outcome": "frozen", "resident": bytes, "stages": {name: microseconds}}
    {"outcome": "unsafe", "obstacles": [str]}
    {"outcome": "failed", "type": str, "body": error payload}
"""

from __future__ import annotations

import gc

gc.disable()  # before anything else is imported: whatever is collected now is a hole that workers copy later

from lamplighter.template import heap  # noqa: E402

heap.gather()  # and what is allocated from here on lies together

import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from typing import Any  # noqa: E402

from lamplighter.sandbox import fork as sandbox  # noqa: E402
from lamplighter.template import hooks, safety, server  # noqa: E402
from lamplighter.template.pages import Pages  # noqa: E402
from lamplighter.worker.handler import InitFault  # noqa: E402
from lamplighter.worker.initialise import initialise, report_init_fault  # noqa: E402
from lamplighter.worker.loop import serve  # noqa: E402
from lamplighter.worker.transport import ChannelTransport  # noqa: E402

CONTROL, PROGRAM, ORDER = 3, 4, 5
BEFORE_SNAPSHOT_EXIT = 64
"""Exit status of a runtime whose before-snapshot hook failed, as AWS's Python runtime has it."""


def main() -> None:
    began = time.perf_counter()
    order = _take_order()
    # The function's own directory first, as on Lambda; "-c" put the current directory there.
    sys.path[:1] = order["path"]
    sys.argv[:] = ["lamplighter", order["handler"]]
    sock = socket.socket(fileno=CONTROL)
    for fd in (CONTROL, PROGRAM):
        os.set_inheritable(fd, False)
    if order["mode"] == "template":
        _run_template(order, sock, began)
    else:
        _run_environment(order, sock)


def _take_order() -> dict[str, Any]:
    with open(ORDER, "rb") as file:
        file.seek(0)
        return dict(json.load(file))


def _run_environment(order: dict[str, Any], sock: socket.socket) -> None:
    os.close(PROGRAM)
    _take_tmp(order["tmp"])
    transport = ChannelTransport(sock)
    try:
        handler = initialise(order["handler"])
    except InitFault as fault:
        transport.init_failed(report_init_fault(fault), fault.error_type)
        sys.exit(1)
    gc.enable()
    transport.ready()
    serve(handler, transport)


def _run_template(order: dict[str, Any], control: socket.socket, began: float) -> None:
    stages: dict[str, float] = {}

    def stage(name: str, since: float) -> float:
        now = time.perf_counter()
        stages[name] = (now - since) * 1e6
        return now

    try:
        handler = initialise(order["handler"])
    except InitFault as fault:
        body = report_init_fault(fault)
        _say(control, {"outcome": "failed", "type": fault.error_type, "body": body.decode()})
        sys.exit(1)
    at = stage("init", began)
    server.warm_up(handler, [event.encode() for event in order["warm_up"]])
    at = stage("warm_up", at)
    try:
        hooks.run_before_snapshot()
    except Exception as fault:
        payload = server.fault_payload(fault)
        print(f"[ERROR] {payload['errorType']}: {payload['errorMessage']}", flush=True)
        _say(control, {"outcome": "failed", "type": "Runtime.BeforeSnapshotError", "body": json.dumps(payload)})
        sys.exit(BEFORE_SNAPSHOT_EXIT)
    at = stage("hooks", at)
    # After the hooks: closing connections is what they are for.
    found = safety.lasting_obstacles(frozenset((0, 1, 2, CONTROL, PROGRAM)), alone=order["isolated"])
    if found:
        _say(control, {"outcome": "unsafe", "obstacles": found})
        return
    server.rehearse()
    forks = server.ForkServer(control, handler, _fork(order), (PROGRAM,), Pages(sandbox.populate))
    heap.freeze()
    heap.collapse()
    stage("freeze", at)
    _say(control, {"outcome": "frozen", "resident": heap.resident_bytes(), "stages": stages})
    forks.serve()


def _fork(order: dict[str, Any]) -> server.Fork:
    def fork(pid: int, descriptors: Sequence[int], ranges: bytes) -> server.Forked:
        left = list(descriptors)
        disk, network, directory = (left.pop(0) if order[one] else -1 for one in ("disk", "network", "birth"))
        forked = sandbox.fork(
            isolated=order["isolated"],
            pid=pid,
            program=PROGRAM,
            tmp_bytes=order["tmp_bytes"],
            tmp_inodes=order["tmp_inodes"],
            tmp_mount=disk,
            network=network,
            filtered=order["filtered"],
            scopes=order["scopes"],
            placement=left,
            cgroup2=directory,
            ranges=ranges,
        )
        if forked.pid == 0:
            _take_tmp(order["tmp"])
        return server.Forked(*forked)

    return fork


def _take_tmp(base: str) -> None:
    """Where nothing can be mounted, an environment has a directory of its own, and what asks for one finds it."""
    if not base:
        return
    own = f"{base}/{os.getpid()}"
    os.mkdir(own, 0o700)
    os.environ["TMPDIR"] = own
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]


def _say(control: socket.socket, outcome: dict[str, Any]) -> None:
    control.send(json.dumps(outcome).encode())

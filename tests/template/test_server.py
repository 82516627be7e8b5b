"""The fork server: one reply for each request, workers that share nothing they must not; a template that goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lamplighter.template import server
from lamplighter.template.server import COPY_AHEAD, LEARNED, REQUEST
from lamplighter.worker import channel
from lamplighter.worker.channel import Reply
from lamplighter.worker.context import current

TEMPLATE = """
import gc, os, socket, sys
gc.disable()
from lamplighter.sandbox.native import SandboxFault
from lamplighter.template.heap import freeze
from lamplighter.template.server import Forked, ForkServer

asked = []


def fork(pid, descriptors, pages):
    asked.append((pid, list(descriptors), pages))
    if pid == 13:
        raise SandboxFault(11, "cannot clone the worker: try later")
    child = os.fork()
    problem = SandboxFault(5, "cannot mount the worker's /tmp") if pid == 14 else None
    return Forked(child, os.pidfd_open(child) if child else -1, -1, {"clone": 1.5}, problem)


def handler(event, context):
    scope = {"event": event, "asked": asked, "context": context}
    exec(event, globals(), scope)
    return scope.get("result")


SETUP
control = socket.socket(fileno=int(sys.argv[1]))
forks = ForkServer(control, handler, fork, (int(sys.argv[2]),))
freeze()
control.send(b"frozen")
forks.serve()
print("the template has come to its end", flush=True)
"""


class Worker:
    """A worker as the host has it: its reply, its channel and its log."""

    def __init__(self, reply: dict[str, Any], pidfd: int, sock: socket.socket, log: int) -> None:
        self.reply, self.pidfd, self.sock, self.log = reply, pidfd, sock, log

    def hear(self) -> Reply:
        reply = channel.receive_reply(self.sock)
        assert reply is not None
        return reply

    def run(self, code: str) -> Any:
        """Invoke with Python code, and return what it sets ``result`` to."""
        channel.send_event(self.sock, 1, 0, json.dumps(code).encode(), "a-request")
        reply = self.hear()
        assert reply.kind == channel.RESPONSE, reply.body
        return json.loads(reply.body)

    def log_until_the_end(self) -> str:
        with open(self.log, encoding="utf-8", closefd=False) as file:
            return file.read()

    def close(self) -> None:
        self.sock.close()
        os.close(self.log)
        os.close(self.pidfd)


class Template:
    """The script above in a process of its own, and the host's end of its control socket."""

    def __init__(self, setup: str) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(30)
        self.kept, kept = os.pipe()
        code = TEMPLATE.replace("SETUP", setup)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), str(kept)],
            pass_fds=(theirs.fileno(), kept),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        os.close(kept)
        self.workers: list[Worker] = []
        assert self.control.recv(100) == b"frozen"

    def ask(self, pid: int = 1, flags: int = 0, stream: str = "a-stream", extra: tuple[int, ...] = ()) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(30)
        log, log_theirs = os.pipe()
        message = REQUEST.pack(pid, flags) + stream.encode()
        socket.send_fds(self.control, [message], [theirs.fileno(), log_theirs, *extra])
        theirs.close()
        os.close(log_theirs)
        said, fds, _, _ = socket.recv_fds(self.control, 65_536, 4)
        worker = Worker(json.loads(said), fds[0] if fds else os.open("/dev/null", os.O_RDONLY), ours, log)
        self.workers.append(worker)
        return worker

    def close(self) -> str:
        """Close the control socket; what the template writes to its own log until its end."""
        self.control.close()
        for worker in self.workers:
            worker.close()
        said, _ = self.process.communicate(timeout=30)
        os.close(self.kept)
        assert self.process.returncode == 0
        return said


@pytest.fixture
def template() -> Iterator[Callable[[str], Template]]:
    made: list[Template] = []

    def make(setup: str = "") -> Template:
        made.append(Template(setup))
        return made[-1]

    yield make
    for one in made:
        assert one.close().endswith("the template has come to its end\n")


def test_a_request_is_answered_with_a_worker_that_is_ready_and_serves(template: Callable[..., Template]) -> None:
    worker = template().ask()
    assert worker.reply["stages"] == {"clone": 1.5}
    assert worker.reply["pid"] > 0
    ready = worker.hear()
    assert ready.kind == channel.READY
    stages = json.loads(ready.body)
    assert stages.keys() == {"clone", "hooks", "worker"}
    assert stages["worker"] > 0
    assert worker.run("import os; result = os.getpid()") == worker.reply["pid"]


def test_workers_of_one_template_are_different_processes(template: Callable[..., Template]) -> None:
    one = template()
    first, second = one.ask(), one.ask()
    for worker in (first, second):
        worker.hear()
    pids = {worker.run("import os; result = os.getpid()") for worker in (first, second)}
    assert pids == {first.reply["pid"], second.reply["pid"]}
    assert len(pids) == 2
    assert first.run("import random; result = random.random()") != second.run("import random; result = random.random()")


def test_a_worker_has_its_own_log_and_is_told_its_streams_name(template: Callable[..., Template]) -> None:
    worker = template().ask(stream="2030/01/01/[$LATEST]0123")
    worker.hear()
    code = "import os, sys; print('out'); print('err', file=sys.stderr); os.system('echo child'); "
    assert worker.run(code + "result = os.environ['AWS_LAMBDA_LOG_STREAM_NAME']") == "2030/01/01/[$LATEST]0123"
    worker.sock.shutdown(socket.SHUT_WR)
    assert worker.log_until_the_end() == "out\nerr\nchild\n"


def test_a_worker_holds_nothing_of_the_templates(template: Callable[..., Template]) -> None:
    one = template()
    first = one.ask()
    extra = os.open("/dev/null", os.O_RDONLY)
    second = one.ask(extra=(extra, extra))
    os.close(extra)
    look = """
import os
result = sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
                for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}") or int(fd) < 3)
"""
    for worker in (first, second):
        worker.hear()
        # Standard input, the log twice, the channel; and the directory that is being listed is gone when it is read.
        assert [what for what in worker.run(look) if not what.startswith("/proc")] == [
            "/dev/null",
            "pipe",
            "pipe",
            "socket",
        ]


def test_the_descriptors_that_place_a_worker_are_handed_to_the_fork(template: Callable[..., Template]) -> None:
    extra = os.open("/dev/null", os.O_RDONLY)
    worker = template().ask(pid=77, extra=(extra, extra))
    os.close(extra)
    worker.hear()
    pid, count, pages = worker.run("pid, fds, pages = asked[-1]; result = [pid, len(fds), pages.hex()]")
    assert (pid, count, pages) == (77, 2, "")


def test_what_was_learned_is_given_only_to_workers_that_are_to_copy_ahead(template: Callable[..., Template]) -> None:
    one = template()
    one.control.send(REQUEST.pack(0, LEARNED) + b"pages of one")
    one.control.send(REQUEST.pack(0, LEARNED) + b"other pages")
    with_it, without = one.ask(flags=COPY_AHEAD), one.ask()
    for worker, pages in ((with_it, "other pages"), (without, "")):
        worker.hear()
        assert worker.run("result = asked[-1][2].decode()") == pages


def test_a_fork_that_fails_is_answered_so_and_the_next_one_works(template: Callable[..., Template]) -> None:
    one = template()
    failed = one.ask(pid=13)
    assert failed.reply == {"fault": "[Errno 11] cannot clone the worker: try later"}
    assert channel.receive_reply(failed.sock) is None, "the template has kept the channel of a worker that never was"
    worker = one.ask()
    worker.hear()
    assert worker.run("result = 'alive'") == "alive"


def test_a_worker_that_is_not_as_it_must_be_says_so_and_ends(template: Callable[..., Template]) -> None:
    worker = template().ask(pid=14)
    said = worker.hear()
    assert (said.kind, said.error_type) == (channel.ERROR, "Sandbox.Failure")
    body = json.loads(said.body)
    assert body == {"errorType": "Sandbox.Failure", "errorMessage": "[Errno 5] cannot mount the worker's /tmp"}
    assert channel.receive_reply(worker.sock) is None


def test_a_failing_hook_after_the_restore_is_an_init_error(template: Callable[..., Template]) -> None:
    setup = """
import snapshot_restore_py
@snapshot_restore_py.register_after_restore
def reconnect():
    raise ConnectionError("nobody there")
"""
    worker = template(setup).ask()
    said = worker.hear()
    assert (said.kind, said.error_type) == (channel.INIT_ERROR, "Runtime.AfterRestoreError")
    body = json.loads(said.body)
    assert (body["errorType"], body["errorMessage"]) == ("ConnectionError", "nobody there")
    assert any("reconnect" in line for line in body["stackTrace"])
    assert worker.log_until_the_end() == "[ERROR] ConnectionError: nobody there\n"


def test_hooks_after_the_restore_run_in_each_worker_before_it_is_ready(template: Callable[..., Template]) -> None:
    setup = """
import snapshot_restore_py
restored = []
snapshot_restore_py.register_after_restore(lambda: restored.append(os.getpid()))
"""
    one = template(setup)
    for worker in (one.ask(), one.ask()):
        worker.hear()
        assert worker.run("result = restored") == [worker.reply["pid"]]


def test_a_file_that_init_opened_is_read_from_its_own_position_in_each_worker(
    template: Callable[..., Template],
) -> None:
    one = template("words = open('/proc/self/comm', 'rb', buffering=0); first = words.read(2)")
    workers = [one.ask(), one.ask()]
    for worker in workers:
        worker.hear()
    rest = [worker.run("result = words.read().decode()") for worker in workers]
    assert rest[0] == rest[1] != ""


def test_the_collector_runs_in_a_worker_and_leaves_alone_what_it_inherited(template: Callable[..., Template]) -> None:
    worker = template("inherited = [object() for _ in range(10)]").ask()
    worker.hear()
    enabled, frozen = worker.run("import gc; result = [gc.isenabled(), gc.get_freeze_count()]")
    assert enabled
    assert frozen > 1000


def test_a_worker_lives_on_when_its_template_has_ended(template: Callable[..., Template]) -> None:
    one = template()
    worker = one.ask()
    worker.hear()
    one.control.shutdown(socket.SHUT_RDWR)
    one.process.wait(30)
    assert worker.run("result = 'alive'") == "alive"


# --- before the freeze ------------------------------------------------------------------------------------------------


def test_a_warm_up_event_that_fails_does_not_keep_the_next_from_running(capfd: pytest.CaptureFixture[str]) -> None:
    ran: list[object] = []

    def handler(event: object, context: Any) -> object:
        ran.append((event, context.aws_request_id, context.get_remaining_time_in_millis() > 600_000))
        if event == 1:
            raise KeyError("missing")
        return event

    server.warm_up(handler, [b"1", b"not JSON", b"3"])
    assert ran == [(1, "warm-up-1", True), (3, "warm-up-3", True)]
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "lamplighter: warm-up event 1 failed: KeyError: 'missing'"
    assert lines[1].startswith("lamplighter: warm-up event 2 failed: ")
    assert len(lines) == 2


@pytest.mark.parametrize("trace", [None, "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"])
def test_a_rehearsal_leaves_no_trace(
    trace: str | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if trace is None:
        monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    else:
        monkeypatch.setenv("_X_AMZN_TRACE_ID", trace)
    before = (dict(os.environ), sorted(os.listdir("/proc/self/fd")))
    server.rehearse()
    assert (dict(os.environ), sorted(os.listdir("/proc/self/fd"))) == before
    assert current.request_id == ""
    assert capfd.readouterr() == ("", "")


def test_a_hooks_fault_becomes_an_error_payload() -> None:
    try:
        raise LookupError("lost")
    except LookupError as fault:
        payload = server.fault_payload(fault)
    assert (payload["errorType"], payload["errorMessage"]) == ("LookupError", "lost")
    assert "test_server" in payload["stackTrace"][0]
    assert server.fault_payload(KeyboardInterrupt())["errorType"] == "KeyboardInterrupt"


def test_a_launch_that_fails_after_the_host_has_gone_still_ends() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        server.fail_launch(theirs, "no room")
    theirs.close()
    ours.close()
    until = time.monotonic() + 20
    status = (0, 0)
    while status == (0, 0):
        assert time.monotonic() < until
        status = os.waitpid(child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status[1]) == 71

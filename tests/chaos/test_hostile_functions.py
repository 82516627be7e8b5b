"""Functions that use what they can reach against the host: each loses its own template or worker, and nobody else's.

User code runs in the template as well as in workers, so it holds their sockets and may say anything on them. Each test
serves the hostile function beside an honest one; leaving ``serving_many`` asserts a clean stop with nothing left.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tests.host.serving import RUNS, Serving, needs_root, serving_many, wait_for

HONEST = {"source": "def handler(event, context):\n    return 'well'\n"}
SENDS = """
import socket
send = socket.send_fds

def hostile(sock, buffers, fds, *rest):
    return send(sock, buffers, {fds}, *rest)

socket.send_fds = hostile

def handler(event, context):
    import time
    time.sleep(100)
"""
PEER = (
    "(lambda peer: [fds[0], peer])"
    '(__import__("struct").unpack("i", sock.getsockopt(socket.SOL_SOCKET, 77, 4))[0])'  # SO_PEERPIDFD, Linux 6.5
)
READY = """
import lamplighter.worker.transport as transport
ready = transport.ChannelTransport.ready
transport.ChannelTransport.ready = lambda self, stages=b"": ready(self, {stages!r})

def handler(event, context):
    return 1
"""
TELLS = """
import struct
import lamplighter.worker.channel as channel
import lamplighter.worker.transport as transport

def respond(self, event, body, is_json):
    self._send(channel.WORKING_SET, event.sequence, struct.pack("=QQ", 1, 1), "", 0)

transport.ChannelTransport.respond = respond

def handler(event, context):
    return 1
"""
SIBLINGS = """
import ctypes, os, platform
CLONE, CLONE_PARENT, SIGCHLD = (56 if platform.machine() == "x86_64" else 220), 0x8000, 17
libc = ctypes.CDLL(None)

made = []
for _ in range(5):
    pid = libc.syscall(CLONE, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    made.append(pid)

def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

while any(map(lives, made)):  # or init would not be safe to fork
    os.sched_yield()

def handler(event, context):
    return made
"""


def honest(host: Serving) -> bool:
    return host.invoke(function="honest").value == "well"


@needs_root
def test_a_template_that_names_the_host_as_its_worker_cannot_have_the_host_killed(tmp_path: Path) -> None:
    functions = {"hostile": {"source": SENDS.format(fds=PEER), "timeout_s": 1, "parked": 0}, "honest": HONEST}
    with serving_many(tmp_path, functions) as host:
        assert host.invoke(function="hostile").error["errorType"] in ("Sandbox.Timedout", "Sandbox.Failure")
        assert host.process.poll() is None
        assert honest(host)


def test_a_template_that_sends_no_worker_is_ended_and_the_host_does_not_spin(tmp_path: Path) -> None:
    pipe = SENDS.format(fds='[__import__("os").pipe()[0]]')
    functions = {"hostile": {"source": pipe, "parked": 0, "timeout_s": 2}, "honest": HONEST}
    with serving_many(tmp_path, functions) as host:
        assert host.invoke(function="hostile").error["errorType"] in ("Sandbox.Failure", "Runtime.ExitError")
        host.errors.wait(r"ending the template: it broke its protocol: its worker is not a child of the host")
        before = psutil.Process(host.pid).cpu_times()
        time.sleep(1.0)  # the span that is looked at, not a wait for something
        after = psutil.Process(host.pid).cpu_times()
        assert after.user + after.system - before.user - before.system < 0.5
        assert honest(host)


@pytest.mark.parametrize("stages", [b"5", b'{"x": "text"}', b"{"])
def test_a_worker_whose_readiness_is_nonsense_fails_its_launch(tmp_path: Path, stages: bytes) -> None:
    functions = {"hostile": {"source": READY.format(stages=stages), "parked": 0}, "honest": HONEST}
    with serving_many(tmp_path, functions) as host:
        answer = host.invoke(function="hostile")
        assert answer.error["errorType"] == "Sandbox.Failure"
        assert "stages are no timings" in answer.error["errorMessage"]
        assert honest(host)


def test_a_worker_that_tells_its_working_set_in_place_of_an_answer_is_replaced(tmp_path: Path) -> None:
    functions = {"hostile": {"source": TELLS, "parked": 0}, "honest": HONEST}
    with serving_many(tmp_path, functions) as host:
        assert host.invoke(function="hostile").error["errorType"] == "Sandbox.Failure"
        assert honest(host)


@needs_root
def test_children_that_init_makes_the_hosts_do_not_keep_its_nest_from_ending(tmp_path: Path) -> None:
    functions = {"hostile": {"source": SIBLINGS, "parked": 0}, "honest": HONEST}
    with serving_many(tmp_path, functions) as host:
        assert min(host.invoke(function="hostile").value) > 0
        for _ in range(2):
            built = host.errors.text.count("template frozen")
            os.kill(host.pid, signal.SIGHUP)
            wait_for(lambda: host.errors.text.count("template frozen") >= built + 2, "both new templates")  # noqa: B023
        assert len(host.invoke(function="hostile").value) == 5
        assert honest(host)


def test_a_burst_of_cold_launches_survives_the_death_of_the_template(tmp_path: Path) -> None:
    functions = {"burst": {"source": RUNS, "concurrency": 40, "parked": 0, "timeout_s": 10, "memory_mb": 1769}}
    with serving_many(tmp_path, functions) as host, ThreadPoolExecutor(30) as pool:
        template = host.template()
        waiting = [pool.submit(host.run, "import time; time.sleep(0.2); result = 1") for _ in range(30)]
        wait_for(lambda: host.facts()["busy"] >= 3, "the first of the burst")
        os.kill(template, signal.SIGKILL)
        answers = [one.result() for one in waiting]
        assert len({answer.request_id for answer in answers}) == 30
        failed = [answer for answer in answers if "x-amz-function-error" in answer.headers]
        # The one whose fork was under way may have been running when nobody could tell any more that it was.
        assert len(failed) <= 1, [answer.error for answer in failed]
        assert {answer.value for answer in answers if answer not in failed} == {1}
        assert host.run("result = 2").value == 2

"""Who may stay awake for what is due in a moment, and that who runs is counted right however an invocation ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lamplighter.host.deadlines import Deadlines
from lamplighter.host.environment import Environment
from lamplighter.host.invocation import Invocation
from lamplighter.host.report import InvocationLog
from lamplighter.host.wakefulness import AWAKE_S, Wakefulness
from lamplighter.sandbox.cgroups import Leaf
from lamplighter.worker import channel
from lamplighter.worker.channel import ERROR, RESPONSE


class _Loop:
    """Counts what is to be called soon, and calls it when told."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> bool:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        return bool(soon)


def _wakefulness(processors: int, running: int) -> tuple[Wakefulness, _Loop]:
    loop: Any = _Loop()
    wakefulness = Wakefulness(loop, processors)
    wakefulness.running = running
    return wakefulness, loop


@pytest.mark.parametrize(
    ("processors", "running", "may"), [(1, 1, False), (2, 1, False), (2, 2, False), (3, 1, True), (4, 2, True)]
)
def test_a_worker_stays_awake_only_where_host_and_workers_leave_a_processor(
    processors: int, running: int, may: bool
) -> None:
    wakefulness, _ = _wakefulness(processors, running)
    assert wakefulness.worker_may is may


def test_the_loop_polls_while_fewer_workers_run_than_there_are_processors() -> None:
    wakefulness, loop = _wakefulness(2, 1)
    wakefulness.stay_awake(1e12)
    assert loop.turn()
    assert loop.turn()
    wakefulness.running = 2
    assert loop.turn()
    assert not loop.turn(), "all processors are wanted by now"


def test_the_loop_sleeps_where_every_processor_has_a_worker() -> None:
    wakefulness, loop = _wakefulness(2, 2)
    wakefulness.stay_awake(1e12)
    assert not loop.turn()


def test_the_loop_polls_no_longer_than_it_may() -> None:
    wakefulness, loop = _wakefulness(2, 1)
    wakefulness.stay_awake(-AWAKE_S)
    assert loop.turn()
    assert not loop.turn()


def test_there_are_as_many_processors_as_the_kernel_allows() -> None:
    loop: Any = _Loop()
    wakefulness = Wakefulness(loop)
    wakefulness.running = len(os.sched_getaffinity(0)) - 1
    assert not wakefulness.worker_may


class _Rig:
    """An environment whose worker is this test."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        own, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.setblocking(False)
        log_fd, self._log_writer = os.pipe()
        os.set_blocking(log_fd, False)
        self.wakefulness = Wakefulness(loop, 8)
        sink: Any = SimpleNamespace(write=lambda *_, **__: None)
        host = SimpleNamespace(
            loop=loop,
            full_report=False,
            deadlines=Deadlines(loop),
            wakefulness=self.wakefulness,
            log=SimpleNamespace(line=lambda *_: None),
            children=set(),
        )
        pool = SimpleNamespace(
            host=host,
            config=SimpleNamespace(timeout_s=3, memory_mb=128, name="f"),
            typical_s=1.0,
            waiting=[],
            answered=lambda _: None,
            free=lambda _: None,
            leaving=lambda _: None,
            gone=lambda _: None,
        )
        self.pool = pool
        working_set = SimpleNamespace(wanted=False, awaited=None)
        generation: Any = SimpleNamespace(
            pool=pool, working_set=working_set, forks=True, resident=0, isolated=True, take_back=lambda _: None
        )
        log = InvocationLog(sink, "f", "stream", "text")
        self.environment = Environment(generation, Leaf(), own, log_fd, log)
        self.answers: list[bytes] = []

    def invoke(self) -> bool:
        invocation = Invocation("f", b"{}", "id", lambda _status, _headers, body: self.answers.append(body))
        invocation.route = "arn"
        return self.environment.invoke(invocation)

    def close(self) -> None:
        self.environment.stillborn("")
        self.worker.close()
        os.close(self._log_writer)


@pytest.fixture
def rig() -> Iterator[_Rig]:
    loop = asyncio.new_event_loop()
    rig = _Rig(loop)
    yield rig
    rig.close()
    loop.close()


@pytest.mark.parametrize("kind", [RESPONSE, ERROR])
def test_a_worker_that_has_answered_runs_no_more(rig: _Rig, kind: int) -> None:
    assert rig.invoke()
    assert rig.wakefulness.running == 1
    channel.send_reply(rig.worker, kind, 1, b"{}")
    rig.environment._on_channel()
    assert rig.answers == [b"{}"]
    assert rig.wakefulness.running == 0


def test_nor_does_one_that_is_ended_at_its_deadline(rig: _Rig) -> None:
    assert rig.invoke()
    rig.environment.expire()
    assert len(rig.answers) == 1
    assert rig.wakefulness.running == 0


def test_nor_one_that_breaks_the_protocol(rig: _Rig) -> None:
    assert rig.invoke()
    channel.send_reply(rig.worker, RESPONSE, 7, b"{}")
    rig.environment._on_channel()
    assert len(rig.answers) == 1
    assert rig.wakefulness.running == 0


def test_nor_one_that_was_gone_before_its_event(rig: _Rig) -> None:
    rig.worker.close()
    assert not rig.invoke()
    assert rig.answers == []
    assert rig.wakefulness.running == 0


@pytest.mark.parametrize(("processors", "told"), [(2, False), (3, True)])
def test_a_worker_is_told_that_more_waits_where_it_may_stay_awake_for_it(
    rig: _Rig, processors: int, told: bool
) -> None:
    rig.wakefulness._processors = processors
    rig.pool.waiting.append(None)
    assert rig.invoke()
    event = channel.receive_event(rig.worker)
    assert event is not None
    assert event.more is told

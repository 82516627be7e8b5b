"""A template that has died takes no request, even where somebody else still holds its end of the control socket."""

from __future__ import annotations

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from lamplighter.host.report import InvocationLog
from lamplighter.host.template import Request, Template
from lamplighter.sandbox.native import Process


def test_a_request_to_a_dead_template_is_lost_though_its_socket_takes_it() -> None:
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    exits: list[object] = []
    pool = SimpleNamespace(host=SimpleNamespace(loop=loop, children=set()))
    generation: Any = SimpleNamespace(pool=pool, on_template_exit=exits.append)
    sink: Any = SimpleNamespace(write=lambda *_, **__: None)
    child = os.fork()
    if child == 0:
        os._exit(0)
    log_read, log_write = os.pipe()
    os.set_blocking(log_read, False)
    template = Template(
        generation, Process(child, os.pidfd_open(child)), ours, log_read, InvocationLog(sink, "f", "s", "text"), -1
    )
    channel, other = socket.socketpair()
    try:
        loop.call_later(5, loop.stop)
        while not exits:
            loop.run_until_complete(asyncio.sleep(0.01))
        environment: Any = None
        with pytest.raises(BrokenPipeError) as caught:
            template.ask(Request(environment, channel, log_write), "a-stream", 0, [])
        assert template.lost_to(caught.value)
        assert template.requests == 0
    finally:
        template.close()
        for one in (channel, other, theirs):
            one.close()
        os.close(log_write)
        loop.close()

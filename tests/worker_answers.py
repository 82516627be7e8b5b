"""What the loop answers over a channel, with the host's end driven by a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from lamplighter.worker import channel
from lamplighter.worker.context import LambdaContext
from lamplighter.worker.loop import serve
from lamplighter.worker.transport import ChannelTransport
from sending import send

Handler = Callable[[Any, LambdaContext], Any]


def event(body: bytes = b"{}", sequence: int = 1, **more: Any) -> channel.Event:
    return channel.Event(body, f"id-{sequence}", sequence=sequence, **more)


def answers(handler: Handler, *events: channel.Event) -> list[channel.Reply]:
    """Serve the events in this process, one at a time; the replies, with large bodies fetched."""
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host.settimeout(20)
    replies = []

    def drive() -> None:
        with host:
            for one in events:
                send(host, one)
                reply = channel.receive_reply(host)
                assert reply is not None
                if reply.flags & channel.LARGE:
                    reply.body = channel.receive_body(host, reply.length)
                replies.append(reply)

    driver = threading.Thread(target=drive)
    with worker:
        driver.start()
        serve(handler, ChannelTransport(worker))
        driver.join()
    assert len(replies) == len(events)
    return replies

"""One invocation there and back: what the host sends is what the worker receives, in whatever script."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lamplighter.worker import channel
from lamplighter.worker.channel import LEARN, MESSAGE_LIMIT, MORE, ProtocolFault
from lamplighter.worker.event import Event
from lamplighter.worker.transport import ChannelTransport
from sending import texts_of

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with host, worker:
        yield host, worker


@pytest.mark.parametrize("size", [2, MESSAGE_LIMIT])
@pytest.mark.parametrize(
    "texts",
    [
        ("id", "arn", "trace", "context", "identity", "tenant"),
        ("id", "arn", "trace", "", "", ""),
        ("id", "", "", "", "", "tenant"),
        ("", "", "", "", "", ""),
        ("ä", "ß", "…", "{»ctx«}", "語", "Ω"),
        ("id", "arn", "", "", "ä", ""),
    ],
)
def test_every_field_of_an_event_arrives_as_it_was_sent(pair: Pair, texts: tuple[str, ...], size: int) -> None:
    host, worker = pair
    body = b"x" * size
    channel.send_event(host, 7, 1_760_000_000_123, body, *texts)
    event = channel.receive_event(worker)
    assert event is not None
    assert texts_of(event) == texts
    assert (event.sequence, event.deadline_ms, event.body) == (7, 1_760_000_000_123, body)
    assert (event.learn, event.more) == (False, False)


@pytest.mark.parametrize("flags", [LEARN, MORE, LEARN | MORE])
def test_its_flags_do_too(pair: Pair, flags: int) -> None:
    host, worker = pair
    channel.send_event(host, 1, 0, b"{}", "id", flags=flags)
    event = channel.receive_event(worker)
    assert event is not None
    assert (event.learn, event.more) == (bool(flags & LEARN), bool(flags & MORE))


def test_an_event_that_is_shorter_than_its_head_says_is_a_fault(pair: Pair) -> None:
    host, worker = pair
    channel.send_event(host, 1, 0, b"{}", "a-request", "arn")
    whole = worker.recv(MESSAGE_LIMIT)
    host.send(whole[:-4])
    with pytest.raises(ProtocolFault):
        channel.receive_event(worker)


def test_an_answer_that_nobody_hears_is_no_fault_of_the_worker(pair: Pair) -> None:
    host, worker = pair
    host.close()
    ChannelTransport(worker).respond(Event(b"{}", "id"), b"{}", is_json=True)

"""What a successor makes of its predecessor's note and of what the kernel says of their connection."""

from __future__ import annotations

import _socket
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.bootstrap.pool_api import PoolAPI

from lamplighter.bootstrap import inherited, notes
from lamplighter.bootstrap.inherited import InheritedClient, Standing, standing
from lamplighter.bootstrap.notes import Memory, Note
from lamplighter.worker.event import Event

CLEAN = Standing(usable=True, due=False, asked=False, owed=False)
OWED = CLEAN._replace(owed=True)
WAITING = CLEAN._replace(asked=True)
LOST = Standing(usable=False, due=False, asked=False, owed=False)
LOST_AND_OWED = LOST._replace(owed=True)


def _note(step: int, *, before: int = 100, after: int = 100, read: int = 50, ahead: int = 50, flags: str = "") -> Note:
    return Note(step, "asks" in flags, "due" in flags, before, after, read, ahead, "id", "")


@pytest.mark.parametrize(
    ("note", "sent", "read", "expected"),
    [
        # Before the first word.
        (_note(notes.FRESH, before=0, after=0, read=0, ahead=0), 0, 0, CLEAN),
        # A request for an event: not sent, sent, cut off.
        (_note(notes.ASKING, after=220, flags="asks"), 100, 50, CLEAN),
        (_note(notes.ASKING, after=220, flags="asks"), 220, 50, WAITING),
        (_note(notes.ASKING, after=220, flags="asks"), 150, 50, LOST),
        # The event has come: none of it is read, a part, or all, which makes no difference.
        (_note(notes.ARRIVING, after=220, flags="asks"), 220, 50, WAITING),
        (_note(notes.ARRIVING, after=220, flags="asks"), 220, 60, LOST_AND_OWED),
        # It runs.
        (_note(notes.RUNNING), 100, 50, OWED),
        # Its answer: not sent, sent whole, cut off; what the server says to it read in part.
        (_note(notes.ANSWERING, after=500, flags="due"), 100, 50, OWED),
        (_note(notes.ANSWERING, after=500, flags="due"), 500, 50, CLEAN._replace(due=True)),
        (_note(notes.ANSWERING, after=500, flags="due"), 499, 50, LOST_AND_OWED),
        (_note(notes.ANSWERING, after=500, flags="due"), 500, 51, LOST),
        # Together with a request for the next event, whose acceptance is read first.
        (_note(notes.ANSWERING, after=500, flags="due asks"), 100, 50, OWED),
        (_note(notes.ANSWERING, after=500, flags="due asks"), 500, 50, WAITING._replace(due=True)),
        (_note(notes.ANSWERING, after=500, ahead=90, flags="due asks"), 500, 90, WAITING),
        (
            _note(notes.ANSWERING, before=500, after=500, ahead=90, flags="due asks"),
            500,
            50,
            WAITING._replace(due=True),
        ),
        # In pieces, of which nobody knows how many there were to be.
        (_note(notes.ANSWERING, after=2**63, flags="due"), 100, 50, OWED),
        (_note(notes.ANSWERING, after=2**63, flags="due"), 300, 50, LOST_AND_OWED),
        # It was answered.
        (_note(notes.ANSWERED), 100, 50, CLEAN),
        # A new connection, of which the note says nothing yet.
        (_note(notes.RUNNING), 0, 0, LOST_AND_OWED),
    ],
)
def test_where_a_predecessor_stood(note: Note, sent: int, read: int, expected: Standing) -> None:
    assert standing(note, sent, read) == expected


def test_a_note_is_read_as_it_was_written_and_lasts_beyond_its_writer() -> None:
    (first, second) = Memory(2).places
    pid = os.fork()
    if pid == 0:
        first.write(notes.RUNNING, False, True, 1, 2**40, 3, 4, "réquest", "invocation")
        second.write(notes.ASKING, True, False, 5, 6, 7, 8)
        first.count_event()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert first.read() == Note(notes.RUNNING, False, True, 1, 2**40, 3, 4, "réquest", "invocation")
    assert second.read() == Note(notes.ASKING, True, False, 5, 6, 7, 8, "", "")
    assert (first.events, second.events) == (1, 0)


def test_a_note_that_is_only_begun_does_not_count() -> None:
    (place,) = Memory(1).places
    place.write(notes.RUNNING, False, False, 1, 2, 3, 4, "whole")
    memory = place._memory
    valid = memory[place._at]
    place.write(notes.ANSWERED, False, False, 9, 9, 9, 9, "never")
    memory[place._at] = valid  # as if its writer had been killed just before the last byte
    assert place.read().request_id == "whole"


def test_an_id_that_is_too_long_for_a_note_is_cut_and_does_no_harm() -> None:
    first, second = Memory(2).places
    first.write(notes.RUNNING, False, False, 0, 0, 0, 0, "x" * 5000, "y" * 5000)
    assert first.read().request_id == "x" * len(first.read().request_id)
    assert second.read().step == notes.FRESH


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
        with ours, theirs:
            yield ours, theirs


def test_the_kernel_counts_what_was_sent_and_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert inherited._traffic(ours) == (0, 0)
    ours.sendall(b"x" * 1000)
    theirs.sendall(b"y" * 300)
    assert ours.recv(100, socket.MSG_WAITALL) == b"y" * 100
    assert ours.recv(200, socket.MSG_WAITALL | socket.MSG_PEEK) == b"y" * 200
    assert inherited._traffic(ours) == (1000, 100)
    ours.setblocking(False)
    sent = 1000
    with pytest.raises(BlockingIOError):
        while True:
            sent += ours.send(b"z" * 65_536)
    assert inherited._traffic(ours) == (sent, 100), "what waits in the kernel counts as sent"


def test_what_comes_while_the_kernel_is_asked_counts_as_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    """Or an event that comes just then would look like one that was read, and be lost with its connection."""
    ours, theirs = pair

    class Arrives(_socket.socket):
        """Something comes after each of the first three answers of ``getsockopt``."""

        times = 3

        def getsockopt(self, *arguments: int) -> Any:
            facts = super().getsockopt(*arguments)
            if self.times:
                self.times -= 1
                theirs.sendall(bytes(341))
                while len(self.recv(4096, socket.MSG_PEEK)) < 341 * (3 - self.times):
                    pass
            return facts

    theirs.sendall(bytes(50))
    assert len(ours.recv(4096)) == 50
    asked = Arrives(fileno=os.dup(ours.fileno()))
    assert inherited._traffic(asked) == (0, 50)
    assert asked.times == 0
    asked.close()


def test_of_what_is_no_tcp_connection_nothing_is_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert inherited._traffic(ours) is None


def test_a_connection_is_kept_until_it_is_dropped(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    (place,) = Memory(1).places
    assert place.kept() == -1
    place.keep(ours.fileno())
    ours.close()
    for _ in range(2):
        with socket.socket(fileno=place.kept()) as again:
            again.sendall(b"still here")
        assert theirs.recv(100) == b"still here"
    place.drop()
    assert place.kept() == -1
    assert theirs.recv(100) == b""


@pytest.mark.parametrize("then_next", [False, True])
def test_a_client_goes_on_where_another_at_its_place_stopped(then_next: bool) -> None:
    """In one process, at every step of an invocation; the first client is let go of without a word."""
    with PoolAPI(1) as api:
        (place,) = Memory(1).places
        first = InheritedClient(api.address, place)
        assert first.take_over() is None
        one = api.invoke(b"1")
        event = first.next()
        second = InheritedClient(api.address, place)
        left = second.take_over()
        assert left is not None
        assert (
            (left.request_id, left.invocation_id) == (event.request_id, event.invocation_id) == (one.request_id, "i-1")
        )
        second.respond(left, b'"by the second"', "application/json", then_next=then_next)
        third = InheritedClient(api.address, place)
        assert third.take_over() is None
        assert one.wait().answer == b'"by the second"'
        api.invoke(b"2")
        assert third.next().body == b"2"
        fourth = InheritedClient(api.address, place)
        left = fourth.take_over()
        assert left is not None
        fourth.fail(left, b"{}", "Function.Error")
        assert InheritedClient(api.address, place).take_over() is None
        assert api.connections == 1
        assert [one.refused for one in api.invocations] == [0, 0]


def test_an_event_that_came_after_its_asker_had_gone_is_read_by_the_next() -> None:
    with PoolAPI(1) as api:
        (place,) = Memory(1).places
        first = InheritedClient(api.address, place)
        api.invoke(b"0")
        event = first.next()
        first.respond(event, b"0", "application/json", then_next=True)
        api.wait_idle()
        one = api.invoke(b"1")
        second = InheritedClient(api.address, place)
        assert second.take_over() is None
        event = second.next()
        assert event.request_id == one.request_id
        second.respond(event, b"1", "application/json")
        assert one.wait().answer == b"1"
        assert api.connections == 1


def test_without_a_connection_the_invocation_is_answered_on_a_new_one() -> None:
    with PoolAPI(1) as api:
        (place,) = Memory(1).places
        one = api.invoke(b"1")
        InheritedClient(api.address, place).next()
        place.drop()
        second = InheritedClient(api.address, place)
        left = second.take_over()
        assert isinstance(left, Event)
        second.fail(left, b'{"errorType": "x"}', "Runtime.ExitError")
        assert one.wait().kind == "error"
        assert api.connections == 2

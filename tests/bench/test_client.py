"""The measuring client: it takes exactly the answers that are right, and says what is wrong with the others."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import client, events

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-LENGTH: 5\r\n\r\nhello"


@contextlib.contextmanager
def server(respond: Callable[[bytes], list[bytes]]) -> Iterator[client.Address]:
    """A loopback server: per request, ``respond(body)`` gives the pieces to send; an empty list closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(sock: socket.socket) -> None:
        data = b""
        # A client that stops at a wrong answer leaves others unread, and its close is then a reset.
        with sock, contextlib.suppress(ConnectionResetError):
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(65_536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                length = next(
                    (int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0
                )
                while len(data) < length:
                    data += sock.recv(65_536)
                body, data = data[:length], data[length:]
                pieces = respond(body)
                if not pieces:
                    return
                for piece in pieces:
                    sock.sendall(piece)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    accepter = threading.Thread(target=accept, daemon=True)
    accepter.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepter.join(10)


def echo(body: bytes) -> list[bytes]:
    """A right answer in two pieces, the second of which is the end of the body."""
    text = json.loads(body)["requestContext"]["requestId"].encode()
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    return [wire[:-7], wire[-7:]]


def requests(count: int) -> list[events.Prepared]:
    return list(itertools.islice(events.prepared_requests(seed=3), count))


def test_an_answer_is_taken_whole_with_its_headers_in_lower_case() -> None:
    taken = client.take_answer(ANSWER + b"next")
    assert taken is not None
    answer, rest = taken
    assert (answer.status, answer.body, rest) == (200, b"hello", b"next")
    assert answer.headers == {b"content-type": b"text/plain", b"content-length": b"5"}


@given(st.integers(min_value=0, max_value=len(ANSWER) - 1))
def test_no_beginning_of_an_answer_is_taken_for_a_whole_one(cut: int) -> None:
    assert client.take_answer(ANSWER[:cut]) is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"SSH-2.0-x\r\n\r\n", "not HTTP/1.x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "needs a Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "needs a Content-Length"),
        (b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", "no status code"),
    ],
)
def test_an_answer_that_cannot_be_measured_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(client.BadAnswer, match=says):
        client.take_answer(data)


def test_events_are_about_one_kilobyte_and_no_two_share_an_id() -> None:
    made = requests(500)
    assert len({request.marker for request in made}) == 500
    for request in made:
        head, _, body = request.wire.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert 900 <= len(body) <= 1200
        assert json.loads(body)["requestContext"]["requestId"].encode() == request.marker


def test_the_same_seed_gives_every_peer_the_same_bytes() -> None:
    assert requests(20) == requests(20)
    assert events.http_api_event(random.Random(1)) != events.http_api_event(random.Random(2))


def test_an_invoke_returns_its_seconds_when_the_answer_is_its_own() -> None:
    with server(echo) as address, client.Connection(address, 10) as connection:
        for request in requests(3):
            assert 0 < connection.invoke(request) < 10
        assert connection.silent()
    with server(echo) as address:
        assert 0 < client.invoke_on_new_connection(address, requests(1)[0], 10) < 10


def test_another_requests_answer_is_refused() -> None:
    with (
        server(lambda _: [ANSWER]) as address,
        client.Connection(address, 10) as connection,
        pytest.raises(client.BadAnswer, match=r"got status 200: b'hello'"),
    ):
        connection.invoke(requests(1)[0])


def test_a_second_answer_to_one_request_is_refused() -> None:
    with (
        server(lambda _: [ANSWER + ANSWER]) as address,
        client.Connection(address, 10) as connection,
        pytest.raises(client.BadAnswer, match="bytes came after the answer"),
    ):
        connection.exchange(requests(1)[0].wire)


def test_a_connection_that_ends_instead_of_answering_is_refused() -> None:
    with (
        server(lambda _: []) as address,
        client.Connection(address, 10) as connection,
        pytest.raises(client.BadAnswer, match="ended after 0 bytes"),
    ):
        connection.exchange(requests(1)[0].wire)


def test_bytes_that_come_without_a_request_are_noticed() -> None:
    left, right = socket.socketpair()
    connection = client.Connection.__new__(client.Connection)
    connection.socket = left
    with left, right:
        assert connection.silent()
        right.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert not connection.silent()


def test_a_load_counts_only_right_answers_even_in_pieces() -> None:
    answered = itertools.count()

    def counted(body: bytes) -> list[bytes]:
        next(answered)
        return echo(body)

    with server(counted) as address:
        load = client.generate_load(address, connections=3, seconds=0.2, distinct=4)
    assert load.requests == next(answered) >= 3
    assert load.seconds >= 0.2
    assert 0 < load.p50 <= load.p99


def test_a_load_stops_at_the_first_wrong_answer() -> None:
    wrong = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}"
    with server(lambda _: [wrong]) as address, pytest.raises(client.BadAnswer, match="got status 500"):
        client.generate_load(address, connections=2, seconds=5)


def test_the_load_generator_in_its_own_process_reports_the_same_facts() -> None:
    with server(echo) as address:
        load = client.load_from_own_process(address, connections=2, seconds=0.2)
    assert load.requests >= 2
    assert load.per_second == pytest.approx(load.requests / load.seconds)


def test_a_load_generator_that_fails_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(client.BadAnswer, match="ConnectionRefusedError"):
        client.load_from_own_process(address, connections=1, seconds=0.2)


@pytest.mark.parametrize(("connections", "seconds", "distinct"), [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0)])
def test_a_load_of_nothing_is_refused(connections: int, seconds: float, distinct: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        client.generate_load(("127.0.0.1", 1), connections, seconds, distinct=distinct)

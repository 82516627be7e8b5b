"""Answers of a server, sound and not: what is read is one answer or a fault, within bounds, whatever comes."""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lamplighter._http import parse_head
from lamplighter.bootstrap import answer
from lamplighter.bootstrap.answer import Answer, ClientFault, Gone, Malformed, Reader

BODY = b'{"key": "value"}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
    b'5;ext="a"\r\n{"key\r\nB\r\n": "value"}\r\n0\r\nX-Late: 1\r\n\r\n'
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + PLAIN
SOUND = [PLAIN, CHUNKED, INTERIM, b"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n", b"HTTP/1.1 204\r\nX: \r\n\r\n"]


@contextmanager
def reading(*parts: bytes, close: bool = True, patience_s: float = 20, pause_s: float = 0) -> Iterator[Reader]:
    """A reader of a connection on which these parts come, one after the other."""
    ours, theirs = socket.socketpair()
    micros = int(patience_s * 1e6)
    ours.setsockopt(
        socket.SOL_SOCKET,
        socket.SO_RCVTIMEO,
        (micros // 1_000_000).to_bytes(8, "little") + (micros % 1_000_000).to_bytes(8, "little"),
    )

    def send() -> None:
        try:
            for part in parts:
                theirs.sendall(part)
                if pause_s:
                    time.sleep(pause_s)
            if close:
                theirs.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the reader has seen enough

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with ours, theirs:
        yield Reader(ours, patience_s)
        ours.shutdown(socket.SHUT_RDWR)
        sender.join(20)
        assert not sender.is_alive()


def read(*parts: bytes, close: bool = True) -> Answer:
    with reading(*parts, close=close) as reader:
        return reader.read()


def test_a_body_with_a_length_a_body_in_chunks_and_one_after_interim_answers_are_the_same() -> None:
    for data in (PLAIN, CHUNKED, INTERIM):
        got = read(data, close=False)
        assert (got.status, got.body, got.closes) == (200, BODY, False)


def test_answers_that_come_together_are_told_apart() -> None:
    with reading(b"".join(SOUND) * 2, close=False) as reader:
        got = [reader.read() for _ in range(2 * len(SOUND))]
    assert [one.body for one in got] == [BODY, BODY, BODY, b"", b""] * 2
    assert [one.status for one in got] == [200, 200, 200, 202, 204] * 2


@pytest.mark.parametrize("data", SOUND)
def test_an_answer_may_come_in_two_pieces_cut_anywhere(data: bytes) -> None:
    whole = read(data, close=False)
    for cut in range(1, len(data)):
        with reading(data[:cut], data[cut:], close=False) as reader:
            got = reader.read()
        assert (got.status, got.event, got.body) == (whole.status, whole.event, whole.body), cut


def test_an_answer_may_come_byte_by_byte() -> None:
    for data in SOUND:
        assert read(*(bytes((byte,)) for byte in data), close=False).status == read(data, close=False).status


@pytest.mark.parametrize("data", SOUND)
def test_an_answer_cut_short_anywhere_is_a_fault(data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(Gone if cut == 0 else Malformed):
            read(data[:cut])


EVENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: id-1\r\n"
    b"Lambda-Runtime-Deadline-Ms: 4102444800000\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda\r\n"
    b'Lambda-Runtime-Trace-Id: Root=1-a;Parent=b\r\nLambda-Runtime-Client-Context: {"custom": "\xc3\xa9"}\r\n'
    b"Lambda-Runtime-Cognito-Identity: {}\r\nLambda-Runtime-Aws-Tenant-Id: blue\r\n"
    b"Lambda-Runtime-Invocation-Id: inv-1\r\nDate: today\r\nContent-Length: 2\r\n\r\n{}"
)
FIELDS = (
    "id-1",
    "arn:aws:lambda",
    4102444800000,
    "Root=1-a;Parent=b",
    '{"custom": "é"}',
    "{}",
    "blue",
    "application/json",
    "inv-1",
)


def test_an_events_headers_are_told() -> None:
    assert read(EVENT).event == FIELDS
    assert read(b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id:x\r\nContent-Length:0\r\n\r\n").event == (
        *("x", "", 0, "", "", "", "", "", ""),
    )
    assert read(PLAIN).event is None


def test_names_of_headers_are_read_in_any_case_and_values_without_the_space_around() -> None:
    for name in (b"LAMBDA-RUNTIME-AWS-REQUEST-ID", b"lambda-runtime-aws-request-id", b"lAmBdA-Runtime-aws-request-Id"):
        got = read(b"HTTP/1.1 200 OK\r\nCONTENT-length:\t 2 \r\n%b: \t a:b \r\nEmpty:\r\n\r\n{}" % name)
        assert got.event is not None
        assert (got.event[0], got.body) == ("a:b", b"{}")


def test_of_two_headers_of_one_name_the_first_counts() -> None:
    twice = b"Lambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Aws-Request-Id: 2\r\n"
    got = read(b"HTTP/1.1 200 OK\r\n" + twice + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n")
    assert got.event is not None
    assert got.event[0] == "1"


def test_a_body_without_a_length_lasts_until_the_connection_ends() -> None:
    got = read(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"def")
    assert (got.body, got.closes) == (b"abcdef", True)


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 202 OK", False),
        (b"HTTP/1.0 202 OK", True),
        (b"HTTP/1.1 202 OK\r\nConnection: close", True),
        (b"HTTP/1.1 202 OK\r\nconnection: Keep-Alive, Close", True),
        (b"HTTP/1.1 202 OK\r\nConnection: keep-alive", False),
    ],
)
def test_it_is_seen_when_the_server_will_close_the_connection(head: bytes, closes: bool) -> None:
    assert read(head + b"\r\nContent-Length: 0\r\n\r\n", close=False).closes == closes


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\n{}",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    ],
)
def test_what_is_no_answer_is_a_fault_that_says_so(data: bytes) -> None:
    with pytest.raises(Malformed) as fault:
        read(data)
    assert len(str(fault.value)) > 10


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tracemalloc.start()
    with pytest.raises(Malformed, match="more than"):
        read(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
    with pytest.raises(Malformed, match="more than"):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"v" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"v" * 1000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"b" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"c" * 1024 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"e" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: " + b"t" * 1000 + b"\r\n"),
    ],
    ids=["headers", "one header", "body", "chunks", "chunk extension", "trailers"],
)
def test_an_answer_without_end_is_given_up(start: bytes, repeated: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "HEAD_LIMIT", 100_000)
    monkeypatch.setattr(answer, "BODY_LIMIT", 100_000)
    with pytest.raises(Malformed):
        read(start, *[repeated * 64] * 64)


@pytest.mark.parametrize("data", SOUND[:3])
def test_an_answer_that_stops_in_the_middle_is_given_up(data: bytes) -> None:
    for cut in (3, 20, data.index(b"\r\n\r\n") + 2, len(data) - 1):
        with (
            reading(data[:cut], close=False, patience_s=0.05) as reader,
            pytest.raises(Malformed, match=r"stopped in the middle|longer than"),
        ):
            reader.read()


def test_an_answer_that_trickles_is_given_up_though_it_never_stops() -> None:
    with (
        reading(*[b"HTTP/1.1 200 OK\r\n", *[b"X"] * 200], patience_s=0.2, pause_s=0.01, close=False) as reader,
        pytest.raises(Malformed, match="longer than"),
    ):
        reader.read()


def test_waiting_for_an_answer_has_no_limit() -> None:
    with reading(b"", PLAIN, close=False, patience_s=0.02, pause_s=0.3) as reader:
        assert reader.read().body == BODY


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Sound answers with a few bytes changed, taken out, or put in."""
    rng = random.Random(seed)
    odd = [
        b"\r\n",
        b"\0",
        b":",
        b"0",
        b"\xff",
        b" ",
        b"\t",
        b"chunked",
        b"HTTP/1.1 ",
        b"Connection: close\r\n",
        b"\x7f",
    ]
    for _ in range(count):
        data = bytearray(rng.choice([*SOUND, EVENT, EVENT, EVENT]))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randrange(1, 8)]
                case _:
                    data[at:at] = rng.choice(odd)
        yield bytes(data)


def test_garbage_never_gets_through_as_anything_but_a_fault_or_an_answer() -> None:
    for data in mutations(600, seed=3):
        try:
            got = read(data)
        except ClientFault:
            continue
        assert 200 <= got.status <= 999
        assert isinstance(got.body, bytes)


class Given:
    """A socket on which this came, and then the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data


def test_what_is_read_in_c_is_what_is_read_in_python() -> None:
    common = 0
    for data in (*SOUND, EVENT, *mutations(20_000, seed=4)):
        if parse_head(data) is None:
            continue
        common += 1
        reader = Reader(Given(data), 60)  # type: ignore[arg-type]
        try:
            fast = reader.read()
        except Malformed:
            fast = None
        try:
            slow = Reader(Given(b""), 60)._uncommon(data)  # type: ignore[arg-type]
        except Malformed:
            slow = None
        assert (fast is None) == (slow is None), data
        if fast is not None and slow is not None:
            for name in Answer.__slots__:
                assert getattr(fast, name) == getattr(slow, name), (name, data)
    assert common > 2_000


@pytest.mark.parametrize("data", [EVENT, PLAIN])
def test_the_head_is_read_in_c_only_once_it_is_whole(data: bytes) -> None:
    whole = data.index(b"\r\n\r\n") + 4
    for cut in range(len(data)):
        assert (parse_head(data[:cut]) is None) == (cut < whole)


def test_reading_heads_in_c_keeps_nothing() -> None:
    rare = EVENT.replace(b"Date: today", b"Connection: close")
    wrong = EVENT.replace(b"\xc3\xa9", b"\xff")
    for data in (EVENT, PLAIN, rare, wrong, EVENT[:50]):
        parse_head(data)
    before = sys.getallocatedblocks()
    for _ in range(5_000):
        for data in (EVENT, PLAIN, rare, wrong, EVENT[:50]):
            parse_head(data)
    assert sys.getallocatedblocks() - before < 500


def test_c_reads_bytes_only() -> None:
    with pytest.raises(TypeError, match="data must be bytes, not str"):
        parse_head("HTTP/1.1 200 OK\r\n\r\n")  # type: ignore[arg-type]

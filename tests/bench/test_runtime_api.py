"""The Runtime API server of the benchmarks: it serves, takes the time, and ends rather than believe a wrong answer."""

from __future__ import annotations

import json
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.runtime_api import PEER, RuntimeAPI, client, cpu_seconds, http_api_bodies, queue_bodies

from bench import events, peers

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def api() -> Iterator[RuntimeAPI]:
    with RuntimeAPI(http_api_bodies(3)) as server:
        yield server


class Client:
    """Speaks just as much HTTP as is needed to say wrong things. Closed with the test."""

    def __init__(self, api: RuntimeAPI) -> None:
        host, _, port = api.address.partition(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        api._stack.callback(self.socket.close)
        self.data = b""

    def answer(self) -> tuple[bytes, bytes]:
        while b"\r\n\r\n" not in self.data:
            self._more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        while len(self.data) < int(length[1]):
            self._more()
        body, self.data = self.data[: int(length[1])], self.data[int(length[1]) :]
        return head, body

    def event(self) -> tuple[str, dict[str, object]]:
        head, body = self.answer()
        found = re.search(rb"Lambda-Runtime-Aws-Request-Id: (\S+)", head)
        assert found is not None
        return found[1].decode(), json.loads(body)

    def _more(self) -> None:
        more = self.socket.recv(65_536)
        assert more, "the server hung up"
        self.data += more


def response(request_id: str, body: bytes) -> bytes:
    head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_thousand_bytes_and_sixty_thousand_and_no_two_alike() -> None:
    small, large = http_api_bodies(50), queue_bodies(5)
    assert len({body for _, body in small}) == 50
    assert all(900 < len(body) < 1_100 for _, body in small)
    assert all(55_000 < len(body) < 65_000 for _, body in large)
    assert all(marker in body for marker, body in small + large)
    assert events.queue_event(random.Random(1)) == events.queue_event(random.Random(1))


def test_it_hands_out_events_and_times_each_cycle(api: RuntimeAPI) -> None:
    one = Client(api)
    one.socket.sendall(NEXT)
    parked = api.parked(1)
    assert 0 <= time.monotonic_ns() - parked < 60e9
    api._say("serve 2")
    for _ in range(2):
        request_id, event = one.event()
        time.sleep(0.02)
        context = event["requestContext"]
        assert isinstance(context, dict)
        # Both requests in one send: answered one after the other.
        one.socket.sendall(response(request_id, context["requestId"].encode()) + NEXT)
        assert one.answer()[0].startswith(b"HTTP/1.1 202")
    total, *cycles = api._answer("served", 30)
    assert len(cycles) == 2
    assert all(cycle >= 20_000_000 for cycle in cycles)
    assert total >= sum(cycles)
    assert api.errors() == 0


def test_events_go_to_whoever_waits_longest(api: RuntimeAPI) -> None:
    clients = [Client(api) for _ in range(3)]
    for number, one in enumerate(clients, 1):
        one.socket.sendall(NEXT)
        api.parked(number)
    api._say("serve 2")
    first, second = clients[0].event()[0], clients[1].event()[0]
    assert first != second
    clients[2].socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[2].socket.recv(1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda request_id: response(request_id, b"nothing of it"), "does not hold its event's marker"),
        (lambda _: response("0" * 36, b"x"), "which this connection was not given"),
        (lambda _: NEXT, "had not answered the last"),
        (lambda _: b"GET /elsewhere HTTP/1.1\r\n\r\n", "an unknown request"),
        (lambda _: b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "does not know"),
        (lambda _: b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 3\r\n\r\nwhy", "init failed: why"),
    ],
)
def test_a_client_that_does_less_than_it_should_ends_the_run(api: RuntimeAPI, wrong: object, words: str) -> None:
    assert callable(wrong)
    one = Client(api)
    one.socket.sendall(NEXT)
    api.parked(1)
    api._say("serve 1")
    one.socket.sendall(wrong(one.event()[0]))
    until = time.monotonic() + 30
    with pytest.raises(peers.PeerFault, match=words):
        while time.monotonic() < until:  # it may read the command first
            api.errors()


def test_a_server_that_has_nothing_to_say_is_waited_for_no_longer_than_told(api: RuntimeAPI) -> None:
    with pytest.raises(peers.PeerFault, match=re.escape("silent for 0.05 s")):
        api.parked(1, seconds=0.05)


def test_awslambdaric_runs_against_it_and_its_cpu_time_is_counted(api: RuntimeAPI) -> None:
    pytest.importorskip("awslambdaric", reason="the peer is not installed")
    with client(PEER, "trivial.handler", api.address) as process:
        api.parked(1)
        assert len(api.serve(20)[1]) == 20
        assert cpu_seconds(process.pid) > 0
        assert api.errors() == 0


def test_what_a_client_wrote_is_in_the_fault(api: RuntimeAPI) -> None:
    with (
        pytest.raises(peers.PeerFault) as fault,
        client("lamplighter.bootstrap", "nowhere.handler", api.address),
    ):
        api.parked(1)
    assert "init failed" in str(fault.value)
    assert any("lamplighter.bootstrap wrote:" in note for note in fault.value.__notes__)

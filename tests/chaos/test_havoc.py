"""Everything goes wrong at once: workers, templates and hosts are killed and stopped, run out of memory and of time,
and fill their disks. The short form of ``make chaos``.

As many invocations as ``LAMPLIGHTER_CHAOS_INVOCATIONS`` says, as in :mod:`tests.chaos.test_killed_workers`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from tests.chaos.test_killed_workers import invocations
from tests.host.serving import needs, needs_root

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.client import Connection
from bench.events import http_api_event, prepared

from bench import havoc, peers  # the harness lives beside the package, not in it

pytestmark = [needs_root, needs("memory", "cpu", "pids"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def outcome() -> havoc.Outcome:
    return havoc.run(invocations())


def test_each_accepted_request_gets_one_answer_of_its_own_or_loses_its_connection_with_the_host(
    outcome: havoc.Outcome,
) -> None:
    assert outcome.wrong == []
    assert outcome.answers.total() + outcome.closed == outcome.sent
    assert outcome.closed <= havoc.CLIENTS * (len(outcome.pids) - 1)


def test_only_an_environment_that_filled_its_own_disk_finds_it_full() -> None:
    rng = random.Random(5)
    with (
        peers.lamplighter(havoc.HANDLER, "--concurrency", "1", timeout=60) as server,
        Connection(server.address, 60) as connection,
    ):

        def ask(deed: str) -> str:
            request = prepared({**http_api_event(rng), "deed": deed})
            return havoc.verdict(connection.exchange(request.wire), request)

        assert (ask("hold"), ask("disk"), ask("hold"), ask("")) == ("result", "result", "disk full", "result")
        assert (ask("exit"), ask("hold")) == ("killed", "result")


def test_it_really_went_wrong(outcome: havoc.Outcome) -> None:
    assert outcome.strikes["hosts killed"] == 2
    assert outcome.strikes["workers killed"] >= 3
    assert outcome.answers["result"] > outcome.sent // 2
    assert len(outcome.answers) >= 3, outcome.answers


def test_the_host_that_lived_through_it_owns_what_it_owned_before(outcome: havoc.Outcome) -> None:
    assert outcome.grown == {}
    assert outcome.memory_grown <= havoc.MEMORY_GROWTH


def test_no_cgroup_mount_loop_device_or_image_is_left_of_any_host(outcome: havoc.Outcome) -> None:
    assert outcome.left == {}

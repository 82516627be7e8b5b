"""Workers are killed at random while invocations run: each is answered exactly once, and nothing stays behind.

``LAMPLIGHTER_CHAOS_INVOCATIONS`` says how many invocations (2,000 if unset; continuous integration sets 20,000).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import chaos  # the harness lives beside the package, not in it

VARIABLE = "LAMPLIGHTER_CHAOS_INVOCATIONS"


def invocations() -> int:
    text = os.environ.get(VARIABLE, "2000")
    if not text.isdigit() or int(text) < 100:
        raise ValueError(f"{VARIABLE} must be a whole number of at least 100, got {text!r}")
    return int(text)


@pytest.fixture(scope="module")
def outcome() -> chaos.Outcome:
    return chaos.run(invocations())


pytestmark = pytest.mark.timeout(900)


def test_every_invocation_gets_exactly_one_answer_while_workers_are_killed(outcome: chaos.Outcome) -> None:
    assert outcome.wrong == []
    assert outcome.invocations == invocations()
    assert outcome.answers.total() == invocations()


def test_workers_were_really_killed_in_the_middle_of_invocations(outcome: chaos.Outcome) -> None:
    assert outcome.kills >= 10
    assert outcome.answers["killed"] >= 1
    assert outcome.answers["result"] >= 1


def test_no_more_invocations_fail_than_workers_were_killed(outcome: chaos.Outcome) -> None:
    assert outcome.killed <= outcome.kills


def test_no_process_cgroup_mount_descriptor_or_directory_is_left_of_a_killed_worker(outcome: chaos.Outcome) -> None:
    assert outcome.grown == {}, f"before {outcome.before}, after {outcome.after}"
    assert outcome.orphans == set()
    assert outcome.surplus <= chaos.CLIENTS


def test_the_host_ends_with_status_0_and_leaves_nothing(outcome: chaos.Outcome) -> None:
    assert outcome.exit_status == 0
    assert outcome.left_after_exit == {}

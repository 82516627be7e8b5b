"""What the breaking suite shares: an attacker, a neighbour of another function, and an eye on that neighbour."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.host.serving import RUNS, Answer, Serving, serving_many

PATIENCE_S = 5.0
"""What a neighbour's invocation may take while a function misbehaves, on a machine of two cores that has other work."""


class Neighbour:
    """Invokes another function again and again while a block runs; every answer must be its own, and in time."""

    def __init__(self, host: Serving) -> None:
        self._host = host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="neighbour", daemon=True)
        self.took: list[float] = []
        self.wrong: list[str] = []

    def _run(self) -> None:
        number = 0
        while number == 0 or not self._stop.wait(0.02):
            number += 1
            began = time.monotonic()
            try:
                answer = self._host.run("result = event['number']", function="neighbour", number=number)
                if answer.status != 200 or answer.body != str(number).encode():
                    self.wrong.append(f"{answer.status} {answer.body[:200]!r}")
            except OSError as fault:
                self.wrong.append(repr(fault))
            self.took.append(time.monotonic() - began)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the neighbour was never answered"
        if raised[0] is None:
            assert self.wrong == []
            assert self.took, "the neighbour was never invoked"
            assert max(self.took) < PATIENCE_S, (
                f"median {statistics.median(self.took):.3f} s, max {max(self.took):.3f} s"
            )


class Attack:
    """One function to attack with, of few resources, beside a neighbour."""

    def __init__(self, host: Serving) -> None:
        self.host = host

    def run(self, code: str, function: str = "attacker", **event: Any) -> Answer:
        """Run code in the attacker's handler while the neighbour is watched."""
        with Neighbour(self.host):
            return self.host.run(code, function=function, **event)

    def afresh(self, function: str = "attacker") -> None:
        """Have the environment that would be next replaced."""
        assert self.host.run("import os; os._exit(0)", function=function).verdict == ("error", "Runtime.ExitError")

    def serves_again(self, function: str = "attacker") -> None:
        """Whatever became of the environment: the next invocation has a sound one."""
        assert self.host.run("result = 'next'", function=function).value == "next"


FUNCTIONS: dict[str, dict[str, object]] = {
    "attacker": {"source": RUNS, "memory_mb": 256, "timeout_s": 20, "concurrency": 2, "parked": 1},
    "late": {"source": RUNS, "memory_mb": 256, "timeout_s": 1, "concurrency": 2, "parked": 1},
    "neighbour": {"source": RUNS, "memory_mb": 512, "timeout_s": 20},
}


@pytest.fixture(scope="package")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    with serving_many(tmp_path_factory.mktemp("breaking"), FUNCTIONS) as host:
        yield Attack(host)

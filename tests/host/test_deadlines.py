"""One timer for many deadlines: each comes due once, none early, and a fault of one is not the others' affair."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lamplighter.host.deadlines import Deadlines


class Bounded:
    def __init__(self, deadlines: Deadlines, name: str = "", then: Callable[[], None] | None = None) -> None:
        self.deadlines = deadlines
        self.name = name
        self.then = then
        self.deadline = 0.0
        self.due = 0.0
        self.expired = asyncio.Event()
        self.times: list[float] = []

    def within(self, seconds: float) -> Bounded:
        """Set a deadline as an environment does: the watch is told only of one that is earlier than what it has."""
        self.deadline = time.monotonic() + seconds
        if self.due == 0.0 or self.deadline < self.due:
            self.deadlines.watch(self)
        return self

    def expire(self) -> None:
        self.times.append(time.monotonic())
        assert self.times[-1] >= self.deadline > 0, "early, or without a deadline"
        self.deadline = 0.0
        self.expired.set()
        if self.then is not None:
            self.then()


def _run(body: Callable[[Deadlines], Awaitable[None]]) -> list[dict[str, Any]]:
    """Run ``body``; what the loop's exception handler was given."""
    problems: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        deadlines = Deadlines(loop)
        await asyncio.wait_for(body(deadlines), 30)
        deadlines.close()

    asyncio.run(main())
    return problems


def test_deadlines_come_due_in_their_order_not_in_that_of_their_setting() -> None:
    order: list[str] = []

    async def body(deadlines: Deadlines) -> None:
        made = []
        for name, seconds in (("late", 0.12), ("early", 0.02), ("middle", 0.07)):
            one = Bounded(deadlines, name)
            one.then = lambda name=name: order.append(name)
            made.append(one.within(seconds))
        for one in made:
            await one.expired.wait()

    assert _run(body) == []
    assert order == ["early", "middle", "late"]


def test_a_deadline_that_is_moved_back_comes_due_once_at_its_new_time() -> None:
    async def body(deadlines: Deadlines) -> None:
        one = Bounded(deadlines).within(0.02)
        for _ in range(5):
            await asyncio.sleep(0.01)
            one.within(0.05)
        await one.expired.wait()
        await asyncio.sleep(0.1)
        assert len(one.times) == 1

    assert _run(body) == []


def test_a_deadline_that_is_moved_forward_comes_due_once_at_its_new_time() -> None:
    async def body(deadlines: Deadlines) -> None:
        began = time.monotonic()
        one = Bounded(deadlines).within(20.0)
        one.within(0.02)
        await one.expired.wait()
        assert one.times[0] - began < 10
        await asyncio.sleep(0.05)
        assert len(one.times) == 1

    assert _run(body) == []


def test_a_deadline_that_is_lifted_does_not_come_due_and_one_set_later_does() -> None:
    async def body(deadlines: Deadlines) -> None:
        one, other = Bounded(deadlines).within(0.01), Bounded(deadlines).within(0.05)
        one.deadline = 0.0
        await other.expired.wait()
        assert not one.times
        one.within(0.01)
        await one.expired.wait()

    assert _run(body) == []


def test_many_invocations_of_one_environment_leave_one_entry() -> None:
    async def body(deadlines: Deadlines) -> None:
        one = Bounded(deadlines)
        for _ in range(10_000):
            one.within(20.0)
            one.deadline = 0.0
        assert len(deadlines._heap) == 1

    assert _run(body) == []


def test_a_deadline_may_be_set_while_another_or_the_same_comes_due() -> None:
    async def body(deadlines: Deadlines) -> None:
        done = asyncio.Event()
        second = Bounded(deadlines, then=done.set)
        first = Bounded(deadlines)

        def on_first() -> None:
            if len(first.times) < 3:
                first.within(0.01)
            else:
                second.within(0.01)

        first.then = on_first
        first.within(0.01)
        await done.wait()
        assert (len(first.times), len(second.times)) == (3, 1)

    assert _run(body) == []


def test_a_fault_of_one_does_not_keep_the_others_from_coming_due() -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    async def body(deadlines: Deadlines) -> None:
        Bounded(deadlines, then=fail).within(0.01)
        others = [Bounded(deadlines).within(0.01 + 0.01 * number) for number in range(3)]
        for one in others:
            await one.expired.wait()

    (problem,) = _run(body)
    assert str(problem["exception"]) == "broken"


def test_nothing_comes_due_once_it_is_closed() -> None:
    async def body(deadlines: Deadlines) -> None:
        one = Bounded(deadlines).within(0.01)
        deadlines.close()
        await asyncio.sleep(0.05)
        assert not one.times

    assert _run(body) == []

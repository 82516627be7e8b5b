"""Recovery: many invocations while workers are killed at random, each answered exactly once, nothing left behind.

The same run as ``tests/chaos``, long enough for a bar. ``LAMPLIGHTER_CHAOS_INVOCATIONS`` changes its length.
"""

from __future__ import annotations

import os
import time

from bench import bars, chaos

INVOCATIONS = int(os.environ.get("LAMPLIGHTER_CHAOS_INVOCATIONS", "20000"))


def test_invocations_under_fire_are_all_answered_once_and_leave_nothing(table: list[bars.Row]) -> None:
    start = time.perf_counter()
    outcome = chaos.run(INVOCATIONS)
    took = time.perf_counter() - start
    missing = INVOCATIONS - outcome.answers.total()
    once = not outcome.wrong and not missing
    clean = not (outcome.grown or outcome.orphans or outcome.left_after_exit)
    facts: dict[str, object] = {
        "answers": dict(outcome.answers),
        "wrong": outcome.wrong[:20],
        "surplus_parked": outcome.surplus,
        "before": outcome.before,
        "after": outcome.after,
        "grown": outcome.grown,
        "left_after_exit": outcome.left_after_exit,
        "seconds": round(took, 1),
    }
    answered = f"{outcome.answers['result']} results, {outcome.killed} told of a kill, {missing} missing"
    claim = f"{INVOCATIONS} invocations, {outcome.kills} kills: "
    left = ", ".join(f"{kind} +{outcome.after[kind] - outcome.before[kind]}" for kind in outcome.grown)
    left = left or ", ".join(outcome.left_after_exit) or ("nothing" if clean else "orphaned processes")
    table += [
        bars.Row("6a", claim + "one answer each", answered, bar="0 missing, 0 wrong", reached=once, facts=facts),
        bars.Row("6b", claim + "left behind", left, bar="nothing", reached=clean, facts=facts),
    ]
    assert outcome.kills >= 10, "too few kills to claim anything"
    assert outcome.answers["killed"] >= 1, "no kill met an invocation"

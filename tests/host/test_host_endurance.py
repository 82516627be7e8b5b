"""Hundreds of invocations with failures of every kind mixed in: one answer each, its own, and nothing leaks."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.host.serving import RUNS, Answer, serving, wait_for

CLIENTS = 4
INVOCATIONS = 300
FINE = "result = event['token']"
GARBAGE = """
import os, time
for name in os.listdir("/proc/self/fd"):
    try:
        if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
            os.write(int(name), b"rubbish")
    except OSError:
        pass
time.sleep(9)
"""
KINDS: dict[str, tuple[str, str]] = {
    "fine": (FINE, ""),
    "printing": ("print('x' * 5000)\n" + FINE, ""),
    "large": (FINE, ""),
    "raises": ("raise ValueError(event['token'])", "ValueError"),
    "exits": ("import sys; sys.exit(3)", "Runtime.ExitError"),
    "vanishes": ("import os; os._exit(0)", "Runtime.ExitError"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "Runtime.ExitError"),
    "aborts": ("import os; os.abort()", "Runtime.ExitError"),
    "set": ("result = {1}", "Runtime.MarshalError"),
    "huge": ("result = 'z' * 6_300_000", "Function.ResponseSizeTooLarge"),
    "orphans": ("import subprocess; subprocess.Popen(['sleep', '99'], start_new_session=True)\n" + FINE, ""),
    "garbage": (GARBAGE, "Sandbox.Failure"),
    "slow": ("import time; time.sleep(9)", "Sandbox.Timedout"),
}
WEIGHTS = {"fine": 120, "printing": 30, "large": 20, "slow": 4}


def test_300_mixed_invocations_get_one_answer_each_and_leak_nothing(tmp_path: Path) -> None:
    chance = random.Random(20_261_122)
    kinds = [kind for kind in KINDS for _ in range(WEIGHTS.get(kind, 14))][:INVOCATIONS]
    chance.shuffle(kinds)
    assert len(kinds) == INVOCATIONS
    options = ("--memory", "1769", "--timeout", "1", "--parked", "2", "--idle-timeout", "0.3", "--concurrency", "8")
    with serving(tmp_path, RUNS, *options) as host:

        def at_rest() -> bool:
            facts = host.facts()
            return (facts["parked"], facts["idle"], facts["busy"], facts["starting"]) == (2, 0, 0, 0)

        for _ in range(3):
            host.run("result = 1")  # what the host opens once is open now
        wait_for(at_rest, "the pool at rest")
        descriptors, members, cgroups = host.descriptors(), len(host.tree()), directories(host.cgroups())

        def invoke(number: int) -> tuple[int, Answer]:
            token = f"token-{number}"
            extra = {"pad": "p" * 150_000} if kinds[number] == "large" else {}
            return number, host.run(KINDS[kinds[number]][0], token=token, **extra)

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = dict(pool.map(invoke, range(INVOCATIONS)))

        wrong = []
        for number, answer in answers.items():
            kind, expected = kinds[number], KINDS[kinds[number]][1]
            body = json.loads(answer.body)
            right = body == f"token-{number}" if not expected else body.get("errorType") == expected
            if answer.status != 200 or not right:
                wrong.append((kind, answer.status, answer.body[:200]))
        assert wrong == []
        assert len({answer.request_id for answer in answers.values()}) == INVOCATIONS

        def lines() -> Counter[str]:
            assert host.output is not None
            text = host.output.text
            return Counter(line.split(" ", 1)[0] for line in text.splitlines() if "RequestId: " in line)

        every = INVOCATIONS + 3
        wait_for(lambda: lines()["REPORT"] >= every, lambda: f"a REPORT for each of {every}: {lines()}")
        assert (lines()["START"], lines()["END"], lines()["REPORT"]) == (every, every, every)

        wait_for(at_rest, "the pool at rest again")
        wait_for(lambda: host.descriptors() <= descriptors, lambda: f"{host.descriptors()} > {descriptors} descriptors")
        wait_for(lambda: len(host.tree()) <= members, lambda: f"{len(host.tree())} > {members} processes")
        wait_for(lambda: directories(host.cgroups()) <= cgroups, "the cgroups of dead environments to go")


def directories(roots: list[str]) -> int:
    return sum(len(names) for root in roots for _, names, _ in os.walk(root))  # which does not mind one that goes

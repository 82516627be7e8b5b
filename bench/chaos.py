"""Invocations while workers are killed at random: every one must get exactly one answer, and nothing may stay behind.

The killer knows little of the host's inside. The processes that are there when the host is ready, less the youngest
(the parked workers), are the host's own: the host itself, templates, keepers. So is what lies in a nest beside a
template: one that fails too many forks, its workers being killed as they are born, is replaced. Whatever else appears
in the host's tree belongs to a worker's environment and may be killed at any time, in any state: being born, parked,
busy, idle, being buried. (:mod:`bench.havoc` kills templates too.)
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers, processes, residue
from bench.client import Address, Answer, BadAnswer, Connection
from bench.events import Prepared, http_api_event, prepared, prepared_requests
from bench.processes import Process

CLIENTS = 8
PARKED = 2
IDLE_TIMEOUT = 2
"""Seconds after which idle environments end, so that the pool comes back to its parked workers."""
HANDLER = "busy.handler"
_STRIKE_EVERY = (0.001, 0.01)
"""Seconds between two strikes, drawn evenly from this range, beside the time it takes to read the process tree."""
_QUIET = 3.0
"""Seconds without a change after which the host is at rest: longer than the idle timeout."""
_VICTIMS = 3
"""Most processes killed in one strike, so that workers also die together."""


@dataclass
class Outcome:
    """What happened. ``answers`` counts results by kind; ``wrong`` holds every breach, in words.

    ``surplus`` is how many workers more than asked for were parked when the fire had ended.
    """

    invocations: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    grown: dict[str, list[str]] = field(default_factory=dict)
    orphans: set[Process] = field(default_factory=set)
    left_after_exit: dict[str, list[str]] = field(default_factory=dict)
    exit_status: int | None = None
    surplus: int = 0
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    @property
    def killed(self) -> int:
        """Invocations that were answered with the news of a kill."""
        return sum(count for kind, count in self.answers.items() if kind != "result")


def verdict(answer: Answer, request: Prepared) -> str:
    """``result`` for the request's own result, ``killed`` for a function error that tells of a dead runtime, and
    ``killed at launch`` for one that tells of an environment that died before it had the event.

    Raises :class:`BadAnswer` for everything else: another request's result, a server error, a throttle.
    """
    if answer.status != 200:
        raise BadAnswer(f"{request.marker.decode()} got status {answer.status}: {answer.body[:200]!r}")
    if b"x-amz-function-error" not in answer.headers:
        result = json.loads(answer.body)
        if not isinstance(result, dict) or result.get("body") != request.marker.decode():
            raise BadAnswer(f"{request.marker.decode()} got another result: {answer.body[:200]!r}")
        return "result"
    fault = json.loads(answer.body)
    if fault.get("errorType") == "Sandbox.Failure":
        return "killed at launch"
    if fault.get("errorType") != "Runtime.ExitError":
        raise BadAnswer(f"{request.marker.decode()} got an error that no kill explains: {answer.body[:200]!r}")
    return "killed"


class _Killer(threading.Thread):
    """Kills random processes of workers' environments again and again, and remembers all it ever saw."""

    def __init__(self, host: int, staff: set[Process], seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.host = host
        self.staff = staff
        self.rng = random.Random(seed)
        self.kills = 0
        self.seen: set[Process] = set()
        self.fault: Exception | None = None
        self._stop_asked = threading.Event()

    def run(self) -> None:
        try:
            while not self._stop_asked.wait(self.rng.uniform(*_STRIKE_EVERY)):
                prey = processes.tree(self.host) - self.staff
                self.seen |= prey
                for victim in self.rng.sample(sorted(prey), min(len(prey), self.rng.randint(1, _VICTIMS))):
                    if processes.depth(victim.pid) != processes.IN_NEST:
                        self.kills += processes.kill(victim)
        except Exception as fault:
            self.fault = fault

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(10)
        if self.fault is not None:
            raise self.fault


def invoke_all(address: Address, requests: list[Prepared], outcome: Outcome, clients: int = CLIENTS) -> None:
    """Send every request once, from ``clients`` keep-alive connections, and book each answer in ``outcome``.

    A broken or silent connection is a breach: no request is ever sent twice to cover one up.
    """
    lock = threading.Lock()
    waiting = iter(requests)

    def client() -> None:
        with Connection(address, 60) as connection:
            while True:
                with lock:
                    request = next(waiting, None)
                if request is None:
                    break
                try:
                    kind = verdict(connection.exchange(request.wire), request)
                except (BadAnswer, OSError, ValueError) as fault:
                    with lock:
                        outcome.wrong.append(f"{type(fault).__name__}: {fault}")
                    return
                with lock:
                    outcome.answers[kind] += 1
            if not connection.silent():
                with lock:
                    outcome.wrong.append("bytes came on a connection without an open request")

    threads = [threading.Thread(target=client, name=f"client-{n}", daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.invocations += len(requests)


def prime(address: Address) -> None:
    """Fill the pool to its concurrency once, so that what a host makes once and keeps is there before the snapshot.

    Each invocation holds its environment for half a second: quick ones would share a few, and leave the rest unmade.
    """
    ready = threading.Barrier(CLIENTS)
    faults: list[Exception] = []

    def client(request: Prepared) -> None:
        try:
            with Connection(address) as connection:
                ready.wait(30)
                if verdict(connection.exchange(request.wire), request) != "result":
                    raise BadAnswer("a worker died before anything was killed")
        except Exception as fault:
            faults.append(fault)

    rng = random.Random(5)
    requests = [prepared({**http_api_event(rng), "hold": 0.5}) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client, args=(request,), daemon=True) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def youngest(members: set[Process], count: int) -> set[Process]:
    """The ``count`` processes started last; of two that started in the same tick, the higher pid counts as younger."""
    ordered = sorted(members, key=lambda process: (process.started, process.pid))
    return set(ordered[len(ordered) - count :]) if count else set()


def pool_at_rest(server: peers.Server, seconds: float) -> int:
    """Wait until the pool holds its parked workers and nothing else; how many it had parked beyond them.

    A launch on demand whose invocation was meanwhile served by another worker may end up parked. Such a surplus is used
    up by an invocation each, after which it is idle and ends of itself. A template that was killed while it was being
    made is made anew for the next invocation, and not before.
    """
    deadline = time.monotonic() + seconds
    surplus = 0
    spare = prepared_requests(seed=6)
    with Connection(server.address) as connection:
        while True:
            ready, facts = peers.readiness(connection)
            parked = facts.get("parked", 0)
            if ready and parked == PARKED and not (facts.get("idle") or facts.get("starting") or facts.get("busy")):
                return surplus
            if time.monotonic() > deadline:
                raise peers.PeerFault(f"the pool did not come to rest within {seconds:g} s: {facts}:\n{server.tail()}")
            server.require_running("its pool was at rest")
            if parked > PARKED and not facts.get("idle"):
                surplus = max(surplus, parked - PARKED)
                connection.invoke(next(spare))
            elif facts.get("template") == "failed":
                connection.invoke(next(spare))
            time.sleep(0.05)


def run(invocations: int, seed: int = 1) -> Outcome:
    """Start a host, invoke ``invocations`` times under fire, let it settle, stop it; all that was seen.

    ``before`` and ``after`` count what the host owns when it was ready and when its pool had settled.
    """
    outcome = Outcome()
    options = ["--parked", str(PARKED), "--concurrency", str(CLIENTS), "--queue", "64"]
    options += ["--idle-timeout", str(IDLE_TIMEOUT)]
    cgroups_before = residue.named_cgroups()
    with tempfile.TemporaryDirectory(prefix="bench-chaos-") as directory:
        temporary = Path(directory)
        temporary.chmod(0o711)
        with peers.lamplighter(HANDLER, *options, environment={"TMPDIR": directory}) as server:
            peers.wait_ready(server, 60, parked=PARKED)
            staff = processes.tree(server.pid)
            staff -= youngest(staff, PARKED)
            prime(server.address)
            pool_at_rest(server, IDLE_TIMEOUT + 30)
            roots = residue.cgroup_roots(server.pid)
            before = residue.at_rest(lambda: residue.look(server.pid, temporary, roots), _QUIET, 30)
            outcome.before = before.counts()

            killer = _Killer(server.pid, staff, seed)
            killer.start()
            try:
                requests = list(itertools.islice(prepared_requests(seed), invocations))
                invoke_all(server.address, requests, outcome)
            finally:
                killer.finish()
            outcome.kills = killer.kills

            outcome.surplus = pool_at_rest(server, IDLE_TIMEOUT + 60)
            after, outcome.grown = residue.settled(
                before, lambda: residue.look(server.pid, temporary, roots), IDLE_TIMEOUT + 15
            )
            outcome.after = after.counts()
            outcome.orphans = {process for process in killer.seen - after.members if processes.alive(process)}
            everyone = after.members | killer.seen
            outcome.exit_status = processes.end(server.process, 20)
        left = {
            "processes": sorted(str(process) for process in everyone if processes.alive(process)),
            "cgroups": sorted(name for name in (roots - cgroups_before) | after.cgroups if Path(name).is_dir()),
            "directories": sorted(str(path) for path in temporary.rglob("*")),
            "named": sorted(residue.named_directories(server.pid)),
        }
        outcome.left_after_exit = {kind: names for kind, names in left.items() if names}
    return outcome

"""Invocations while everything goes wrong: workers, templates and the host are killed and stopped, run out of memory
and of time, and fill their disks.

Each accepted request gets exactly one answer, its own, or sees its connection closed where the host itself was killed.
At the end nothing is left that was not there before the first host: no process, cgroup, mount, loop device, directory;
and a host that lived through it all holds no more descriptors and hardly more memory than when it was ready.

    python -m bench.havoc --invocations 20000
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers, processes, residue
from bench.client import Address, Answer, BadAnswer, Connection
from bench.events import Prepared, http_api_event, prepared
from bench.processes import Process

CLIENTS = 6
PARKED = 2
IDLE_TIMEOUT = 2
TIMEOUT_S = 2
MEMORY_MB = 442
HANDLER = "havoc.handler"
DEEDS = {"": 800, "hold": 150, "raise": 20, "exit": 8, "children": 8, "memory": 8, "late": 5, "disk": 5}
"""How often an event asks for what, in thousandths or so."""
EXPLAINED = {
    "Runtime.ExitError": "killed",
    "Runtime.OutOfMemory": "out of memory",
    "Sandbox.Timedout": "timed out",
    "Sandbox.Failure": "killed at launch",
    "RuntimeError": "raised",
    "DiskFull": "disk full",
}
SPOKEN = {"RuntimeError", "DiskFull"}
"""Errors that the handler raises itself, each with the id of its request as its message."""
MEMORY_GROWTH = 24 * 1_048_576
"""Bytes that a host's resident set may have grown by at the end: allocators keep some of what a burst took."""
_STRIKE_EVERY = (0.05, 0.3)
_STOPPED_S = 0.3


@dataclass
class Outcome:
    """What happened; ``wrong`` holds every breach, in words."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    """Requests whose connection was closed by the death of the host."""
    wrong: list[str] = field(default_factory=list)
    strikes: Counter[str] = field(default_factory=Counter)
    pids: list[int] = field(default_factory=list)
    """Of the hosts there were."""
    grown: dict[str, list[str]] = field(default_factory=dict)
    memory_grown: int = 0
    left: dict[str, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not (self.wrong or self.grown or self.left) and self.memory_grown <= MEMORY_GROWTH


def requests_of(seed: int) -> Iterator[Prepared]:
    """Endless requests, each with a deed."""
    rng = random.Random(seed)
    deeds, weights = list(DEEDS), list(DEEDS.values())
    while True:
        yield prepared({**http_api_event(rng), "deed": rng.choices(deeds, weights)[0]})


def verdict(answer: Answer, request: Prepared) -> str:
    """What kind of answer it is; raises :class:`BadAnswer` for another request's, or one that nothing explains."""
    marker = request.marker.decode()
    if answer.status != 200:
        raise BadAnswer(f"{marker} got status {answer.status}: {answer.body[:200]!r}")
    said = json.loads(answer.body)
    if b"x-amz-function-error" not in answer.headers:
        if not isinstance(said, dict) or said.get("body") != marker:
            raise BadAnswer(f"{marker} got another result: {answer.body[:200]!r}")
        return "result"
    kind = said.get("errorType", "")
    if kind in SPOKEN and said.get("errorMessage") != marker:
        raise BadAnswer(f"{marker} got another's exception: {answer.body[:200]!r}")
    if kind not in EXPLAINED:
        raise BadAnswer(f"{marker} got an error that nothing explains: {answer.body[:200]!r}")
    return EXPLAINED[kind]


class Vandal(threading.Thread):
    """Kills and stops processes of one host: workers, keepers, what they started, and now and then a template."""

    def __init__(self, host: int, seed: int, strikes: Counter[str]) -> None:
        super().__init__(name="vandal", daemon=True)
        self._host = host
        self._rng = random.Random(seed)
        self._strikes = strikes
        self._done = threading.Event()
        self.seen: set[Process] = set()
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            while not self._done.wait(self._rng.uniform(*_STRIKE_EVERY)):
                prey = {process for process in processes.tree(self._host) if process.pid != self._host}
                self.seen |= prey
                if prey:
                    self._strike(self._rng.choice(sorted(prey)))
        except Exception as fault:
            self.fault = fault

    def _strike(self, victim: Process) -> None:
        depth = processes.depth(victim.pid)
        kind = {processes.IN_NEST: "templates", processes.IN_WORKER: "workers"}.get(depth, "others")
        if depth == processes.IN_NEST and self._rng.random() > 0.05:
            return  # with its template a function loses half a second
        if self._rng.random() < 0.85:
            self._strikes[f"{kind} killed"] += processes.kill(victim)
            return
        try:
            fd = os.pidfd_open(victim.pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(fd, signal.SIGSTOP)
            self._strikes[f"{kind} stopped"] += 1
            if depth == processes.IN_NEST:
                # One that never moved again would be given up after ten seconds; this one comes back.
                self._done.wait(_STOPPED_S)
                signal.pidfd_send_signal(fd, signal.SIGCONT)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def finish(self) -> None:
        self._done.set()
        self.join(10)
        if self.fault is not None:
            raise self.fault


class Clients:
    """Several clients that send each request once; ``fallible`` ones may see their connection closed by a dead host."""

    def __init__(self, address: Address, requests: list[Prepared], outcome: Outcome, *, fallible: bool) -> None:
        self._address, self._outcome, self._fallible = address, outcome, fallible
        self._waiting = iter(requests)
        self._lock = threading.Lock()
        self.host_dead = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"client-{n}", daemon=True) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(600)
            if thread.is_alive():
                self._outcome.wrong.append(f"{thread.name} still waits for an answer")

    def _run(self) -> None:
        while True:
            with self._lock:
                request = next(self._waiting, None)
                if request is None or self.host_dead.is_set():
                    return
                self._outcome.sent += 1
            try:
                with Connection(self._address, 60) as connection:
                    kind = verdict(connection.exchange(request.wire), request)
                    silent = connection.silent()
            except (BadAnswer, OSError, ValueError) as fault:
                closed = "the connection ended" in str(fault) or isinstance(fault, ConnectionError)
                if not (self._fallible and closed):
                    self._note(wrong=f"{type(fault).__name__}: {fault}")
                    continue
                self._note(closed=True)
                return  # the host is dead: this client has nobody to talk to
            self._note(kind=kind, wrong="" if silent else "bytes came without an open request")

    def _note(self, *, kind: str = "", wrong: str = "", closed: bool = False) -> None:
        with self._lock:
            if kind:
                self._outcome.answers[kind] += 1
            if wrong:
                self._outcome.wrong.append(wrong)
            self._outcome.closed += closed


@contextlib.contextmanager
def _host(directory: Path) -> Iterator[peers.Server]:
    options = ["--parked", str(PARKED), "--concurrency", str(CLIENTS), "--queue", "64"]
    options += ["--idle-timeout", str(IDLE_TIMEOUT), "--tmp-store", str(directory / "store")]
    environment = {"TMPDIR": str(directory)}
    with peers.lamplighter(HANDLER, *options, memory=MEMORY_MB, timeout=TIMEOUT_S, environment=environment) as server:
        peers.wait_ready(server, 60, parked=PARKED)
        yield server


def _kill_a_host(directory: Path, requests: list[Prepared], outcome: Outcome, seed: int) -> None:
    """A host that is killed in the middle of it all, at half of its requests."""
    with _host(directory) as server:
        outcome.pids.append(server.pid)
        vandal = Vandal(server.pid, seed, outcome.strikes)
        before = outcome.sent
        clients = Clients(server.address, requests, outcome, fallible=True)
        vandal.start()
        clients.start()
        deadline = time.monotonic() + 300
        while outcome.sent - before < len(requests) // 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        staff = processes.tree(server.pid)
        server.process.kill()
        server.process.wait(10)
        outcome.strikes["hosts killed"] += 1
        clients.host_dead.set()
        clients.wait()
        vandal.finish()
        outcome.wrong += [f"{one} outlived its host" for one in processes.wait_gone(staff | vandal.seen, 10)]
    left = loops(directory / "store", 10)
    outcome.wrong += [f"{device} outlived its host" for device in left]


def _live_through_it(directory: Path, requests: list[Prepared], outcome: Outcome, seed: int) -> None:
    """A host that lives: what it owns after it all, once its pool has come to rest, is what it owned before."""
    with _host(directory) as server:
        outcome.pids.append(server.pid)
        roots = residue.cgroup_roots(server.pid)
        _serve_in_peace(server, outcome)
        before = residue.at_rest(lambda: residue.look(server.pid, directory, roots), IDLE_TIMEOUT + 1.0, 60)
        memory = _resident(server.pid)
        vandal = Vandal(server.pid, seed, outcome.strikes)
        clients = Clients(server.address, requests, outcome, fallible=False)
        vandal.start()
        clients.start()
        clients.wait()
        vandal.finish()
        _serve_in_peace(server, outcome)
        after, outcome.grown = residue.settled(
            before, lambda: residue.look(server.pid, directory, roots), IDLE_TIMEOUT + 30
        )
        outcome.memory_grown = _resident(server.pid) - memory
        everyone = after.members | vandal.seen
        status = processes.end(server.process, 30)
        if status != 0:
            outcome.wrong.append(f"the host ended with status {status}")
        outcome.wrong += [f"{one} is left" for one in everyone if processes.alive(one)]


def _serve_in_peace(server: peers.Server, outcome: Outcome) -> None:
    """As many invocations at once as there may be environments: what a host makes once and keeps is then there."""
    rng = random.Random(7)
    requests = [prepared({**http_api_event(rng), "deed": "hold"}) for _ in range(8 * CLIENTS)]
    clients = Clients(server.address, requests, outcome, fallible=False)
    clients.start()
    clients.wait()
    with Connection(server.address) as connection:
        peers.wait_parked(server, connection, PARKED)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def loops(store: Path, seconds: float = 0.0) -> list[str]:
    """Loop devices whose image lies in ``store``, once ``seconds`` have passed or there are none."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if file.read_text().startswith(f"{store}/"):
                    found.append(file.parts[3])
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def run(invocations: int, seed: int = 1, killed_hosts: int = 2) -> Outcome:
    """``killed_hosts`` hosts, one after the other, each killed at half of its share, then one that lives through the
    rest and is stopped. The share of each is the same."""
    outcome = Outcome()
    stream = requests_of(seed)
    share = invocations // (killed_hosts + 1)
    with tempfile.TemporaryDirectory(prefix="bench-havoc-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        (directory / "store").mkdir()
        for number in range(killed_hosts):
            _kill_a_host(directory, list(itertools.islice(stream, share)), outcome, seed + number)
        rest = list(itertools.islice(stream, invocations - outcome.sent))
        _live_through_it(directory, rest, outcome, seed + killed_hosts)
        store = directory / "store"
        found = {
            "loop devices": loops(store, 5),
            "images": [str(path) for path in store.iterdir()],
            "cgroups": sorted(name for name in residue.named_cgroups() if _host_of(name) in outcome.pids),
            "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line],
        }
    outcome.left = {kind: names for kind, names in found.items() if names}
    return outcome


def _host_of(cgroup: str) -> int:
    """The pid of the host that made a cgroup, by its name; 0 if it is no host's. Others may be at work here."""
    for part in Path(cgroup).parts:
        if part.startswith("lamplighter-") and part.split("-")[1].isdigit():
            return int(part.split("-")[1])
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invocations", type=int, default=20_000, metavar="N")
    parser.add_argument("--killed-hosts", type=int, default=2, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    given = parser.parse_args()
    began = time.monotonic()
    outcome = run(given.invocations, given.seed, given.killed_hosts)
    print(f"{outcome.sent} requests to {len(outcome.pids)} hosts in {time.monotonic() - began:.0f} s")
    print("answers: " + ", ".join(f"{count} {kind}" for kind, count in outcome.answers.most_common()))
    print(f"closed by a host's death: {outcome.closed}")
    print("strikes: " + ", ".join(f"{count} {kind}" for kind, count in outcome.strikes.most_common()))
    print(f"the last host's memory grew by {outcome.memory_grown / 1_048_576:.1f} MiB")
    for kind, names in {**outcome.grown, **outcome.left}.items():
        print(f"left: {kind}: {', '.join(names)}")
    for line in outcome.wrong[:50]:
        print(f"wrong: {line}")
    print("clean" if outcome.clean else "NOT CLEAN")
    sys.exit(0 if outcome.clean else 1)


if __name__ == "__main__":
    main()

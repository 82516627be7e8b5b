"""How exactly limits hold: a share of a CPU, running out of memory, running out of time; and what holding them costs.

Figures of the CPU share need a machine with nothing else to do: a share that nobody takes cannot be missed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import bars, peers, processes
from bench.client import Answer, Connection
from bench.events import FUNCTION, prepared_requests
from bench.measure import percentile
from lamplighter.host.workspace import Workspace, default_base
from lamplighter.sandbox import cgroups, disk, root
from lamplighter.sandbox.cgroups import MB_PER_VCPU, MIB, Limits
from lamplighter.sandbox.hierarchy import Hierarchy, own_cgroups

HANDLER = "spender.handler"
SIZES = (128, 512, 1_769, 3_000)
SPAN_S = 2.0
OUT_OF_MEMORIES = 20
TIMEOUTS = 100
_AT_ONCE = 4

needs_cpu = pytest.mark.skipif(
    not {"cpu", "unified"} & set(own_cgroups()), reason="no writable cgroup holds a CPU share"
)
needs_memory = pytest.mark.skipif(
    not {"memory", "unified"} & set(own_cgroups()), reason="no writable cgroup holds memory"
)


def request(marker: str, **event: object) -> bytes:
    """An event with what to spend, asking for the tail of the log."""
    body = json.dumps({"requestContext": {"requestId": marker}, **event}).encode()
    head = (
        f"POST /2015-03-31/functions/{FUNCTION}/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"X-Amz-Log-Type: Tail\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def kind_of(answer: Answer) -> str:
    return str(json.loads(answer.body).get("errorType", "result"))


@needs_cpu
def test_a_share_of_a_cpu_is_what_was_asked_for_to_five_percent(table: list[bars.Row]) -> None:
    for size in SIZES:
        share = size / MB_PER_VCPU
        spinning = max(2, 2 * -(-size // MB_PER_VCPU))
        with (
            peers.lamplighter(HANDLER, "--memory", str(size), "--timeout", "60") as server,
            Connection(server.address, 90) as connection,
        ):
            answers = [
                connection.exchange(request("cpu", spend="cpu", seconds=SPAN_S, threads=spinning)) for _ in range(3)
            ]
        got = [json.loads(answer.body)["seconds"] / SPAN_S for answer in answers]
        error = abs(statistics.median(got) / share - 1)
        cores = len(os.sched_getaffinity(0))
        row = bars.at_most(
            f"11a{size:05}",
            f"CPU share at {size} MB over {SPAN_S:g} s, {spinning} processes spinning: error against {share:.3f}",
            error * 100,
            5.0,
            "%",
            shares=got,
        )
        table.append(row if share <= cores else bars.context(row))
        assert min(got) > 0


@needs_memory
def test_out_of_memory_is_answered_soon(table: list[bars.Row]) -> None:
    took: list[float] = []
    filled: list[float] = []
    with (
        peers.lamplighter(HANDLER, "--memory", "256", "--timeout", "60", "--parked", "2") as server,
        Connection(server.address, 90) as connection,
    ):
        for number in range(OUT_OF_MEMORIES):
            answer = connection.exchange(request(f"oom-{number}", spend="memory"))
            now = time.monotonic()
            assert kind_of(answer) == "Runtime.OutOfMemory", answer.body
            log = base64.b64decode(answer.headers[b"x-amz-log-result"]).decode()
            last, steps = re.findall(r"at ([0-9.]+) with ([0-9]+)", log)[-1]
            took.append(now - float(last))
            filled.append(int(steps) / 4)
            time.sleep(0.1)
        (template,) = re.findall(r"([0-9]+) MB resident", server.output.read_text())
    whole = statistics.median(filled) + int(template) * 1e6 / MIB
    table.append(
        bars.at_most(
            "11f",
            "memory of 256 MB: what one handler could fill, with its template's, short of it (its own start included)",
            (1 - whole / 256) * 100,
            5.0,
            "%",
            filled_mib=filled,
            template_mb=int(template),
        )
    )
    # From the last step that was taken: filling one more quarter of a megabyte is part of the figure.
    table.append(
        bars.at_most(
            "11b",
            f"out of memory at 256 MB: from the last step that fitted to the answer, p99 of {OUT_OF_MEMORIES}",
            percentile(took, 99) * 1e3,
            50.0,
            "ms",
            p50_ms=statistics.median(took) * 1e3,
        )
    )


def test_a_timeout_is_answered_soon_after_it_and_everything_is_gone(table: list[bars.Row]) -> None:
    options = ("--timeout", "1", "--parked", "4", "--concurrency", "12", "--queue", "64", "--memory", "512")
    with peers.lamplighter(HANDLER, *options) as server:
        peers.wait_ready(server)
        stop = threading.Event()

        def load() -> None:
            requests = prepared_requests(seed=3)
            with Connection(server.address, 60) as connection:
                while not stop.is_set():
                    connection.invoke(next(requests))

        def time_out(number: int) -> float:
            with Connection(server.address, 60) as connection:
                began = time.monotonic()
                answer = connection.exchange(request(f"late-{number}", spend="time"))
                took = time.monotonic() - began
            assert kind_of(answer) == "Sandbox.Timedout", answer.body
            # From the moment the environment had the event: a launch before it is not the deadline's.
            log = base64.b64decode(answer.headers[b"x-amz-log-result"]).decode()
            assert "Duration: 1000.00 ms" in log
            return took

        with ThreadPoolExecutor(_AT_ONCE + 2) as pool:
            loads = [pool.submit(load) for _ in range(2)]
            try:
                late = list(pool.map(time_out, range(TIMEOUTS)))
            finally:
                stop.set()
            for one in loads:
                one.result()
        sleepers = [one for one in processes.tree(server.pid) if _sleeps(one.pid)]
    table.append(
        bars.at_most(
            "11c",
            f"timeout of 1 s, {_AT_ONCE} at once under load: answered after it (launches included), p99 of {TIMEOUTS}",
            (percentile(late, 99) - 1.0) * 1e3,
            20.0,
            "ms",
            p50_ms=(statistics.median(late) - 1.0) * 1e3,
        )
    )
    assert sleepers == []


def _sleeps(pid: int) -> bool:
    """Whether a process is one of those that the handler started: it has a session of its own, within a worker's."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3] == str(pid) and "1000" in Path(
            f"/proc/{pid}/cmdline"
        ).read_text().split("\0")
    except OSError:
        return False


@pytest.fixture
def leaves() -> Iterator[Hierarchy]:
    workspace = Workspace(default_base())
    hierarchy = Hierarchy(own_cgroups(), workspace.name)
    hierarchy.group("bench")
    yield hierarchy
    hierarchy.remove()
    workspace.close()


@needs_cpu
def test_the_period_is_the_shortest_at_which_the_smallest_share_is_exact(
    table: list[bars.Row], leaves: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for period in (5_000, 10_000, cgroups.PERIOD_US, 50_000, 100_000):
        monkeypatch.setattr(cgroups, "PERIOD_US", period)
        found = _spent_in(leaves, f"period-{period}", 128 / MB_PER_VCPU)
        table.append(
            bars.Row(
                f"11d{period:06}",
                f"CFS period {period / 1000:g} ms at 128 MB: share of what it should be; "
                "work of 5 ms CPU after a pause, p50 and longest",
                f"{found['share']:.2f}; {found['p50_ms']:.1f} ms, {found['longest_ms']:.1f} ms",
                facts=dict(found),
            )
        )


def _spent_in(hierarchy: Hierarchy, name: str, cpu: float) -> dict[str, float]:
    """What a process with a share of ``cpu`` gets: its share over a while, and how long short work takes it."""
    leaf = hierarchy.leaf("bench", name)
    leaf.configure(Limits(0, cpu, 0))
    reader, writer = os.pipe()
    with leaf.entrance() as entrance:
        child = os.fork()
        if child == 0:
            for fd in entrance.writable:
                os.write(fd, b"0")
            os.write(writer, json.dumps(_work(cpu)).encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        found: dict[str, float] = json.load(file)
    os.waitpid(child, 0)
    leaf.remove()
    return found


def _work(cpu: float) -> dict[str, float]:
    def spin(seconds: float) -> float:
        began, used = time.perf_counter(), time.process_time()
        while time.process_time() - used < seconds:
            pass
        return time.perf_counter() - began

    took = []
    for _ in range(25):
        time.sleep(0.1)
        took.append(spin(0.005))
    used, began = time.process_time(), time.perf_counter()
    while time.perf_counter() - began < SPAN_S:
        pass
    share = (time.process_time() - used) / (time.perf_counter() - began) / cpu
    return {"share": share, "p50_ms": statistics.median(took) * 1e3, "longest_ms": max(took) * 1e3}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk needs root")
def test_a_disk_is_made_and_thrown_away_in_milliseconds(table: list[bars.Row], tmp_path: Path) -> None:
    image = disk.build(512 * MIB, root.inodes(512 * MIB), str(tmp_path))
    made: list[float] = []
    gone: list[float] = []
    for _ in range(50):
        time.sleep(0.06)
        began = time.perf_counter()
        one = disk.make(image, str(tmp_path))
        made.append(time.perf_counter() - began)
        time.sleep(0.06)
        began = time.perf_counter()
        one.close()
        gone.append(time.perf_counter() - began)
    figures = f"{statistics.median(made) * 1e3:.2f} ms, {statistics.median(gone) * 1e3:.2f} ms"
    table.append(
        bars.Row("11e", "a disk of 512 MB for /tmp, off the launch path: made, thrown away (p50, idle gaps)", figures)
    )

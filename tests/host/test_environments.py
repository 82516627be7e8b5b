"""Execution environments: how many there are, which one serves, what they keep and what they share."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.host.serving import RUNS, Answer, Serving, serving, serving_many, wait_for

PID = "import os; result = os.getpid()"
HOLD = """
import os, time
while not os.path.exists(f"/var/task/go-{event['gate']}"):
    time.sleep(0.002)
result = os.getpid()
"""
"""Runs until :func:`open_gate`."""


def open_gate(host: Serving, name: str) -> None:
    (host.code / f"go-{name}").touch()


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_a_worker_runs_one_invocation_at_a_time(tmp_path: Path) -> None:
    spans = "import os, time; at = time.monotonic(); time.sleep(0.03); result = [os.getpid(), at, time.monotonic()]"
    with serving(tmp_path, RUNS, "--concurrency", "3", "--queue", "20", "--memory", "1769") as host:
        with ThreadPoolExecutor(6) as pool:
            served = [answer.value for answer in pool.map(lambda _: host.run(spans), range(18))]
        pids = {pid for pid, _, _ in served}
        assert 1 < len(pids) <= 3
        for one in pids:
            ordered = sorted((start, end) for pid, start, end in served if pid == one)
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ordered))


def test_invocations_that_come_together_get_a_worker_each(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--timeout", "10", "--memory", "1769") as host:
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(host.run, HOLD, gate="a") for _ in range(3)]
            wait_for(lambda: host.facts()["busy"] == 3, "three busy environments")
            open_gate(host, "a")
            pids = {one.result().value for one in running}
        assert len(pids) == 3


def test_globals_and_tmp_last_as_long_as_the_environment(tmp_path: Path) -> None:
    count = """
import os
kept["calls"] = kept.get("calls", 0) + 1
with open("/tmp/calls", "a") as file:
    file.write("x")
result = [kept["calls"], os.path.getsize("/tmp/calls"), os.getpid()]
"""
    with serving(tmp_path, RUNS, "--concurrency", "1") as host:
        first = [host.run(count).value for _ in range(3)]
        assert [one[:2] for one in first] == [[1, 1], [2, 2], [3, 3]]
        assert len({pid for _, _, pid in first}) == 1
        host.run("import os; os._exit(0)")
        calls, size, pid = host.run(count).value
        assert (calls, size) == (1, 1)
        assert pid != first[0][2]


def test_an_environment_that_failed_in_its_handler_is_used_again(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--concurrency", "1") as host:
        host.run("kept['mark'] = 1; raise ValueError('the very first invocation')")
        assert [host.run("result = kept.get('mark')").value for _ in range(4)] == [1, 1, 1, 1]
        assert "replacing" not in host.errors.text


def test_one_client_that_waits_for_each_answer_needs_one_environment(tmp_path: Path) -> None:
    source = "import os\n\n\ndef handler(event, context):\n    return os.getpid()\n"
    functions = {f"one_{number}": {"source": source, "concurrency": 1} for number in range(6)}
    with serving_many(tmp_path, functions) as host:
        for name in functions:
            client = socket.create_connection(("127.0.0.1", host.port), 20)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            path = f"/2015-03-31/functions/{name}/invocations"
            request = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            seen = []
            for _ in range(10):
                client.sendall(request)
                head, _, body = client.recv(65_536).partition(b"\r\n\r\n")  # the host writes an answer at once
                seen.append((head[:12], body))
            client.close()
            assert seen == [(b"HTTP/1.1 200", seen[0][1])] * 10


def test_fresh_per_invocation_with_room_for_one_environment_waits_for_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--concurrency", "1", "--fresh-per-invocation") as host:
        answers = [host.run(PID) for _ in range(10)]
        assert [answer.status for answer in answers] == [200] * 10
        assert len({answer.value for answer in answers}) == 10


def test_fresh_per_invocation_never_uses_an_environment_twice(tmp_path: Path) -> None:
    look = """
import os
result = [os.getpid(), dict(kept), os.listdir("/tmp")]
kept["used"] = True
open("/tmp/used", "w").close()
"""
    with serving(tmp_path, RUNS, "--fresh-per-invocation") as host:
        seen = [host.run(look).value for _ in range(6)]
        assert len({pid for pid, _, _ in seen}) == 6
        assert [one[1:] for one in seen] == [[{}, []]] * 6


def test_as_many_environments_are_parked_as_were_asked_for_and_refilled_when_used(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--parked", "3", "--timeout", "10", "--memory", "1769") as host:
        parked = set(host.pids_by_depth(3))
        assert len(parked) == 3
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(host.run, HOLD, gate="a") for _ in range(3)]
            wait_for(lambda: host.facts()["busy"] == 3, "three busy environments")
            wait_for(lambda: host.facts()["parked"] == 3, "three parked ones in their place")
            open_gate(host, "a")
            assert {one.result().value for one in running} == parked
        wait_for(lambda: host.facts()["idle"] == 3, "the three at rest")


def test_with_none_parked_there_is_no_environment_before_the_first_invocation(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--parked", "0") as host:
        assert host.pids_by_depth(3) == {}
        pid = host.run(PID).value
        assert set(host.pids_by_depth(3)) == {pid}
        assert host.run(PID).value == pid


def test_above_the_concurrency_limit_the_answer_is_lambdas_429(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--concurrency", "1", "--timeout", "10") as host:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(host.run, HOLD, gate="a")
            wait_for(lambda: host.facts()["busy"] == 1, "a busy environment")
            refused = host.run(PID)
            open_gate(host, "a")
            assert running.result().value
        assert refused.status == 429
        assert refused.headers["x-amzn-errortype"] == "TooManyRequestsException"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.body == (
            b'{"Type":"User","message":"Rate Exceeded.","Reason":"ReservedFunctionConcurrentInvocationLimitExceeded"}'
        )
        assert host.run(PID).value


def test_a_queue_holds_invocations_until_an_environment_is_free_and_no_more_than_it_may(tmp_path: Path) -> None:
    options = ("--concurrency", "1", "--queue", "2", "--timeout", "10")
    with serving(tmp_path, RUNS, *options) as host, ThreadPoolExecutor(3) as pool:
        running = [pool.submit(host.run, HOLD, gate="a") for _ in range(3)]
        wait_for(lambda: host.facts()["waiting"] == 2, "two that wait")
        assert host.run(PID).status == 429
        open_gate(host, "a")
        assert len({one.result().value for one in running}) == 1


def test_waiting_does_not_count_towards_the_timeout(tmp_path: Path) -> None:
    slow = "import time; time.sleep(0.7); result = context.get_remaining_time_in_millis()"
    with serving(tmp_path, RUNS, "--concurrency", "1", "--queue", "1", "--timeout", "1") as host:
        first, second = at_once(lambda: host.run(slow), lambda: host.run(slow))
        assert 0 < first.value < 350
        assert 0 < second.value < 350


def test_environments_without_work_are_shut_down_after_the_idle_timeout(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--parked", "0", "--idle-timeout", "0.2") as host:
        before = host.cgroups()
        pid = host.run(PID).value
        wait_for(lambda: host.facts()["idle"] == 0, "the idle environment's end")
        wait_for(lambda: pid not in host.pids_by_depth(3), "its process's end")
        assert host.run(PID).value != pid
        assert host.cgroups() == before


def test_a_parked_environment_outlives_the_idle_timeout(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--parked", "1", "--idle-timeout", "0.1") as host:
        parked = set(host.pids_by_depth(3))
        gone = threading.Event()
        gone.wait(0.5)  # several sweeps; nothing marks the end of one that finds nothing
        assert set(host.pids_by_depth(3)) == parked
        assert {host.run(PID).value} == parked


def test_what_an_environment_started_ends_with_it(tmp_path: Path) -> None:
    start = """
import os, subprocess
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
result = child.pid
"""

    def children(host: Serving) -> list[int]:
        found = []
        for pid in host.pids_by_depth(3).values():
            with contextlib.suppress(OSError):  # one that has just ended
                if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    with serving(tmp_path, RUNS, "--concurrency", "1") as host:
        host.run(start).value  # noqa: B018 - it must have succeeded
        assert len(children(host)) == 1
        host.run("import os; os._exit(0)")
        wait_for(lambda: not children(host), "the end of what the worker had started")


# --- what workers of one template share, and what not ----------------------------------------------------------------

SHARES = """
import os, random, secrets, ssl, tempfile, uuid

random.random()
ssl.RAND_bytes(8)
uuid.uuid1(), uuid.uuid4()
names = tempfile._get_candidate_names()
next(names)
data = open("/var/task/data.txt")
first_line = data.readline()

os.mkdir("/tmp/cache")
with open("/tmp/cache/model.bin", "wb") as file:
    file.write(b"m" * 100_000)
os.symlink("cache/model.bin", "/tmp/link")
os.chmod("/tmp/cache/model.bin", 0o600)


def handler(event, context):
    found = {
        "pid": os.getpid(),
        "random": random.random(),
        "secrets": secrets.token_hex(8),
        "ssl": ssl.RAND_bytes(16).hex(),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "name": next(tempfile._get_candidate_names()),
        "stream": context.log_stream_name,
    }
    line = data.readline()
    model = open("/tmp/link", "rb").read()
    mode = os.stat("/tmp/cache/model.bin").st_mode & 0o777
    owner = os.stat("/tmp/cache/model.bin").st_uid
    with open("/tmp/cache/model.bin", "wb") as file:
        file.write(b"changed")
    return {"different": found, "line": line, "model": len(model), "mode": mode, "mine": owner == os.getuid(),
            "listing": sorted(os.listdir("/tmp"))}
"""


def test_two_workers_of_one_template_differ_in_all_that_must_and_agree_in_all_that_may(tmp_path: Path) -> None:
    files = {"app.py": SHARES, "data.txt": "one\ntwo\nthree\n"}
    with serving(tmp_path, files, "--parked", "2", "--fresh-per-invocation") as host:
        assert host.facts()["template"] == "ready"
        answers: list[dict[str, Any]] = [host.invoke({}).value for _ in range(4)]
    for kind in answers[0]["different"]:
        found = [answer["different"][kind] for answer in answers]
        assert len(set(found)) == 4, f"{kind}: {found}"
    for answer in answers:
        assert answer["line"] == "two\n"  # a position of its own, where init left it
        assert answer["model"] == 100_000  # what init wrote, not what another worker made of it
        assert answer["mode"] == 0o600
        assert answer["mine"]
        assert answer["listing"] == ["cache", "link"]


def test_the_snapshot_hooks_run_in_lambdas_order(tmp_path: Path) -> None:
    source = """
import os
import snapshot_restore_py as hooks

order = []
hooks.register_before_snapshot(lambda: order.append("before 1"))
hooks.register_after_restore(lambda: order.append("after 1"))


@hooks.register_before_snapshot
def before():
    order.append("before 2")
    order.append(os.getpid())


hooks.register_after_restore(lambda number, *, name: order.append(f"{name} {number}"), 2, name="after")


def handler(event, context):
    return [order, os.getpid()]
"""
    with serving(tmp_path, source, "--fresh-per-invocation") as host:
        answers = [host.invoke({}).value for _ in range(2)]
    for order, _ in answers:
        names = [entry for entry in order if isinstance(entry, str)]
        assert names == ["before 2", "before 1", "after 1", "after 2"]
    (template,) = {entry for order, _ in answers for entry in order if isinstance(entry, int)}
    assert template not in {pid for _, pid in answers}


def test_warm_up_events_run_through_the_real_handler_before_the_freeze(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"run": "kept[\'seen\'] = [event[\'n\']]", "n": 1}')
    (tmp_path / "two.json").write_text('{"run": "kept[\'seen\'].append(event[\'n\'])", "n": 2}')
    options = ("--warm-up", str(tmp_path / "one.json"), "--warm-up", str(tmp_path / "two.json"))
    with serving(tmp_path, RUNS, *options, "--fresh-per-invocation") as host:
        for _ in range(3):
            assert host.run("result = list(kept['seen']); kept['seen'].append(3)").value == [1, 2]


def test_a_warm_up_event_that_fails_is_logged_and_does_not_break_the_function(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"run": "raise ValueError(\'no such table\')"}')
    (tmp_path / "good.json").write_text('{"run": "kept[\'good\'] = True"}')
    options = ("--warm-up", str(tmp_path / "bad.json"), "--warm-up", str(tmp_path / "good.json"))
    with serving(tmp_path, RUNS, *options) as host:
        assert host.run("result = kept").value == {"good": True}
        assert host.output is not None
        host.output.wait("warm-up event 1 failed: ValueError: no such table")

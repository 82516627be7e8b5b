"""Servers and their processes: started, known, weighed, and gone again, whatever happens in between."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import chaos, client, events, peers, processes, residue

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    print("child", flush=True)
    time.sleep(600)
print("listening on http://127.0.0.1:65000", file=sys.stderr, flush=True)
time.sleep(600)
"""


def parked_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"], stdout=subprocess.PIPE
    )


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = parked_process()
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_servers_whole_tree_is_gone_when_its_block_is_left_by_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    end = processes.end
    monkeypatch.setattr(processes, "end", lambda leader: end(leader, patience=0.3))
    members: set[processes.Process] = set()
    command = [sys.executable, "-c", STUBBORN]
    with (
        pytest.raises(RuntimeError, match="inside"),
        peers.started("stubborn", command, cwd=Path("/"), environment=os.environ, port=None) as server,
    ):
        assert server.address == ("127.0.0.1", 65000)
        members = processes.tree(server.pid)
        raise RuntimeError("inside")
    assert len(members) == 2
    assert not any(processes.alive(member) for member in members)


def test_a_server_that_ends_at_once_is_reported_with_its_status_and_words() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    with (
        pytest.raises(peers.PeerFault, match=r"ended with status 1 before it named its address.*\n.*no such option"),
        peers.started("broken", command, cwd=Path("/"), environment=os.environ, port=None),
    ):
        pytest.fail("a broken server was called started")


def test_a_tree_holds_grandchildren_and_no_zombies() -> None:
    script = "import os,time\npid=os.fork()\nif not pid: os._exit(0)\nos.waitid(os.P_PID,pid,os.WEXITED|os.WNOWAIT)\n"
    script += "if os.fork()==0:\n if os.fork()==0: print('up',flush=True)\n time.sleep(600)\ntime.sleep(600)"
    leader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert leader.stdout is not None
        leader.stdout.readline()
        assert len(processes.tree(leader.pid)) == 3
    finally:
        processes.end(leader, 5)
        leader.stdout.close() if leader.stdout else None
    assert processes.tree(leader.pid) == set()


def test_kill_spares_a_process_that_only_has_the_same_pid(sleeper: subprocess.Popen[bytes]) -> None:
    (known,) = processes.tree(sleeper.pid)
    other = processes.Process(known.pid, known.started + 1)
    assert not processes.kill(other)
    assert sleeper.poll() is None
    assert processes.kill(known)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not processes.kill(known)
    assert processes.wait_gone({known}, 1) == set()


def test_the_weight_of_a_tree_is_near_what_the_process_wrote_to(sleeper: subprocess.Popen[bytes]) -> None:
    heavy = subprocess.Popen(
        [sys.executable, "-c", "x=bytearray(b'x')*50_000_000; print(flush=True); import time; time.sleep(600)"],
        stdout=subprocess.PIPE,
    )
    try:
        assert heavy.stdout is not None
        heavy.stdout.readline()
        light = processes.pss_bytes(processes.tree(sleeper.pid))
        assert 45_000_000 < processes.pss_bytes(processes.tree(heavy.pid)) - light < 60_000_000
    finally:
        heavy.kill()
        heavy.wait()
        heavy.stdout.close() if heavy.stdout else None


def test_the_weight_of_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="No such"):
        processes.pss_bytes([processes.Process(2**22 + 1, 1)])


def test_residue_names_what_grew_and_forgives_what_only_changed() -> None:
    before = residue.Residue(descriptors={"3 -> socket:[1]", "4 -> pipe:[2]"}, cgroups={"/c/a"})
    changed = residue.Residue(descriptors={"3 -> socket:[9]", "4 -> pipe:[2]"}, cgroups={"/c/b"})
    grown = residue.Residue(descriptors=before.descriptors | {"5 -> pipe:[7]"}, cgroups=set())
    assert residue.growth(before, changed) == {}
    assert residue.growth(before, grown) == {"descriptors": ["5 -> pipe:[7]"]}


def test_a_look_at_a_process_sees_a_new_descriptor_and_a_new_directory(tmp_path: Path) -> None:
    before = residue.look(os.getpid(), tmp_path, set())
    (tmp_path / "left").mkdir()
    reader, writer = os.pipe()
    try:
        grown = residue.growth(before, residue.look(os.getpid(), tmp_path, set()))
    finally:
        os.close(reader)
        os.close(writer)
    assert len(grown["descriptors"]) == 2
    assert str(tmp_path / "left") in grown["directories"]
    assert before.members


@pytest.mark.skipif(os.geteuid() != 0, reason="this process is not root")
def test_of_the_mounts_it_lives_with_those_that_could_be_its_own_are_looked_at(tmp_path: Path) -> None:
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir()
    others.mkdir()
    before = residue.look(os.getpid(), own, set())
    for place in (own, others):
        subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True, timeout=60)
    try:
        grown = residue.growth(before, residue.look(os.getpid(), own, set()))
    finally:
        for place in (own, others):
            subprocess.run(["umount", str(place)], check=True, timeout=60)
    assert [name.split()[1] for name in grown["mounts"]] == [str(own)]


def test_rest_is_when_the_counts_have_not_changed_for_the_whole_quiet_time() -> None:
    looks = iter([residue.Residue(), residue.Residue(mounts={"/a"}), residue.Residue(mounts={"/b"})])
    last = residue.Residue(mounts={"/c"})
    assert residue.at_rest(lambda: next(looks, last), quiet=0.05, seconds=30, pause=0) == last
    restless = (residue.Residue(mounts={str(n) for n in range(turn % 2)}) for turn in itertools.count())
    with pytest.raises(TimeoutError, match=r"still changes after 0\.05 s"):
        residue.at_rest(lambda: next(restless), quiet=1, seconds=0.05, pause=0)


def test_waiting_for_rest_ends_with_what_is_still_too_much() -> None:
    before = residue.Residue()
    leaky = residue.Residue(directories={"/tmp/left"})
    looks = iter([leaky, leaky, residue.Residue()])
    assert residue.settled(before, lambda: next(looks), 30, pause=0)[1] == {}
    assert residue.settled(before, lambda: leaky, 0)[1] == {"directories": ["/tmp/left"]}


def request() -> events.Prepared:
    return next(events.prepared_requests(seed=9))


def test_a_result_and_a_killed_runtime_are_the_only_answers_under_fire() -> None:
    mine = request()
    result = json.dumps({"statusCode": 200, "body": mine.marker.decode()}).encode()
    error = {b"x-amz-function-error": b"Unhandled"}
    exit_error = b'{"errorType":"Runtime.ExitError","errorMessage":"Runtime exited with error: signal: killed"}'
    assert chaos.verdict(client.Answer(200, {}, result), mine) == "result"
    assert chaos.verdict(client.Answer(200, error, exit_error), mine) == "killed"
    at_launch = client.Answer(200, error, b'{"errorType":"Sandbox.Failure","errorMessage":"No such process"}')
    assert chaos.verdict(at_launch, mine) == "killed at launch"
    for answer, says in (
        (client.Answer(200, {}, b'{"statusCode": 200, "body": "another"}'), "another result"),
        (client.Answer(429, {}, b"{}"), "status 429"),
        (client.Answer(502, {}, b""), "status 502"),
        (client.Answer(200, error, b'{"errorType":"KeyError"}'), "no kill explains"),
    ):
        with pytest.raises(client.BadAnswer, match=says):
            chaos.verdict(answer, mine)


def test_the_youngest_are_told_by_start_time_and_then_by_pid() -> None:
    members = {processes.Process(10, 5), processes.Process(11, 5), processes.Process(7, 9)}
    assert chaos.youngest(members, 2) == {processes.Process(11, 5), processes.Process(7, 9)}
    assert chaos.youngest(members, 0) == set()


@pytest.mark.parametrize("server", ["emulator", "uvicorn"])
def test_a_peer_answers_the_same_request_and_leaves_no_process(server: str) -> None:
    if server == "emulator":
        try:
            peers.emulator_binary()
        except peers.PeerFault as fault:
            pytest.skip(f"the emulator is not here and could not be downloaded: {fault}")
    peer = peers.emulator("trivial.handler") if server == "emulator" else peers.uvicorn(2)
    with peer as running:
        mine = request()
        with client.Connection(running.address) as connection:
            answer = connection.exchange(mine.wire)
        assert json.loads(answer.body)["body"] == mine.marker.decode()
        members = processes.tree(running.pid)
    assert len(members) >= 2
    assert not any(processes.alive(member) for member in members)

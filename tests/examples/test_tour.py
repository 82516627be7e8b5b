"""The tour: its pure parts, and the whole of it against a stand-in for the host."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.function.config import load_config

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FAKE_HOST = Path(__file__).with_name("fake_host.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lamplighter_tour", EXAMPLES / "tour.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while it is being executed
    spec.loader.exec_module(module)
    return module


tour = _load()


@contextlib.contextmanager
def started(fault: str = "", *, host: str | None = None) -> Iterator[subprocess.Popen[str]]:
    command = host or shlex.join([sys.executable, str(FAKE_HOST)])
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "tour.py"), "--launches", "2", "--warm", "3", "--host", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "FAKE_HOST_FAULT": fault, "COLUMNS": "160", "NO_COLOR": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def taken(fault: str = "", *, host: str | None = None) -> tuple[int, str]:
    with started(fault, host=host) as process:
        output, _ = process.communicate(timeout=90)
        return process.returncode, output


def running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# --- pure parts


scalars = st.text(st.characters(codec="utf-8")) | st.integers(-(2**63), 2**63 - 1) | st.booleans()
values = scalars | st.floats(allow_nan=False) | st.lists(scalars, max_size=3)
keys = st.text(st.characters(codec="utf-8"), max_size=8)


@given(
    st.dictionaries(
        keys, values | st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=2)), max_size=4
    )
)
def test_written_toml_reads_back_as_what_was_written(config: dict[str, object]) -> None:
    assert tomllib.loads(tour.to_toml(config)) == config


def test_a_value_that_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="no TOML for NoneType"):
        tour.to_toml({"host": {"listen": None}})


def test_the_first_hosts_functions_park_nothing_and_get_a_fresh_environment_each_time() -> None:
    config = tour.host_config(EXAMPLES / "lamplighter.toml", parked=0, twins=False)
    assert set(config["functions"]) == {stop.function for stop in tour.STOPS}
    assert all((f["parked"], f["fresh_per_invocation"]) == (0, True) for f in config["functions"].values())
    assert config["host"]["listen"] == "127.0.0.1:0"


def test_the_second_hosts_twins_keep_their_environments() -> None:
    functions = tour.host_config(EXAMPLES / "lamplighter.toml", parked=1, twins=True)["functions"]
    assert (functions["queue"]["parked"], functions["queue"]["fresh_per_invocation"]) == (1, True)
    assert (functions["queue-warm"]["parked"], functions["queue-warm"]["fresh_per_invocation"]) == (1, False)
    assert len(functions) == 2 * len({stop.function for stop in tour.STOPS})


def test_paths_in_a_written_configuration_do_not_depend_on_where_it_is_written() -> None:
    for function in tour.host_config(EXAMPLES / "lamplighter.toml", parked=1, twins=True)["functions"].values():
        assert Path(function["code"]).is_absolute() and Path(function["code"], "app.py").is_file()
        assert function["warm_up"]
        assert all(Path(event).is_absolute() and Path(event).is_file() for event in function["warm_up"])


@pytest.mark.parametrize("twins", [False, True])
def test_a_written_configuration_is_one_the_host_accepts(tmp_path: Path, twins: bool) -> None:
    written = tour.host_config(EXAMPLES / "lamplighter.toml", parked=int(twins), twins=twins)
    path = tmp_path / "lamplighter.toml"
    path.write_text(tour.to_toml(written))
    accepted = load_config(str(path))
    assert accepted.listen_port == 0
    assert {function.name for function in accepted.functions} == set(written["functions"])
    signer = next(function for function in accepted.functions if function.name == "object_lister")
    assert signer.environment == written["functions"]["object_lister"]["environment"]


@pytest.mark.parametrize(
    ("status", "error", "payload", "failed"),
    [
        (200, None, b'{"batchItemFailures": []}', False),
        (200, None, b"null", False),
        (200, None, b'{"statusCode": 201}', False),
        (200, None, b'{"statusCode": 404}', True),
        (200, "Unhandled", b'{"errorMessage": "x"}', True),
        (429, None, b'{"message": "Rate Exceeded."}', True),
        (200, None, b"not JSON", True),
    ],
)
def test_an_invocation_failed_if_the_service_the_function_or_its_http_answer_says_so(
    status: int, error: str | None, payload: bytes, failed: bool
) -> None:
    assert tour.Reply(status, error, payload, "", 0.0).failed is failed


def test_the_highest_memory_of_all_reports_is_kept() -> None:
    measured = tour.Measured()
    for used in (41, 44, 43):
        measured.saw(tour.Reply(200, None, b"null", f"REPORT RequestId: 1\tMax Memory Used: {used} MB\t\n", 0.0))
    measured.saw(tour.Reply(429, None, b"{}", "", 0.0))
    assert measured.memory_mb == 44


def test_a_long_answer_loses_its_middle_and_says_how_much() -> None:
    short = tour.shorten(b"a" * 500 + b"z" * 500, 90)
    assert short == "a" * 60 + " ...910 characters... " + "z" * 30
    assert tour.shorten(b"as it is", 90) == "as it is"


@pytest.mark.parametrize(
    ("line", "port"),
    [("lamplighter: listening on http://127.0.0.1:41283", "41283"), ("listening on http://[::1]:9000 (4)", "9000")],
)
def test_the_bound_port_is_read_from_the_hosts_line(line: str, port: str) -> None:
    found = tour.LISTENING.search(line)
    assert found is not None and found[2] == port


# --- the whole tour


def test_the_tour_invokes_every_example_twice_over_and_leaves_nothing_running() -> None:
    status, output = taken()
    assert status == 0, output
    for stop in tour.STOPS:
        assert f"examples/{stop.event} -> HTTP 200" in output
        assert f"{stop.function}: Max Memory Used 37 MB" in output
    assert output.count("exit status 0, nothing left running") == 2
    assert "not measured" not in output
    for start, count in (("fork", "2"), ("parked", "2"), ("warm", "3")):
        rows = [line for line in output.splitlines() if re.match(rf"\W*{start} ", line)]
        assert len(rows) == 4
        assert all(re.search(rf"\b{count}\W*$", row) for row in rows)


def test_a_host_that_ends_before_it_listens_is_reported_with_what_it_said() -> None:
    status, output = taken("mute")
    assert status == 1
    assert "the host ended before it listened (exit status 7)" in output
    assert "fake host starts" in output


def test_a_command_that_does_not_exist_is_a_clear_failure() -> None:
    status, output = taken(host="/does/not/exist")
    assert status == 1
    assert "/does/not/exist" in output and "Traceback" not in output


def test_a_failed_invocation_fails_the_tour_and_names_the_function() -> None:
    status, output = taken("function")
    assert status == 1
    assert "queue: HTTP 200, Unhandled" in output and "on purpose" in output


def test_a_host_that_ends_with_another_status_fails_the_tour() -> None:
    status, output = taken("status")
    assert status == 1
    assert "the host ended with exit status 3, not 0" in output


def test_a_process_left_behind_fails_the_tour_and_is_ended() -> None:
    status, output = taken("orphan")
    assert status == 1
    left = re.search(r"left running: process (\d+) \(sleep 600\)", output)
    assert left is not None, output
    assert not running(int(left[1]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_tour_stops_its_host(number: signal.Signals) -> None:
    with started("orphan") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "-> HTTP 200" in line:
                break
        else:
            pytest.fail("the tour never invoked anything")
        family = descendants(process.pid)
        assert len(family) >= 2  # the host and the process it would leave behind
        process.send_signal(number)
        assert process.wait(30) == 130
        give_up = time.monotonic() + 5
        while any(map(running, family)) and time.monotonic() < give_up:
            time.sleep(0.01)
        assert [pid for pid in family if running(pid)] == []


def descendants(parent: int) -> list[int]:
    direct = tour.children(parent)
    return [*direct, *(pid for child in direct for pid in descendants(child))]

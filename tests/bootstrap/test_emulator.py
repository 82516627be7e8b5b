"""The bootstrap behind AWS's own emulator, which answers as the Runtime API of Lambda does."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import peers, processes
from bootstrap.running import RUNTIME

CODE = """
import json, logging, os, sys
from lamplighter import streaming

logger = logging.getLogger()

def handler(event, context):
    do = event.get("do")
    if do == "raise":
        raise LookupError("no such order")
    if do == "large":
        return "x" * 7_000_000
    if do == "leave":
        sys.exit(3)
    if do == "stream":
        return pieces(event["fail"])
    if do == "log":
        logger.warning("said %s", "so")
    return {
        "event": event,
        "arn": context.invoked_function_arn,
        "name": context.function_name,
        "left": 0 < context.get_remaining_time_in_millis() <= 30_000,
        "pid": os.getpid(),
    }

def pieces(fail):
    yield "one,"
    if fail:
        raise ValueError("late")
    yield "two"
"""


@contextmanager
def emulator(code: str, tmp_path: Path, **more: str) -> Iterator[tuple[peers.Server, http.client.HTTPConnection]]:
    try:
        binary = peers.emulator_binary()
    except peers.PeerFault as fault:
        pytest.skip(f"the emulator is not to be had here: {fault}")
    (tmp_path / "app.py").write_text(code)
    port, api = peers.free_port(), peers.free_port()
    command = [str(binary), "--log-level", "error"]
    command += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    command += ["--runtime-api-address", f"127.0.0.1:{api}"]
    command += [sys.executable, "-m", "lamplighter.bootstrap", "app.handler"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/tmp"),
        "PYTHONPATH": str(RUNTIME),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
        "AWS_LAMBDA_FUNCTION_NAME": "behind-the-emulator",
        **more,
    }
    with peers.started("emulator", command, cwd=tmp_path, environment=environment, port=port) as server:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            yield server, client
        finally:
            client.close()


def invoke(client: http.client.HTTPConnection, **event: object) -> tuple[int, bytes]:
    client.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
    answer = client.getresponse()
    return answer.status, answer.read()


def test_it_serves_results_errors_streams_and_what_is_too_large_from_one_process(tmp_path: Path) -> None:
    with emulator(CODE, tmp_path) as (server, client):
        status, body = invoke(client, do="log", number=1)
        first = json.loads(body)
        assert status == 200
        assert first["event"] == {"do": "log", "number": 1}
        assert first["arn"] == "arn:aws:lambda:us-east-1:012345678912:function:behind-the-emulator"
        assert (first["name"], first["left"]) == ("behind-the-emulator", True)

        status, body = invoke(client, do="raise")
        error = json.loads(body)
        assert (status, error["errorType"], error["errorMessage"]) == (200, "LookupError", "no such order")
        assert len(error["stackTrace"]) == 1

        status, body = invoke(client, do="large")
        assert (status, json.loads(body)["errorType"]) == (200, "Function.ResponseSizeTooLarge")

        assert invoke(client, do="stream", fail=False) == (200, b"one,two")
        assert invoke(client, do="stream", fail=True)[0] == 200

        for number in range(20):
            assert json.loads(invoke(client, number=number)[1])["event"] == {"number": number}
        assert json.loads(invoke(client)[1])["pid"] == first["pid"], "nothing of all that ended the process"
        log = server.output.read_bytes().decode()
    assert re.search(r"^\[WARNING\]\t[\d:.TZ-]+\t[0-9a-f-]{36}\tsaid so$", log, re.MULTILINE)
    assert "[ERROR] LookupError: no such order\rTraceback" in log
    assert "[ERROR] ValueError: late" in log


def test_an_end_of_the_process_is_the_platforms_to_tell_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    with emulator(CODE, tmp_path) as (_, client):
        pid = json.loads(invoke(client)[1])["pid"]
        _, body = invoke(client, do="leave")
        error = json.loads(body)
        assert error["errorType"] == "Runtime.ExitError"
        assert "exit status 3" in error["errorMessage"]
        assert json.loads(invoke(client)[1])["pid"] != pid


def test_an_init_fault_is_the_answer(tmp_path: Path) -> None:
    with emulator("import no_such_module\n", tmp_path) as (_, client):
        _, body = invoke(client)
    error = json.loads(body)
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert error["errorMessage"] == "Unable to import module 'app': No module named 'no_such_module'"


def test_with_a_fork_the_end_of_the_process_is_an_answer_and_the_emulator_goes_on(tmp_path: Path) -> None:
    with emulator(CODE, tmp_path, LAMPLIGHTER_FORK="1") as (server, client):
        first = json.loads(invoke(client)[1])
        family = processes.tree(server.pid)
        for _ in range(3):
            status, body = invoke(client, do="leave")
            assert status == 200
            assert json.loads(body)["errorType"] == "Runtime.ExitError"
            assert json.loads(body)["errorMessage"].endswith("Runtime exited with error: exit status 3")
        after = json.loads(invoke(client)[1])
        assert after["pid"] != first["pid"]
        # The emulator starts a runtime that has ended anew: this one never did.
        assert len(family - processes.tree(server.pid)) == 1

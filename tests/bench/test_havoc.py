"""The judge of a run under havoc: which answers are explained by what was done, and whose loop devices are whose."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from tests.host.serving import needs_root

from bench import client, events, havoc, processes


def answered(body: object, *, failed: bool) -> client.Answer:
    headers = {b"x-amz-function-error": b"Unhandled"} if failed else {}
    return client.Answer(200, headers, json.dumps(body).encode())


def test_what_was_done_explains_an_answer_and_nothing_else_does() -> None:
    request = events.Prepared(b"", b"mine")
    assert havoc.verdict(answered({"body": "mine"}, failed=False), request) == "result"
    for kind, word in havoc.EXPLAINED.items():
        body = {"errorType": kind, "errorMessage": "mine"}
        assert havoc.verdict(answered(body, failed=True), request) == word
    wrong = [
        answered({"body": "another's"}, failed=False),
        answered({"errorType": "RuntimeError", "errorMessage": "another's"}, failed=True),
        answered({"errorType": "NameError", "errorMessage": "mine"}, failed=True),
        client.Answer(500, {}, b"{}"),
    ]
    for answer in wrong:
        with pytest.raises(client.BadAnswer):
            havoc.verdict(answer, request)


def test_the_same_seed_asks_for_the_same_deeds_and_each_is_asked_for() -> None:
    some, same = (list(itertools.islice(havoc.requests_of(3), 2_000)) for _ in range(2))
    assert some == same
    asked = {json.loads(request.wire.split(b"\r\n\r\n", 1)[1])["deed"] for request in some}
    assert asked == set(havoc.DEEDS)


def test_a_store_without_images_has_no_loop_devices(tmp_path: Path) -> None:
    assert havoc.loops(tmp_path) == []


def test_a_process_that_is_gone_has_no_depth_and_this_one_has_one() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(10)
    assert processes.depth(gone.pid) == 0
    assert processes.depth(os.getpid()) == 1


@needs_root
def test_a_process_in_a_namespace_of_its_own_lies_deeper() -> None:
    inside = subprocess.Popen(["unshare", "--pid", "--fork", "cat"], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while 2 not in (found := {processes.depth(one.pid) for one in processes.tree(inside.pid)}):
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
    finally:
        inside.communicate(timeout=10)  # cat ends with its input

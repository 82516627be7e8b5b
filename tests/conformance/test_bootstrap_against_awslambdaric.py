"""The bootstrap and awslambdaric 4.2.2 run the same functions against the same Runtime API.

What reaches the wire and the log must be the same, byte for byte, but for the differences that
``test_named_differences.py`` lists by name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conformance.oracle import BROKEN, ENVIRONMENTS, Answer, broken, by_awslambdaric, by_client, table, the_same

pytest.importorskip("awslambdaric", reason="the oracle is not installed")

ERROR_TYPE = "lambda-runtime-function-error-type"


def headers_are_the_same(ours: list[Answer], theirs: list[Answer]) -> None:
    """But for the named difference "an error's type is in a header"."""
    for our, their in zip(ours, theirs, strict=True):
        if our.kind == "error":
            assert our.headers.pop(ERROR_TYPE) == json.loads(our.body)["errorType"]
        assert our.headers == their.headers


# How requests are sent does not depend on how logs are written: two forms are enough for the slower way.
CASES = [
    *(pytest.param(*one.values, True, id=f"{one.id}, one send") for one in ENVIRONMENTS),
    *(pytest.param(*one.values, False, id=f"{one.id}, apart") for one in ENVIRONMENTS[:2]),
]


@pytest.mark.parametrize(("environment", "one_send"), CASES)
def test_every_answer_and_every_log_line_is_awslambdarics(
    environment: dict[str, str], one_send: bool, tmp_path: Path
) -> None:
    # With results in Unicode, awslambdaric cannot send a lone surrogate, and ends: a named difference.
    rows = [row for row in table() if not ("AWS_EXECUTION_ENV" in environment and "ud83d" in row[0])]
    names, events = zip(*rows, strict=True)
    handler = "functions_for_both.handler"
    theirs, _ = by_awslambdaric(handler, list(events), dict(environment), tmp_path)
    # Where AWS_EXECUTION_ENV is not set, results differ on Python 3.12 and later: a named difference.
    own = {} if one_send else {"LAMPLIGHTER_ONE_SEND": "0"}
    if "AWS_EXECUTION_ENV" not in environment and sys.version_info >= (3, 12):
        own["LAMPLIGHTER_STRICT"] = "awslambdaric"
    ours, _ = by_client("lamplighter.bootstrap", handler, list(events), {**environment, **own}, tmp_path)
    assert {answer.kind for answer in theirs} == {"response", "raw response", "error"}
    headers_are_the_same(ours, theirs)
    assert all(answer.headers["lambda-runtime-invocation-id"] for answer in theirs)
    the_same(ours, theirs, list(names))


@pytest.mark.parametrize("case", BROKEN)
def test_an_init_fault_is_reported_and_logged_as_awslambdaric_does(case: str, tmp_path: Path) -> None:
    handler, environment = broken(case, tmp_path)
    theirs, their_status = by_awslambdaric(handler, [], dict(environment), tmp_path)
    ours, our_status = by_client("lamplighter.bootstrap", handler, [], dict(environment), tmp_path)
    assert theirs[0].kind == "init error"
    assert (our_status, their_status) == (1, 1)
    assert ours[0].headers[ERROR_TYPE] == theirs[0].headers[ERROR_TYPE]
    the_same(ours, theirs, [case])

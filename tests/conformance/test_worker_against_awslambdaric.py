"""The worker and awslambdaric 4.2.2, AWS's own client, run the same functions; what leaves either must be the same.

Compared are answers, error causes and every byte of the log (:mod:`conformance.oracle`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.oracle import (
    BROKEN,
    ENVIRONMENTS,
    TELEMETRY,
    broken,
    by_awslambdaric,
    by_worker,
    table,
    the_same,
)

pytest.importorskip("awslambdaric", reason="the oracle is not installed")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_answer_and_every_log_line_is_awslambdarics(environment: dict[str, str], tmp_path: Path) -> None:
    # With results in Unicode, awslambdaric cannot send a lone surrogate, and ends. The worker escapes it.
    rows = [row for row in table() if not ("AWS_EXECUTION_ENV" in environment and "ud83d" in row[0])]
    names, events = zip(*rows, strict=True)
    handler = "functions_for_both.handler"
    theirs, _ = by_awslambdaric(handler, list(events), dict(environment), tmp_path)
    ours, _ = by_worker(handler, list(events), dict(environment), tmp_path)
    assert {answer.kind for answer in theirs} == {"response", "raw response", "error"}
    assert any(answer.telemetry for answer in theirs) == (TELEMETRY in environment)
    the_same(ours, theirs, list(names))


@pytest.mark.parametrize("case", BROKEN)
def test_an_init_fault_is_reported_and_logged_as_awslambdaric_does(case: str, tmp_path: Path) -> None:
    handler, environment = broken(case, tmp_path)
    theirs, their_status = by_awslambdaric(handler, [], dict(environment), tmp_path)
    ours, our_status = by_worker(handler, [], dict(environment), tmp_path)
    assert theirs[0].kind == "init error"
    assert (our_status, their_status) == (1, 1)
    the_same(ours, theirs, [case])

"""A real bench and a real profile of one small function, made once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from lamplighter.measure.bench import Result, bench
from lamplighter.measure.hosting import Function
from lamplighter.measure.profile import Profile, profile

ROUNDS = 2


class Measured(NamedTuple):
    """What was measured, and the steps that were told of."""

    result: Result
    profile: Profile
    steps: list[tuple[str, int, int]]


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    code = tmp_path_factory.mktemp("measured")
    code.chmod(0o755)
    (code / "app.py").write_text("import json, decimal\n\ndef handler(event, context):\n    return {'got': event}\n")
    function = Function("app.handler", str(code), environment={"TABLE": "orders"})
    steps: list[tuple[str, int, int]] = []
    events = [b'{"number": 1}', b'{"number": 2}']
    result = bench(function, events, rounds=ROUNDS, peer="awslambdaric", progress=lambda *step: steps.append(step))
    return Measured(result, profile(function, events), steps)


@pytest.fixture
def failing(tmp_path: Path) -> Function:
    """A function that raises."""
    (tmp_path / "app.py").write_text("def handler(event, context):\n    raise ValueError('no luck')\n")
    tmp_path.chmod(0o755)
    return Function("app.handler", str(tmp_path))

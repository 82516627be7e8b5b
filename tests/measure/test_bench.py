"""A function's own figures, measured for real."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from tests.measure.conftest import ROUNDS, Measured

from lamplighter.measure.bench import FORK, LAUNCHES, MEMORY_SIZES, PARKED, WARM, bench, ratios
from lamplighter.measure.exchange import AnswerFault
from lamplighter.measure.hosting import Function, HostFault, host
from lamplighter.measure.page import page
from lamplighter.measure.runtime_api import started_client

pytestmark = pytest.mark.timeout(300)


def test_every_kind_of_start_is_measured_in_every_round(measured: Measured) -> None:
    counts = {kind: len(times) for kind, times in measured.result.samples.items()}
    assert counts == {
        "cold": ROUNDS,
        "fork": ROUNDS * LAUNCHES,
        "parked": ROUNDS * LAUNCHES,
        "warm": ROUNDS * WARM,
        "lamplighter.bootstrap: next event": ROUNDS * WARM,
        "awslambdaric: cold": ROUNDS,
        "awslambdaric: next event": ROUNDS * WARM,
    }
    assert all(time > 0 for times in measured.result.samples.values() for time in times)


def test_a_start_by_exec_takes_longest_and_a_warm_call_least(measured: Measured) -> None:
    middle = {kind: one.p50 for kind, one in measured.result.summaries().items()}
    assert middle["cold"] > middle["fork"] > middle["warm"]
    factor = ratios(measured.result)
    assert factor["fork"] == pytest.approx(middle["cold"] / middle["fork"])
    assert "cold" not in factor


def test_the_stages_of_forked_and_parked_starts_come_from_the_hosts_own_reports(measured: Measured) -> None:
    for kind in (FORK, PARKED):
        stages = measured.result.stages[kind]
        assert {"clone", "hooks", "worker", "ready"} <= stages.keys()
        assert 0 < stages["clone"] < stages["ready"]


def test_an_environment_that_shares_its_template_weighs_less_than_a_process_of_its_own(measured: Measured) -> None:
    memory = measured.result.memory
    assert 0 < memory["each further parked environment"] < memory["awslambdaric, one process"]
    assert memory["Max Memory Used"] > 0


def test_every_memory_size_has_its_price_or_the_reason_why_it_has_none(measured: Measured) -> None:
    sizes = measured.result.sizes
    assert [size.memory_mb for size in sizes] == list(MEMORY_SIZES)
    for size in sizes:
        assert (size.cost is None) == bool(size.problem)
        if size.cost is not None:
            assert size.cost.usd["x86"] > size.cost.usd["arm64"] > 0.2


def test_progress_is_told_from_the_first_step_to_the_last(measured: Measured) -> None:
    done = [step[1] for step in measured.steps]
    total = measured.steps[0][2]
    assert done == sorted(done) and done[-1] == total
    assert measured.steps[-1] == ("done", total, total)


def test_the_plain_form_is_json_and_keeps_no_variables_value(measured: Measured) -> None:
    text = json.dumps(measured.result.plain())
    assert '"TABLE"' in text and "orders" not in text
    plain = json.loads(text)
    assert plain["starts_ms"]["fork"]["samples"] == ROUNDS * LAUNCHES
    assert {"kernel", "cpu", "python"} <= plain["machine"].keys()


def test_a_function_that_fails_is_no_figure_and_leaves_no_process(failing: Function) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(AnswerFault, match="no luck"):
        bench(failing, [], rounds=1)
    with pytest.raises(HostFault, match=r"awslambdaric answered .*no luck"):
        started_client("awslambdaric", failing, [b"{}"], 0)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_function_that_cannot_be_forked_is_measured_and_its_obstacle_named(tmp_path: Path) -> None:
    started = "import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
    (tmp_path / "app.py").write_text(started + "def handler(event, context):\n    return event\n")
    tmp_path.chmod(0o755)
    result = bench(Function("app.handler", str(tmp_path)), [], rounds=1)
    (note,) = result.notes
    assert note.startswith("not safe to fork") and "poller" in note
    assert len(result.samples[FORK]) == LAUNCHES
    assert "poller" in page(result, None)


def test_a_function_whose_init_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import no_such_module\n")
    tmp_path.chmod(0o755)
    function = Function("app.handler", str(tmp_path))
    with host(function, "--parked", "1") as one, pytest.raises(HostFault, match="init failed"):
        one.wait_parked(1)
    with pytest.raises(HostFault, match="no_such_module"):
        started_client("lamplighter.bootstrap", function, [b"{}"], 0)

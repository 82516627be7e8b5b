"""Functions that cannot be initialised: what the caller gets, and that a repaired one is served by the same host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, serving, serving_many

FINE = "def handler(event, context):\n    return 'fine'\n"
SHORT_INIT = (
    sys.executable,
    "-P",
    "-c",
    "import lamplighter.host.pool as pool; pool.INIT_LIMIT_S = 0.7\nfrom lamplighter.cli import main; main()",
)
"""The host with an init phase of 0.7 s instead of 10."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    functions: dict[str, dict[str, object]] = {
        "no_import": {"source": "import absent_module\n"},
        "no_handler": {"source": "x = 1\n"},
        "no_module": {"source": FINE, "handler": "other.handler"},
        "no_dot": {"source": FINE, "handler": "handler"},
        "builtin": {"source": FINE, "handler": "sys.handler"},
        "syntax": {"source": "def handler(:\n"},
        "raises": {"source": "raise Exception('at import')\n"},
        "exits_0": {"source": "import sys; sys.exit(0)\n"},
        "exits_3": {"source": "import sys; sys.exit(3)\n"},
        "killed": {"source": "import os; os.kill(os.getpid(), 9)\n"},
        "greedy": {"source": "hoard = bytearray(300 << 20)\n", "memory_mb": 128},
        "before": {
            "source": "import snapshot_restore_py\n"
            "@snapshot_restore_py.register_before_snapshot\n"
            "def close():\n    raise ValueError('cannot close')\n" + FINE
        },
        "after": {
            "source": "import snapshot_restore_py\n"
            "@snapshot_restore_py.register_after_restore\n"
            "def open_():\n    raise ValueError('cannot open')\n" + FINE
        },
        "fine": {"source": FINE},
    }
    directory = tmp_path_factory.mktemp("failures")
    # Fourteen templates are built one after the other, and all that time counts for the last.
    patient = {name: {"timeout_s": 30, **fields} for name, fields in functions.items()}
    with serving_many(directory, patient, ready=False) as host:
        yield host


@pytest.mark.parametrize(
    ("function", "error_type", "message"),
    [
        ("no_import", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'absent_module'"),
        ("no_handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("no_module", "Runtime.ImportModuleError", "Unable to import module 'other': No module named 'other'"),
        (
            "no_dot",
            "Runtime.MalformedHandlerName",
            "Bad handler 'handler': not enough values to unpack (expected 2, got 1)",
        ),
        ("builtin", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
        ("raises", "Exception", "at import"),
    ],
)
def test_an_init_fault_is_the_answer_of_every_invocation(
    host: Serving, function: str, error_type: str, message: str
) -> None:
    for _ in range(2):
        answer = host.invoke({}, function=function)
        assert list(answer.error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
        assert answer.error["errorMessage"] == message
        assert answer.error["errorType"] == error_type
        assert answer.error["requestId"] == ""
        assert answer.verdict == ("error", error_type)


def test_a_syntax_error_is_told_with_its_file_and_line(host: Serving) -> None:
    error = host.invoke({}, function="syntax").error
    assert error["errorType"] == "Runtime.UserCodeSyntaxError"
    assert error["errorMessage"].startswith("Syntax error in module 'app': ")
    assert error["stackTrace"][0].startswith('  File "/var/task/app.py" Line 1\n')


@pytest.mark.parametrize(
    ("function", "error_type", "reason"),
    [
        ("exits_0", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("exits_3", "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        ("killed", "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        ("greedy", "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"),
    ],
)
def test_the_end_of_the_process_during_init_is_answered_with_its_status_or_signal(
    host: Serving, function: str, error_type: str, reason: str
) -> None:
    answer = host.invoke({}, function=function)
    assert answer.error == {
        "errorType": error_type,
        "errorMessage": f"RequestId: {answer.request_id} Error: {reason}",
    }
    assert answer.verdict == ("error", error_type)


@pytest.mark.parametrize(
    ("function", "error_type", "message"),
    [
        ("before", "Runtime.BeforeSnapshotError", "cannot close"),
        ("after", "Runtime.AfterRestoreError", "cannot open"),
    ],
)
def test_a_hook_that_fails_fails_the_invocation_under_lambdas_name(
    host: Serving, function: str, error_type: str, message: str
) -> None:
    answer = host.invoke({}, function=function)
    assert answer.error["errorMessage"] == message
    assert answer.error["errorType"] == "ValueError"
    assert answer.verdict == ("error", error_type)


def test_functions_that_fail_do_not_keep_others_of_the_host_from_serving(host: Serving) -> None:
    assert host.invoke({}, function="fine").value == "fine"


def test_a_failed_init_is_reported_in_the_log_as_on_lambda(host: Serving) -> None:
    host.invoke({}, function="raises")
    assert host.output is not None
    host.output.wait(r"LAMBDA_WARNING: Unhandled exception\. The most likely cause is an issue in the function code\.")
    host.output.wait(r"\[ERROR\] Exception: at import\rTraceback \(most recent call last\):\r")
    host.output.wait(r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: error\tError Type: Exception\t?\n")


def test_a_function_that_failed_is_served_once_its_code_is_repaired(tmp_path: Path) -> None:
    with serving(tmp_path, "import absent_module\n", ready=False) as host:
        assert host.invoke({}).error["errorType"] == "Runtime.ImportModuleError"
        assert host.facts()["template"] == "failed"
        (host.code / "app.py").write_text(RUNS)
        assert host.run("result = 'repaired'").value == "repaired"
        host.wait_ready()


def test_an_invocation_that_meets_a_hanging_init_times_out_as_the_function_does(tmp_path: Path) -> None:
    hangs = "import time; time.sleep(60)\n" + FINE
    with serving(tmp_path, hangs, "--timeout", "1", ready=False, command=SHORT_INIT) as host:
        first = host.invoke({})  # meets the init phase; init is then run again, under the function's own timeout
        expected = f"RequestId: {first.request_id} Error: Task timed out after 1.00 seconds"
        assert first.error == {"errorType": "Sandbox.Timedout", "errorMessage": expected}
        assert first.verdict == ("timeout", "Sandbox.Timedout")


def test_a_function_whose_init_hung_times_out_again_and_is_served_once_repaired(tmp_path: Path) -> None:
    hangs = "import time; time.sleep(60)\n" + FINE
    with serving(tmp_path, hangs, "--timeout", "1", ready=False, command=SHORT_INIT) as host:
        host.errors.wait(r"no template: init did not end within 0\.7 s")
        assert host.output is not None
        host.output.wait(r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: timeout")
        again = host.invoke({})
        expected = f"RequestId: {again.request_id} Error: Task timed out after 1.00 seconds"
        assert again.error == {"errorType": "Sandbox.Timedout", "errorMessage": expected}
        (host.code / "app.py").write_text(FINE)
        assert host.invoke({}).value == "fine"


def test_an_init_that_is_too_slow_for_the_init_phase_may_succeed_within_the_invocation(tmp_path: Path) -> None:
    slow = "import time; time.sleep(1.2)\n" + FINE
    with serving(tmp_path, slow, "--timeout", "5", ready=False, command=SHORT_INIT) as host:
        host.errors.wait("no template")
        assert host.invoke({}).value == "fine"


def test_a_host_with_a_function_that_cannot_be_initialised_stops_cleanly_while_it_tries(tmp_path: Path) -> None:
    with serving(tmp_path, "import time; time.sleep(60)\n", ready=False) as host:
        assert host.facts()["template"] == "building"

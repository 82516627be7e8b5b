"""What callers are told when the platform ends an invocation: the service's own words."""

from __future__ import annotations

import json
import os
import signal

import pytest

from lamplighter.host import faults
from lamplighter.sandbox.native import Exit

ID = "8286a188-ba32-4475-8077-530cd35c09a9"


def _exited(status: int) -> Exit:
    return Exit(os.CLD_EXITED, status)


def _killed(number: int) -> Exit:
    return Exit(os.CLD_KILLED, number)


def test_a_timeout_names_the_configured_time_with_two_decimals() -> None:
    fault = faults.timed_out(ID, 3)
    assert json.loads(fault.body) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {ID} Error: Task timed out after 3.00 seconds",
    }
    assert (fault.error_type, fault.status) == ("Sandbox.Timedout", "timeout")


@pytest.mark.parametrize(
    ("exit_", "reason"),
    [
        (_exited(0), "Runtime exited without providing a reason"),
        (None, "Runtime exited without providing a reason"),
        (_exited(1), "Runtime exited with error: exit status 1"),
        (_exited(127), "Runtime exited with error: exit status 127"),
        (_killed(signal.SIGKILL), "Runtime exited with error: signal: killed"),
        (_killed(signal.SIGSEGV), "Runtime exited with error: signal: segmentation fault"),
        (_killed(signal.SIGABRT), "Runtime exited with error: signal: aborted"),
        (_killed(signal.SIGTERM), "Runtime exited with error: signal: terminated"),
        (Exit(os.CLD_DUMPED, signal.SIGBUS), "Runtime exited with error: signal: bus error"),
        (_killed(40), "Runtime exited with error: signal: signal 40"),
    ],
)
def test_the_end_of_a_process_is_told_by_its_status_or_its_signal(exit_: Exit | None, reason: str) -> None:
    fault = faults.exited(ID, exit_, out_of_memory=False)
    assert json.loads(fault.body) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {ID} Error: {reason}",
    }
    assert (fault.error_type, fault.status) == ("Runtime.ExitError", "error")


def test_running_out_of_memory_has_a_type_of_its_own() -> None:
    fault = faults.exited(ID, _killed(signal.SIGKILL), out_of_memory=True)
    assert json.loads(fault.body) == {
        "errorType": "Runtime.OutOfMemory",
        "errorMessage": f"RequestId: {ID} Error: Runtime exited with error: signal: killed",
    }
    assert (fault.error_type, fault.status) == ("Runtime.OutOfMemory", "error")


def test_a_response_that_is_too_large_names_the_limit() -> None:
    fault = faults.response_too_large()
    assert json.loads(fault.body) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }


def test_a_failure_of_the_host_says_why() -> None:
    fault = faults.sandbox_failure(ID, 'no "room"')
    assert json.loads(fault.body)["errorMessage"] == f'RequestId: {ID} Error: no "room"'
    assert fault.error_type == "Sandbox.Failure"


def test_the_keys_come_in_the_order_of_the_service() -> None:
    assert faults.timed_out(ID, 1).body.startswith(b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ')

"""SnapStart: what lies between init and the first event of a process that is to be restored from a snapshot.

Order, error types and exit statuses are those of awslambdaric 4.2.2. Between the two kinds of hooks this process takes
entropy of its own: every copy of the snapshot starts from the same memory and with the same pid, so nothing else tells
them apart.
"""

from __future__ import annotations

import sys

from lamplighter.bootstrap.answer import ClientFault
from lamplighter.bootstrap.client import RuntimeClient
from lamplighter.bootstrap.transport import give_up
from lamplighter.template import hooks, restore
from lamplighter.worker import errors
from lamplighter.worker.output import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BEFORE_SNAPSHOT_EXIT = 64
AFTER_RESTORE_EXIT = 65
_BEFORE_SNAPSHOT = "Runtime.BeforeSnapshotError"
_AFTER_RESTORE = "Runtime.AfterRestoreError"


def through_snapshot(client: RuntimeClient) -> int:
    """Run the hooks around the snapshot and wait for the restore; the status to end with, 0 to go on."""
    try:
        hooks.run_before_snapshot()
        client.restore_next()
    except (Exception, SystemExit) as fault:
        _report(fault, _BEFORE_SNAPSHOT, client.init_error)
        return BEFORE_SNAPSHOT_EXIT
    restore.reseed()
    if "random" in sys.modules:  # a fork reseeds it; a snapshot does not
        sys.modules["random"].seed()
    try:
        hooks.run_after_restore()
    except (Exception, SystemExit) as fault:
        _report(fault, _AFTER_RESTORE, client.restore_error)
        return AFTER_RESTORE_EXIT
    return 0


def _report(fault: BaseException, error_type: str, post: Callable[[bytes, str], None]) -> None:
    trace = errors.stack_trace_of(errors.frames_of(fault))
    payload = errors.payload(errors.message_of(fault), type(fault).__name__, trace)
    errors.log_fault(payload, output)
    try:
        post(errors.body_of(payload, output), error_type)
    except ClientFault as refusal:
        give_up(refusal)

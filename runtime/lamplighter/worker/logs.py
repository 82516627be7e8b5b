"""The root logger as Lambda sets it up: one handler, text or JSON, each record marked with the request id.

This module imports ``logging``, which costs some 10 ms with all it brings: it is imported at init at the earliest, or
when the function's own code asks for ``logging`` (:mod:`lamplighter.worker.late_logging`).
The names of the classes are AWS's, because libraries look for them among the root logger's handlers.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any

from lamplighter.worker.context import current
from lamplighter.worker.output import DEFAULT_FRAME_TYPE, JSON, TEXT, LogSink, frame_type, output

# The attributes of a record that are not the author's own. Not ``taskName`` (Python 3.12): inside an asyncio task AWS's
# formatter writes it out with the extras.
_RECORD_FIELDS = frozenset(
    logging.makeLogRecord({}).__dict__.keys() - {"taskName"} | {"aws_request_id", "tenant_id", "_frame_type"}
)

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


def configure(environ: MutableMapping[str, str]) -> None:
    """Read ``AWS_LAMBDA_LOG_FORMAT``, ``AWS_LAMBDA_LOG_LEVEL`` and the telemetry descriptor; set up the root logger.

    Called once a process, before any user code is imported.
    """
    output.configure(environ)
    set_up_root_logger(environ)


def set_up_root_logger(environ: Mapping[str, str]) -> None:
    """The root logger for the output as it is configured and the level in ``environ``.

    A level that ``logging`` does not know leaves the root logger at WARNING.
    """
    level = environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    # Lambda knows TRACE; the nearest thing here is DEBUG. In lower case it is not recognised, as on Lambda.
    level = "DEBUG" if level == "TRACE" else level.upper()

    logging.Formatter.converter = time.gmtime
    handler = (
        LambdaLoggerHandlerWithFrameType(output.sink) if output.as_json or level else LambdaLoggerHandler(output.sink)
    )
    handler.setFormatter(
        JsonFormatter()
        if output.as_json
        else logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"
        )
    )
    handler.addFilter(LambdaLoggerFilter())
    root = logging.getLogger()
    if level in logging.getLevelNamesMapping():
        root.setLevel(level)
    root.addHandler(handler)


class LambdaLoggerFilter(logging.Filter):
    """Marks each record with the invocation's ids."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = current.request_id
        record.tenant_id = current.tenant_id
        return True


class LambdaLoggerHandler(logging.Handler):
    """Hands formatted records to the sink. A record that cannot be formatted raises in the code that logged it."""

    def __init__(self, log_sink: LogSink) -> None:
        super().__init__()
        self.log_sink = log_sink

    def emit(self, record: logging.LogRecord) -> None:
        self.log_sink.log(self.format(record))


class LambdaLoggerHandlerWithFrameType(LambdaLoggerHandler):
    """The same, and tells the sink the record's level."""

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        frame = getattr(record, "_frame_type", None)
        self.log_sink.log(message, _frame_type(record.levelno, TEXT) if frame is None else frame)


class JsonFormatter(logging.Formatter):
    """One JSON object a record, with a line end. What is ``None`` is left out; extras come last.

    A level between two of the standard ones counts as the lower, here and for every later handler of the record.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.levelno = _standard_level(record.levelno)
        record.levelname = logging.getLevelName(record.levelno)
        record._frame_type = _frame_type(record.levelno, JSON)
        kind, error, trace = record.exc_info or (None, None, None)
        fields: dict[str, Any] = {
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
            "stackTrace": traceback.format_tb(trace) if kind else None,
            "errorType": kind.__name__ if kind else None,
            "errorMessage": str(error) if kind else None,
            "requestId": getattr(record, "aws_request_id", None),
            "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if kind else None,
        }
        if getattr(record, "tenant_id", None) is not None:
            fields["tenantId"] = record.tenant_id  # type: ignore[attr-defined]
        for key, value in record.__dict__.items():
            if key not in _RECORD_FIELDS and key not in fields:
                fields[key] = value
        return _encode({key: value for key, value in fields.items() if value is not None}) + "\n"


def _standard_level(level: int) -> int:
    return min(logging.CRITICAL, max(logging.NOTSET, level)) // 10 * 10


def _frame_type(level: int, form: int) -> int:
    step = _standard_level(level) // 10
    # The frames' levels have a gap where NOTSET ends and DEBUG begins.
    return frame_type(step + 1, form) if step else DEFAULT_FRAME_TYPE & ~1 | form

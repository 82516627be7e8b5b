"""The ranges, patterns and reserved names of a function's configuration, each with its source.

Numbers only, and nothing to import: the command line shows the same ranges in its help as the checks hold.
"AWS documents" means the *Lambda quotas* page of the Lambda developer guide or the ``CreateFunction`` page of the
Lambda API reference. Where Lambda has no such setting, the range is this project's own, and says why.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Range(NamedTuple):
    """Whole numbers from ``low`` to ``high``, both allowed; ``default`` where nothing is configured."""

    low: int
    high: int
    default: int
    unit: str

    def holds(self, value: int) -> bool:
        """Is ``value`` inside the range?"""
        return self.low <= value <= self.high


MEMORY_MB: Final = Range(128, 10_240, 128, "MB")
"""AWS documents 128 MB to 10,240 MB in steps of 1 MB, default 128. (The API's own model goes to 32,768, which only
functions on managed instances may use.)"""

TIMEOUT_S: Final = Range(1, 900, 3, "seconds")
"""AWS documents at most 900 seconds (15 minutes), default 3. (The API's own model goes to 5,400, for managed instances
only.)"""

EPHEMERAL_STORAGE_MB: Final = Range(512, 10_240, 512, "MB")
"""``/tmp``: AWS documents 512 MB to 10,240 MB in steps of 1 MB, default 512."""

CONCURRENCY: Final = Range(1, 10_000, 100, "environments")
"""Execution environments at most. Lambda's default is 1,000 for all functions of an account in a region together; this
is one machine and one function of several, hence a tenth of it. The highest is far above what one machine's memory
holds: it is there to catch a slip of the finger."""

PARKED: Final = Range(0, CONCURRENCY.high, 1, "environments")
"""Environments kept ready that were never invoked; never more than the function's concurrency. Like Lambda's
provisioned concurrency, which may not be more than the reserved concurrency either."""

QUEUE: Final = Range(0, 100_000, 0, "invocations")
"""Invocations that may wait for a busy environment. Lambda answers 429 at once, hence the default 0. The highest
bounds the host's memory for what waits, not a promise that so many are answered in time."""

PORT: Final = Range(0, 65_535, 9000, "")
"""TCP ports; 0 asks the kernel for any free one."""

IDLE_TIMEOUT_S: Final = 300.0
"""Seconds without an invocation after which an environment is shut down. AWS does not document
the service's own; five minutes is this project's choice."""

LAYERS_MAX: Final = 5
"""AWS documents five layers a function."""

ENVIRONMENT_BYTES_MAX: Final = 4096
"""AWS documents 4 KB for all environment variables together. The service's refusal quotes the string it measured: the
variables as one JSON object without spaces."""

EVENT_BYTES_MAX: Final = 6 * 1024 * 1024
"""AWS documents 6 MB for the payload of a synchronous invocation; a recorded warm-up event can be no larger."""

CLIENT_CONTEXT_BYTES_MAX: Final = 3583
"""AWS documents "up to 3,583 bytes of base64-encoded data" for the client context (``Invoke`` API reference)."""

NAME_PATTERN: Final = re.compile(r"[a-zA-Z0-9-_]{1,64}")
"""AWS documents 64 characters for the bare name, from this set."""
# The handler travels in an environment variable, where neither NUL nor a lone surrogate (an undecodable byte) can be.
HANDLER_PATTERN: Final = re.compile("[^\\s\0\ud800-\udfff]{1,128}", re.ASCII)
"""AWS documents up to 128 characters, none of them white space. Whether it names a module and a function only shows at
init, on the service as here."""
ENVIRONMENT_KEY_PATTERN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
"""AWS documents a letter, then at least one letter, digit or underscore."""
REGION_PATTERN: Final = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
"""The form of AWS's region names, such as ``us-east-1``, ``us-gov-west-1``, ``eusc-de-east-1``."""
ACCOUNT_PATTERN: Final = re.compile(r"[0-9]{12}")
"""An AWS account: twelve digits, zeros in front included."""

DEFAULT_NAME: Final = "function"
"""The name AWS's own emulator serves its single function under."""
DEFAULT_LISTEN: Final = f"127.0.0.1:{PORT.default}"
"""This machine only: the API is not authenticated."""
DEFAULT_REGION: Final = "us-east-1"
DEFAULT_TMP_STORE: Final = "/var/tmp"  # noqa: S108 - what lies in it has no name
"""On disk on every system, unlike /tmp and /run (file-hierarchy standard: preserved between reboots)."""
TMP_IN_MEMORY: Final = "memory"
DEFAULT_ACCOUNT: Final = "123456789012"
"""The account AWS's documentation uses in its examples."""

NETWORKS: Final = ("host", "none")
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
"""Lambda's application log levels (``LoggingConfig`` of the API reference), least severe first."""
REPORTS: Final = ("lambda", "full")
"""``lambda``: the REPORT line as the service writes it. ``full``: also this host's stage timers and enforcement."""
ENFORCED: Final = (
    "memory",
    "cpu",
    "processes",
    "files",
    "timeout",
    "tmp",
    "pid",
    "mount",
    "ipc",
    "network",
    "uid",
    "seccomp",
    "landlock",
)
"""What a host tells the enforcement of, and may be told to require."""

RESERVED_KEYS: Final = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_METADATA_API",
        "AWS_LAMBDA_METADATA_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
    }
)
"""Variables Lambda sets itself and refuses in a function's configuration (developer guide, *Defined runtime
environment variables*)."""

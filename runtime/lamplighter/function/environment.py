"""The environment variables of a sandbox, as a Lambda Python runtime has them.

Recorded on the service (python3.14, February 2026). Left out here, because nothing would stand behind them:
``AWS_LAMBDA_RUNTIME_API`` (only where the environment's transport is HTTP; the host adds it), the X-Ray daemon's
addresses (there is no daemon), and ``PYTHONPATH`` (the host decides how the interpreter finds the runtime). The log
stream's name differs from environment to environment: see :func:`log_stream_name`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from lamplighter.function.config import FunctionConfig
from lamplighter.function.limits import ENVIRONMENT_KEY_PATTERN, RESERVED_KEYS

TASK_ROOT = "/var/task"
RUNTIME_DIR = "/var/runtime"
LAYER_ROOT = "/opt"

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""What ``pass_credentials`` hands on, as far as the host has it. Long-lived keys come without a session token."""

_OF_THE_PROCESS = frozenset({"OLDPWD", "PWD", "PYTHONPATH", "SHLVL"})
"""Variables that tell of the host's own process: the shell's, and where its Python looks for modules, which a function
finds without it."""


def base_environment(
    config: FunctionConfig,
    *,
    region: str,
    python_version: str,
    task_root: str = TASK_ROOT,
    layer_roots: Sequence[str] = (LAYER_ROOT,),
    host_environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The variables that all environments of a function have in common, the function's own included.

    ``python_version`` is ``"3.13"``. ``task_root`` is where the code is seen from inside the sandbox, ``layer_roots``
    where the layers are, first to be searched first: other places than Lambda's where the host cannot mount. The
    function's own variables win over the ones Lambda lets a function set (``PATH``, ``LANG``, ``TZ`` and so on); the
    reserved ones cannot be among them. Raises ValueError for a ``python_version`` of another form.
    """
    if not re.fullmatch(r"3\.[0-9]+", python_version):
        raise ValueError(f"the Python version is {python_version!r}; allowed: major and minor, such as '3.13'")
    variables = {
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python_version}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": config.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{config.name}",
        "AWS_REGION": region,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_RUNTIME_DIR": RUNTIME_DIR,
        "LAMBDA_TASK_ROOT": task_root,
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "LD_LIBRARY_PATH": ":".join(
            (
                "/var/lang/lib:/lib64:/usr/lib64",
                f"{RUNTIME_DIR}:{RUNTIME_DIR}/lib",
                f"{task_root}:{task_root}/lib",
                *(f"{root}/lib" for root in layer_roots),
            )
        ),
        "PATH": ":".join(("/var/lang/bin:/usr/local/bin:/usr/bin/:/bin", *(f"{root}/bin" for root in layer_roots))),
        "PWD": task_root,
        "SHLVL": "0",
        "TZ": ":UTC",
        "_HANDLER": config.handler,
    }
    if config.log_format == "json":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
    if config.log_level:
        variables["AWS_LAMBDA_LOG_LEVEL"] = config.log_level
    if config.pass_credentials:
        variables |= {name: host_environment[name] for name in CREDENTIALS if host_environment.get(name)}
    else:
        # Without credentials an SDK asks the instance metadata service next: seconds of waiting at init where there is
        # none, and the machine's own role where there is one. A Lambda sandbox has no such service.
        variables["AWS_EC2_METADATA_DISABLED"] = "true"
    if config.pass_environment:
        variables |= passed(host_environment)
    return variables | config.environment


def passed(host_environment: Mapping[str, str]) -> dict[str, str]:
    """What ``pass_environment`` hands on: variables a function could have been configured with, in name.

    Not those that Lambda reserves (credentials, region, the runtime's own) nor those that tell of the host's process.
    """
    return {
        name: value
        for name, value in host_environment.items()
        if ENVIRONMENT_KEY_PATTERN.fullmatch(name) and name not in RESERVED_KEYS and name not in _OF_THE_PROCESS
    }


def log_stream_name(now: datetime, version: str, unique: str) -> str:
    """The name of an environment's log stream, as Lambda forms it: ``2026/11/22/[$LATEST]<32 hex digits>``.

    ``now`` is aware of its zone (the date is UTC's), ``unique`` 32 lower-case hex digits (``uuid4().hex``). Raises
    ValueError for anything else.
    """
    if now.tzinfo is None:
        raise ValueError(f"the time {now.isoformat()} has no zone; allowed: an aware datetime")
    if not re.fullmatch("[0-9a-f]{32}", unique):
        raise ValueError(f"the unique part is {unique!r}; allowed: 32 lower-case hex digits")
    return f"{now.astimezone(UTC):%Y/%m/%d}/[{version}]{unique}"

"""A function's configuration and the host's: made once, checked whole, never changed.

:func:`function_config` and :func:`load_config` are the only makers that check. Constructing the structs directly is
for code that already holds checked values.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import msgspec

from lamplighter.function.check import ConfigError, Fields
from lamplighter.function.limits import (
    ACCOUNT_PATTERN,
    CONCURRENCY,
    DEFAULT_ACCOUNT,
    DEFAULT_LISTEN,
    DEFAULT_NAME,
    DEFAULT_REGION,
    DEFAULT_TMP_STORE,
    ENFORCED,
    EPHEMERAL_STORAGE_MB,
    HANDLER_PATTERN,
    IDLE_TIMEOUT_S,
    LAYERS_MAX,
    LOG_FORMATS,
    LOG_LEVELS,
    MEMORY_MB,
    NAME_PATTERN,
    NETWORKS,
    PARKED,
    PORT,
    QUEUE,
    REGION_PATTERN,
    REPORTS,
    TIMEOUT_S,
    TMP_IN_MEMORY,
)

__all__ = [
    "ConfigError",
    "FunctionConfig",
    "HostConfig",
    "LogFormat",
    "Report",
    "function_config",
    "host_config",
    "legal_name",
    "load_config",
    "parse_listen",
]

LogFormat = Literal["text", "json"]
Network = Literal["host", "none"]
Report = Literal["lambda", "full"]

_NAME_ALLOWED = "1 to 64 letters, digits, hyphens and underscores"
_LISTEN_ALLOWED = f"HOST:PORT with a port from {PORT.low} to {PORT.high}, such as 127.0.0.1:9000 or [::1]:9000"
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class FunctionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One function as it is served. The sources of the ranges stand in :mod:`lamplighter.function.limits`."""

    name: str = DEFAULT_NAME
    """1 to 64 of ``[a-zA-Z0-9-_]``."""
    handler: str
    """1 to 128 characters without white space: ``module.function``. A handler of another form fails at init, as on
    the service."""
    code: str
    """The directory the handler is imported from, absolute."""
    layers: tuple[str, ...] = ()
    """Up to 5 directories laid over ``/opt`` in this order, absolute."""
    memory_mb: int = MEMORY_MB.default
    """MB, 128 to 10,240."""
    timeout_s: int = TIMEOUT_S.default
    """Seconds an invocation may take, 1 to 900."""
    ephemeral_storage_mb: int = EPHEMERAL_STORAGE_MB.default
    """MB of ``/tmp``, 512 to 10,240."""
    environment: dict[str, str] = {}
    """The function's own variables: at most 4,096 bytes together, none that Lambda reserves."""
    parked: int = PARKED.default
    """Environments kept ready that were never invoked: 0 to ``concurrency``."""
    concurrency: int = CONCURRENCY.default
    """Environments at most, 1 to 10,000."""
    queue: int = QUEUE.default
    """Invocations that may wait once ``concurrency`` is reached, 0 to 100,000; with 0 the answer is 429 at once."""
    idle_timeout_s: float = IDLE_TIMEOUT_S
    """Seconds above 0 without an invocation after which an environment is shut down."""
    fresh_per_invocation: bool = False
    """Give every invocation an environment that was never invoked."""
    warm_up: tuple[str, ...] = ()
    """Files with one JSON event each, absolute, that the template runs through the handler before it is frozen."""
    log_format: LogFormat = "text"
    """How the function's log records are written."""
    log_level: str = ""
    """Least severe level logged, TRACE to FATAL; empty leaves Lambda's default."""
    network: Network = "host"
    """``host``: the host's. ``none``: a loopback interface of each environment's own, and nothing else."""
    pass_credentials: bool = False
    """Give the function the AWS credentials found in the host's own environment variables. Otherwise it has none."""
    pass_environment: bool = False
    """Give the function the host's other environment variables too, as the emulator does in a container: what
    :func:`lamplighter.function.environment.passed` lets through. They do not count towards the 4,096 bytes."""


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one host serves, and where."""

    functions: tuple[FunctionConfig, ...]
    """At least one; no two of the same name."""
    listen_host: str = "127.0.0.1"
    """A name or an address; IPv6 without its brackets."""
    listen_port: int = PORT.default
    """0 to 65,535; 0 is any free port."""
    report: Report = "lambda"
    """How much the REPORT line says."""
    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    """Twelve digits; region and account make up the functions' ARNs."""
    log_format: LogFormat = "text"
    """How the host's own lines are written."""
    tmp_store: str = DEFAULT_TMP_STORE
    """The directory, absolute, on whose file system the functions' /tmp lie; ``memory`` for a tmpfs each."""
    require: tuple[str, ...] = ()
    """Limits (of :data:`lamplighter.function.limits.ENFORCED`) that must be held exactly; otherwise the host does not
    start."""
    allow_unisolated: bool = False
    """Let root serve where functions cannot be isolated: they then see the host's files and processes."""


FUNCTION_FIELDS = FunctionConfig.__struct_fields__
HOST_FIELDS = ("listen", "report", "region", "account", "log_format", "tmp_store", "require", "allow_unisolated")


def function_config(directory: str | os.PathLike[str] = ".", /, **fields: object) -> FunctionConfig:
    """Check ``fields`` (named as in :class:`FunctionConfig`) and make a function of them.

    ``handler`` is needed; ``code`` is ``directory`` by default, and relative paths start there. Lists may be lists or
    tuples, paths strings or path objects. Raises :class:`ConfigError` with every violation.
    """
    violations: list[str] = []
    config = _function(f"function {fields.get('name', DEFAULT_NAME)!r}", fields, os.fspath(directory), violations)
    if violations:
        raise ConfigError(violations)
    return config


def host_config(functions: Sequence[FunctionConfig], **fields: object) -> HostConfig:
    """Check a host's ``fields`` (named as in :class:`HostConfig`, but for one ``listen``) and make it.

    Raises :class:`ConfigError` with every violation, also when there is no function or one name appears twice.
    """
    violations: list[str] = []
    config = _host("host", functions, fields, violations)
    names = [function.name for function in functions]
    if not names:
        violations.append("host: there is no function to serve; allowed: at least one")
    violations += [
        f"host: the function name {name!r} is given {names.count(name)} times; allowed: once"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if violations:
        raise ConfigError(violations)
    return config


def load_config(path: str | os.PathLike[str], **host_fields: object) -> HostConfig:
    """Read a ``lamplighter.toml``: one ``[functions.NAME]`` table a function and, if wanted, ``[host]``.

    Fields are named as in :class:`FunctionConfig` (the name is the table's), relative paths start at the file's
    directory. ``host_fields`` take the place of what ``[host]`` says. Raises :class:`ConfigError` when the file cannot
    be read or is not TOML, and otherwise with every violation in it.
    """
    shown = os.fspath(path)
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as fault:
        raise ConfigError([f"{shown}: cannot be read: {fault.strerror}"]) from fault
    except (ValueError, RecursionError) as fault:
        raise ConfigError([f"{shown}: is not TOML: {fault}"]) from fault

    violations: list[str] = []
    tables = Fields(shown, document, "")
    tables.only(("host", "functions"))
    host = tables.table("host")
    named = tables.table("functions")
    if not named and not tables.violations:
        tables.refuse("there is no function to serve; allowed: at least one table [functions.NAME]")
    directory = str(Path(path).absolute().parent)
    functions: list[FunctionConfig] = []
    for name, fields in named.items():
        where = f"{shown}: function {name!r}"
        if not isinstance(fields, dict):
            violations.append(f"{where} is {fields!r}; allowed: a table of fields")
            continue
        if "name" in fields:
            violations.append(f"{where}: name stands inside its table; allowed: only in the table's header")
        functions.append(_function(where, {**fields, "name": name}, directory, violations))
    config = _host(f"{shown}: [host]", functions, {**host, **host_fields}, violations, directory)
    if tables.violations or violations:
        raise ConfigError([*tables.violations, *violations])
    return config


def legal_name(directory: str | os.PathLike[str]) -> str:
    """A function name made of a directory's own: other characters become hyphens; ``function`` where nothing is left.

    >>> legal_name("/srv/my orders")
    'my-orders'
    """
    base = os.path.basename(os.path.abspath(directory))
    return re.sub("[^a-zA-Z0-9-_]+", "-", base).strip("-")[:64] or DEFAULT_NAME


def parse_listen(listen: object) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT`` into a host (no brackets) and a port, 0 to 65,535. Raises ValueError.

    There is no short form without a host: what listens on every interface should say so (``0.0.0.0``, ``[::]``).
    """
    refusal = f"{listen!r}; allowed: {_LISTEN_ALLOWED}"
    host, colon, port = listen.rpartition(":") if isinstance(listen, str) else ("", "", "")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or not PORT.holds(int(port)):
        raise ValueError(refusal)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as fault:
            raise ValueError(refusal) from fault
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError(refusal)
    return host, int(port)


def _function(where: str, given: Mapping[str, object], directory: str, violations: list[str]) -> FunctionConfig:
    fields = Fields(where, given, directory)
    fields.only(FUNCTION_FIELDS)
    concurrency = fields.whole("concurrency", CONCURRENCY)
    config = FunctionConfig(
        name=fields.text("name", NAME_PATTERN, _NAME_ALLOWED, DEFAULT_NAME),
        handler=fields.text(
            "handler", HANDLER_PATTERN, "1 to 128 characters without white space, such as 'app.handler'"
        ),
        code=fields.folder("code", "."),
        layers=fields.folders("layers", LAYERS_MAX),
        memory_mb=fields.whole("memory_mb", MEMORY_MB),
        timeout_s=fields.whole("timeout_s", TIMEOUT_S),
        ephemeral_storage_mb=fields.whole("ephemeral_storage_mb", EPHEMERAL_STORAGE_MB),
        environment=fields.variables("environment"),
        parked=fields.whole("parked", PARKED, concurrency, ", no more than concurrency"),
        concurrency=concurrency,
        queue=fields.whole("queue", QUEUE),
        idle_timeout_s=fields.seconds("idle_timeout_s", IDLE_TIMEOUT_S),
        fresh_per_invocation=fields.flag("fresh_per_invocation"),
        warm_up=fields.event_files("warm_up"),
        log_format=cast("LogFormat", fields.choice("log_format", LOG_FORMATS, "text")),
        log_level=fields.choice("log_level", ("", *LOG_LEVELS), ""),
        network=cast("Network", fields.choice("network", NETWORKS, "host")),
        pass_credentials=_credentials(fields),
        pass_environment=fields.flag("pass_environment"),
    )
    violations += fields.violations
    return config


def _credentials(fields: Fields) -> bool:
    asked = fields.flag("pass_credentials")
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not os.environ.get(name)]
    if asked and missing:
        fields.refuse(
            f"pass_credentials is True and the host's environment has no {' and no '.join(missing)}; "
            "allowed: only where both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set"
        )
    return asked


def _host(
    where: str,
    functions: Sequence[FunctionConfig],
    given: Mapping[str, object],
    violations: list[str],
    directory: str = "",
) -> HostConfig:
    fields = Fields(where, given, directory)
    fields.only(HOST_FIELDS)
    listen_host, listen_port = "", 0
    try:
        listen_host, listen_port = parse_listen(given.get("listen", DEFAULT_LISTEN))
    except ValueError as fault:
        fields.refuse(f"listen is {fault}")
    config = HostConfig(
        functions=tuple(functions),
        listen_host=listen_host,
        listen_port=listen_port,
        report=cast("Report", fields.choice("report", REPORTS, "lambda")),
        region=fields.text("region", REGION_PATTERN, "a region's name, such as 'us-east-1'", DEFAULT_REGION),
        account=fields.text("account", ACCOUNT_PATTERN, "a string of 12 digits", DEFAULT_ACCOUNT),
        log_format=cast("LogFormat", fields.choice("log_format", LOG_FORMATS, "text")),
        tmp_store=_tmp_store(fields, given),
        require=fields.words("require", ENFORCED),
        allow_unisolated=fields.flag("allow_unisolated"),
    )
    violations += fields.violations
    return config


def _tmp_store(fields: Fields, given: Mapping[str, object]) -> str:
    store = given.get("tmp_store", DEFAULT_TMP_STORE)
    # The default need not be there: it only matters on a host that can mount, which says so if it is missing.
    return str(store) if store in (TMP_IN_MEMORY, DEFAULT_TMP_STORE) else fields.folder("tmp_store", DEFAULT_TMP_STORE)

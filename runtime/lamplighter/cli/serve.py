"""``lamplighter serve``: from a command line or a ``lamplighter.toml`` to a :class:`HostConfig`, and on to the host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lamplighter.cli.grouping import GroupedCommand, GroupedOption, limit_names
from lamplighter.function.limits import (
    CONCURRENCY,
    DEFAULT_ACCOUNT,
    DEFAULT_LISTEN,
    DEFAULT_REGION,
    DEFAULT_TMP_STORE,
    ENFORCED,
    ENVIRONMENT_BYTES_MAX,
    EPHEMERAL_STORAGE_MB,
    IDLE_TIMEOUT_S,
    LAYERS_MAX,
    LOG_FORMATS,
    LOG_LEVELS,
    MEMORY_MB,
    NETWORKS,
    PARKED,
    QUEUE,
    REPORTS,
    TIMEOUT_S,
    Range,
)

if TYPE_CHECKING:
    from lamplighter.function.config import HostConfig

_EPILOG = """\b
Examples:
  Serve handler() of ./src/app.py as the function "orders", with 512 MB:
    lamplighter serve app.handler --code src --function-name orders --memory 512
  Serve every function of a file, on any free port:
    lamplighter serve --config lamplighter.toml --listen 127.0.0.1:0

\b
lamplighter.toml has one table a function; its fields, and those of [host]:
  [host]
  listen = "127.0.0.1:9000"
  [functions.orders]
  handler = "app.handler"
  code = "src"                      # relative to the file
  memory_mb = 512                   # timeout_s, ephemeral_storage_mb, idle_timeout_s
  environment = { TABLE = "orders" }
  layers = ["layers/pillow"]        # warm_up, parked, concurrency, queue, ...

Exit status: 0 after an orderly stop, 1 where the host cannot start (what it needs or was told to require is not there;
lamplighter doctor shows what is), 2 for a configuration that cannot be served.
"""

_HOST_OPTIONS = {"listen", "report", "region", "account", "tmp_store", "require", "allow_unisolated"}
"""Options that are the host's, not a function's: beside ``--config`` they take the place of what its file says."""


def _option(group: str, *names: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(*names, cls=GroupedOption, group=group, **settings)


def _whole(
    group: str, name: str, allowed: Range, help_text: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option for a whole number, whose help shows its range and default."""
    return _option(
        group,
        name,
        type=click.IntRange(allowed.low, allowed.high),
        default=allowed.default,
        show_default=True,
        metavar="N" if allowed.unit not in {"MB", "seconds"} else allowed.unit.upper(),
        help=help_text,
    )


@click.command("serve", cls=GroupedCommand, epilog=_EPILOG)
@click.argument("handler", required=False)
@_option("Function", "--config", metavar="FILE", help="Serve the functions of a lamplighter.toml instead of HANDLER.")
@_option(
    "Function", "--code", default=".", show_default=True, metavar="DIR", help="Directory HANDLER is imported from."
)
@_option(
    "Function",
    "--function-name",
    metavar="NAME",
    help='Name to invoke it by: 1 to 64 letters, digits, "-" and "_".  [default: the name of the --code directory, '
    'other characters made "-"; "function" if nothing is left]',
)
@_option(
    "Function",
    "--layer",
    multiple=True,
    metavar="DIR",
    help=f"Layer, an unpacked directory laid over /opt. Can be repeated, up to {LAYERS_MAX} times; later ones win.",
)
@_option(
    "Function",
    "--env",
    multiple=True,
    metavar="KEY=VALUE",
    help=f"Environment variable of the function. Can be repeated; {ENVIRONMENT_BYTES_MAX:,} bytes in all.",
)
@_option(
    "Function",
    "--pass-credentials",
    is_flag=True,
    help="Hand AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of this shell to the function. "
    "[default: it has no credentials]",
)
@_option(
    "Function",
    "--pass-environment",
    is_flag=True,
    help="Hand this shell's other variables to the function, but those that Lambda reserves, as the emulator does. "
    "[default: it has --env and nothing else]",
)
@_whole("Limits", "--memory", MEMORY_MB, "Memory; CPU comes with it, one vCPU per 1,769 MB.")
@_whole("Limits", "--timeout", TIMEOUT_S, "Longest invocation.")
@_whole("Limits", "--ephemeral-storage", EPHEMERAL_STORAGE_MB, "Size of /tmp.")
@_option(
    "Limits",
    "--network",
    type=click.Choice(NETWORKS),
    default="host",
    show_default=True,
    help="The host's network, or for each environment a loopback interface of its own and nothing else.",
)
@_whole("Environments", "--concurrency", CONCURRENCY, "Execution environments at most.")
@_whole("Environments", "--parked", PARKED, "Environments kept ready and never invoked; no more than --concurrency.")
@_whole("Environments", "--queue", QUEUE, "Invocations that may wait when all environments are busy; 0 answers 429.")
@_option(
    "Environments",
    "--idle-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=IDLE_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Time without an invocation after which an environment is shut down.",
)
@_option("Environments", "--fresh-per-invocation", is_flag=True, help="Never invoke an environment twice.")
@_option(
    "Environments",
    "--warm-up",
    multiple=True,
    metavar="EVENT.json",
    help="Recorded event to run through HANDLER once, before anything is served. Can be repeated.",
)
@_option(
    "Host",
    "--listen",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve the Invoke API; [::1]:9000 for IPv6, port 0 for any free one.",
)
@_option(
    "Host",
    "--tmp-store",
    default=DEFAULT_TMP_STORE,
    show_default=True,
    metavar="DIR",
    help='Directory on whose file system each /tmp lies; "memory" keeps them in memory, and counts them as it.',
)
@_option("Host", "--region", default=DEFAULT_REGION, show_default=True, metavar="R", help="AWS region to appear in.")
@_option("Host", "--account", default=DEFAULT_ACCOUNT, show_default=True, metavar="ID", help="AWS account, 12 digits.")
@_option(
    "Host",
    "--require",
    default="",
    callback=limit_names,
    metavar="LIMIT,...",
    help=f"Do not start where one of these is only watched or not held: {', '.join(ENFORCED)}. "
    "lamplighter doctor shows what holds each here.",
)
@_option(
    "Host",
    "--allow-unisolated",
    is_flag=True,
    help="As root, serve even where functions cannot be isolated, as in a plain container: they then see the host's "
    "files and processes, and their limits are only watched.",
)
@_option(
    "Logs",
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    show_default=True,
    help="Form of the function's log records and of the host's own lines.",
)
@_option(
    "Logs",
    "--log-level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    metavar="LEVEL",
    help=f"Least severe record to log: {', '.join(LOG_LEVELS)}.  [default: WARN, as the root logger has it]",
)
@_option(
    "Logs",
    "--report",
    type=click.Choice(REPORTS),
    default="lambda",
    show_default=True,
    help="REPORT line: as the service writes it, or in full with this host's stage timers and enforcement.",
)
@click.pass_context
def command(context: click.Context, /, handler: str | None, config: str | None, **options: Any) -> None:
    """Serve the Lambda Invoke API on this machine.

    HANDLER is the function to serve, as module.function. One HANDLER is described by the options; several functions
    by a file given with --config.
    """
    from lamplighter.function.config import ConfigError  # noqa: PLC0415 - msgspec and the host stay out of --help

    try:
        if config is not None:
            served = _from_file(context, handler, config, options)
        elif handler is not None:
            served = _from_options(handler, options)
        else:
            raise click.UsageError("Give a HANDLER such as app.handler, or --config FILE.")
    except ConfigError as fault:
        for line in fault.violations:
            click.echo(f"lamplighter: {line}", err=True)
        sys.exit(2)

    from lamplighter.host.server import run  # noqa: PLC0415 - as above

    sys.exit(run(served))


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _from_file(context: click.Context, handler: str | None, path: str, options: dict[str, Any]) -> HostConfig:
    from lamplighter.function.config import load_config  # noqa: PLC0415 - as above

    if handler is not None:
        raise click.UsageError(f"HANDLER ({handler}) and --config ({path}) exclude each other.")
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    misplaced = sorted(_spelled(name) for name in given - _HOST_OPTIONS)
    if misplaced:
        raise click.UsageError(
            f"{', '.join(misplaced)} and --config exclude each other: say it in {path}. "
            f"Only {', '.join(sorted(_spelled(name) for name in _HOST_OPTIONS))} may be given beside it."
        )
    return load_config(path, **{name: options[name] for name in given})


def _from_options(handler: str, options: dict[str, Any]) -> HostConfig:
    from lamplighter.function.config import (  # noqa: PLC0415 - as above
        function_config,
        host_config,
        legal_name,
    )

    name = options["function_name"]
    if name is None:
        name = legal_name(options["code"])
        if options["log_format"] == "text":
            click.echo(f"lamplighter: serving {handler} as function {name!r}; --function-name gives another", err=True)
    function = function_config(
        name=name,
        handler=handler,
        code=options["code"],
        layers=options["layer"],
        memory_mb=options["memory"],
        timeout_s=options["timeout"],
        ephemeral_storage_mb=options["ephemeral_storage"],
        environment=_variables(options["env"]),
        parked=options["parked"],
        concurrency=options["concurrency"],
        queue=options["queue"],
        idle_timeout_s=options["idle_timeout"],
        fresh_per_invocation=options["fresh_per_invocation"],
        warm_up=options["warm_up"],
        network=options["network"],
        log_format=options["log_format"],
        log_level=options["log_level"] or "",
        pass_credentials=options["pass_credentials"],
        pass_environment=options["pass_environment"],
    )
    return host_config([function], log_format=options["log_format"], **{name: options[name] for name in _HOST_OPTIONS})


def _variables(settings: tuple[str, ...]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"{setting!r} has no '='; allowed: KEY=VALUE.", param_hint="'--env'")
        if key in variables:
            raise click.BadParameter(f"{key!r} is given twice; allowed: once.", param_hint="'--env'")
        variables[key] = value
    return variables

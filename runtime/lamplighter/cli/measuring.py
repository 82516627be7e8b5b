"""What ``bench`` and ``profile`` have in common: the options that name a function and its events, and their files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lamplighter.function.limits import ENVIRONMENT_BYTES_MAX, EVENT_BYTES_MAX, LAYERS_MAX

if TYPE_CHECKING:
    from rich.console import Console

    from lamplighter.measure.hosting import Function

_OPTIONS = (
    click.argument("handler"),
    click.option("--code", default=".", show_default=True, metavar="DIR", help="Directory HANDLER is imported from."),
    click.option(
        "--event",
        "events",
        multiple=True,
        metavar="FILE",
        help="File with one JSON event. Can be repeated. [default: {}]",
    ),
    click.option("--layer", multiple=True, metavar="DIR", help=f"Layer, an unpacked directory; up to {LAYERS_MAX}."),
    click.option(
        "--env",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Variable of the function; {ENVIRONMENT_BYTES_MAX:,} bytes in all.",
    ),
    click.option("--json", "json_file", metavar="FILE", help="Write every figure there as JSON."),
    click.option("--html", "html_file", metavar="FILE", help="Write one self-contained page there, with charts."),
)


def function_options(command: Callable[..., None]) -> Callable[..., None]:
    """HANDLER, ``--code``, ``--event``, ``--layer``, ``--env``, ``--json`` and ``--html``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def described(handler: str, code: str, layers: tuple[str, ...], env: tuple[str, ...]) -> Function:
    """The function, checked as ``serve`` checks it; a fault ends the program with status 2."""
    from lamplighter.function.config import ConfigError, function_config  # noqa: PLC0415 - stays out of --help
    from lamplighter.measure.hosting import Function  # noqa: PLC0415 - as above

    variables = dict(setting.partition("=")[::2] for setting in env)
    try:
        config = function_config(handler=handler, code=code, layers=layers, environment=variables)
    except ConfigError as fault:
        for line in fault.violations:
            click.echo(f"lamplighter: {line}", err=True)
        sys.exit(2)
    return Function(config.handler, config.code, config.layers, config.environment)


def read_events(files: tuple[str, ...]) -> list[bytes]:
    """The events in ``files``; one that cannot be read or is no JSON ends the program with status 2."""
    events = []
    for name in files:
        try:
            event = Path(name).read_bytes()
            json.loads(event)
        except (OSError, ValueError) as fault:
            raise click.BadParameter(f"{name}: {fault}", param_hint="'--event'") from fault
        if len(event) > EVENT_BYTES_MAX:
            raise click.BadParameter(f"{name} has over {EVENT_BYTES_MAX:,} bytes.", param_hint="'--event'")
        events.append(event)
    return events


def written(json_file: str | None, html_file: str | None, plain: dict[str, Any], page: str) -> None:
    """Write the files that were asked for; one that cannot be written ends the program with status 2."""
    for name, text in ((json_file, json.dumps(plain, indent=2) + "\n"), (html_file, page)):
        if name is None:
            continue
        try:
            Path(name).write_text(text, encoding="utf-8")
        except OSError as fault:
            click.echo(f"lamplighter: {name} cannot be written: {fault.strerror}", err=True)
            sys.exit(2)
        click.echo(f"lamplighter: wrote {name}", err=True)


def wide() -> Console:
    """Standard output: as wide as the terminal, and wide enough where there is none."""
    from rich.console import Console  # noqa: PLC0415 - stays out of --help

    return Console() if sys.stdout.isatty() else Console(width=160)


def failed(fault: Exception) -> NoReturn:
    """What kept the function from being measured; status 1."""
    click.echo(f"lamplighter: {fault}", err=True)
    sys.exit(1)

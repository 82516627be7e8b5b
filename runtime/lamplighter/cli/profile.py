"""``lamplighter profile``: what a function's init spends, import by import, and which imports its events never used."""

from __future__ import annotations

import click

from lamplighter.cli.measuring import described, failed, function_options, read_events, wide, written

_EPILOG = """\b
Example:
  lamplighter profile app.handler --code src --event event.json --html init.html

\b
An import is marked unused when no code of it, nor of anything it brought in, ran while the handler
worked on the events. Modules that only give constants look the same. Without --event nothing is marked.
"""


@click.command("profile", epilog=_EPILOG)
@function_options
@click.option(
    "--top", type=click.IntRange(1, 10_000), default=25, show_default=True, metavar="N", help="Rows to print."
)
def command(
    handler: str,
    code: str,
    events: tuple[str, ...],
    layer: tuple[str, ...],
    env: tuple[str, ...],
    json_file: str | None,
    html_file: str | None,
    top: int,
) -> None:
    """Show what importing HANDLER costs, by module, in milliseconds and MB.

    A fresh Python imports it once with a clock in hand, then runs the events through it.
    """
    recorded = read_events(events)
    function = described(handler, code, layer, env)

    from rich.table import Table  # noqa: PLC0415 - stays out of --help

    from lamplighter.measure.drawing import figure  # noqa: PLC0415 - as above
    from lamplighter.measure.hosting import HostFault  # noqa: PLC0415 - as above
    from lamplighter.measure.page import page  # noqa: PLC0415 - as above
    from lamplighter.measure.profile import profile  # noqa: PLC0415 - as above

    try:
        found = profile(function, recorded)
    except HostFault as fault:
        failed(fault)
    for line in found.faults:
        click.echo(f"lamplighter: {line}", err=True)
    imports = found.imports()
    title = f"{handler}: {figure(found.total_ms)} ms, {len(imports)} modules"
    shown = Table("module", "own ms", "ms", "own MB", "MB", "imported by", "", title=title)
    for one in sorted(imports, key=lambda one: -one.own_ms)[:top]:
        figures = (f"{value:.2f}" for value in (one.own_ms, one.ms, one.own_mb, one.mb))
        by = one.parent.name if one.parent else ""
        shown.add_row(one.name, *figures, by, "unused" if one.needed is False else "")
    console = wide()
    console.print(shown)
    for one in found.unused()[:top]:
        by = f", imported by {one.parent.name}" if one.parent else ""
        click.echo(f"unused: {one.name}: {one.ms:.2f} ms, {one.mb:.2f} MB with what it brings{by}")
    written(json_file, html_file, found.plain(), page(None, found))

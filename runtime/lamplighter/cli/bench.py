"""``lamplighter bench``: how fast a user's function starts and answers, what it weighs, and what calls would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lamplighter.cli.measuring import described, failed, function_options, read_events, wide, written

if TYPE_CHECKING:
    from rich.table import Table

    from lamplighter.measure.bench import Result

_EPILOG = """\b
Example:
  lamplighter bench app.handler --code src --event event.json --html figures.html

\b
Kinds of start:
  cold    Python started, the handler imported, the first answer, by exec
  fork    the first answer of an environment forked on demand
  parked  the first answer of one forked ahead of demand
  warm    a further answer

Events run for real, many times, side effects included.

\b
Exit status: 0; 1 where the function fails; 2 for a fault in what was typed.
"""


@click.command("bench", epilog=_EPILOG)
@function_options
@click.option(
    "--memory", type=click.IntRange(128, 10_240), default=1769, show_default=True, metavar="MB", help="Memory."
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=15, show_default=True, metavar="N", help="Rounds.")
@click.option("--peer", type=click.Choice(["awslambdaric"]), help="Measure AWS's own client beside it, in turns.")
def command(
    handler: str,
    code: str,
    events: tuple[str, ...],
    layer: tuple[str, ...],
    env: tuple[str, ...],
    json_file: str | None,
    html_file: str | None,
    memory: int,
    rounds: int,
    peer: str | None,
) -> None:
    """Measure HANDLER: its starts, its memory, and what a million calls would cost on Lambda.

    All of it runs on this machine: a host, and new Python processes beside it.
    """
    recorded = read_events(events)
    function = described(handler, code, layer, env)._replace(memory_mb=memory)

    from rich.console import Console  # noqa: PLC0415 - stays out of --help
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - as above

    from lamplighter.measure.bench import bench  # noqa: PLC0415 - as above
    from lamplighter.measure.exchange import AnswerFault  # noqa: PLC0415 - as above
    from lamplighter.measure.hosting import HostFault  # noqa: PLC0415 - as above
    from lamplighter.measure.page import page  # noqa: PLC0415 - as above
    from lamplighter.measure.profile import profile  # noqa: PLC0415 - as above

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total)

            result = bench(function, recorded, rounds=rounds, peer=peer or "", progress=progress)
            imports = profile(function, recorded)
    except (HostFault, AnswerFault) as fault:
        failed(fault)
    console = wide()
    for note in result.notes:
        click.echo(f"lamplighter: {note}", err=True)
    for one in tables(result):
        console.print(one)
    plain: dict[str, Any] = {**result.plain(), "init": imports.plain()}
    written(json_file, html_file, plain, page(result, imports))


def tables(result: Result) -> list[Table]:
    """For the terminal: starts, memory, price."""
    from rich.table import Table  # noqa: PLC0415 - as above

    from lamplighter.measure.bench import ratios  # noqa: PLC0415 - as above
    from lamplighter.measure.drawing import figure  # noqa: PLC0415 - as above

    starts = Table("start", "p50 ms", "p90", "p99", "samples", "faster than cold", title="Starts")
    factor = ratios(result)
    for kind, one in result.summaries().items():
        than = f"{figure(factor[kind])}x" if kind in factor else ""
        starts.add_row(kind, figure(one.p50), figure(one.p90), figure(one.p99), str(one.samples), than)
    memory = Table("memory", "MB")
    for name, value in result.memory.items():
        memory.add_row(name, figure(value))
    costs = Table("memory size", "ms", "billed ms", "USD x86", "USD arm64", title="A million calls on Lambda")
    for size in result.sizes:
        if size.cost is None:
            costs.add_row(f"{size.memory_mb:,} MB", size.problem)
        else:
            usd = (f"{size.cost.usd[kind]:.2f}" for kind in ("x86", "arm64"))
            costs.add_row(f"{size.memory_mb:,} MB", figure(size.duration_ms), str(size.cost.billed_ms), *usd)
    return [starts, memory, costs]

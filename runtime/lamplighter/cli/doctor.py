"""``lamplighter doctor``: which limit this machine holds, by what, and what would help where it does not."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from lamplighter.cli.grouping import limit_names
from lamplighter.function.limits import ENFORCED

if TYPE_CHECKING:
    from lamplighter.host.ground import Ground

_EPILOG = """\b
Held by:
  cgroup2, cgroup1, namespace, loop, project-quota, tmpfs, rlimit, pidfd, setuid, seccomp,
  landlock   the kernel; it cannot be passed
  watchdog   the host looks, and ends who has passed it, some milliseconds later
  none       nothing

Exit status: 0, or 1 where a limit given with --require is only watched or not held, or nothing could be tried.
"""


@click.command("doctor", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option(
    "--require",
    default="",
    callback=limit_names,
    metavar="LIMIT,...",
    help=f"Fail where one of these is only watched or not held: {', '.join(ENFORCED)}.",
)
def command(as_json: bool, require: tuple[str, ...]) -> None:
    """Try what this machine can enforce, as serve does at its start, and print what was found.

    Run it as the user, and in the cgroup and container, that is to serve.
    """
    from lamplighter.host.ground import Ground  # noqa: PLC0415 - the host stays out of --help

    try:
        ground = Ground()
    except OSError as fault:
        click.echo(f"lamplighter: nothing can be tried: {fault}", err=True)
        sys.exit(1)
    survey = ground.survey
    ground.close()
    lacking = [row.limit for row in survey.lacking(require)]
    if as_json:
        rows = [row._asdict() for row in survey.rows]
        click.echo(json.dumps({"nests": survey.nests, "limits": rows, "lacking": lacking}, indent=2))
    else:
        click.echo(_table(ground))
    if lacking:
        click.echo(f"lamplighter: required and not held: {', '.join(lacking)}", err=True)
        sys.exit(1)


def _table(ground: Ground) -> str:
    lines = ["limit      held by"]
    for row in ground.survey.rows:
        lines.append(f"{row.limit:<10} {row.held_by}")
        if row.why_not_better:
            lines.append(f"             why   {row.why_not_better}")
        if row.remedy:
            lines.append(f"             try   {row.remedy}")
    return "\n".join(lines)

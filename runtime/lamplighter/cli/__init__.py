"""The command line: one file a subcommand, each of them thin.

This room turns words typed in a shell into the values other rooms take, calls one of them, and turns what comes back
into an exit status: 0 for success, 1 for a fault of the function or the service, 2 for a fault in what was typed. It
promises that ``--help`` is answered without importing the host, and that stdout carries results only; whatever is said
about them goes to stderr. It must never hold behaviour of its own that a program using the package would miss.
"""

from __future__ import annotations

import click

from lamplighter.cli import bench, doctor, invoke, profile, serve

__all__ = ["main"]


def _print_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - half of all that --help imports

    try:
        click.echo(f"lamplighter {version('lamplighter')}")
    except PackageNotFoundError:
        click.echo("lamplighter (run from its source, not installed)")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Run AWS Lambda functions on ordinary Linux.

    A function is imported once into a template, warmed and frozen; limited, isolated workers are forked from it in
    milliseconds.
    """


main.add_command(serve.command)
main.add_command(invoke.command)
main.add_command(doctor.command)
main.add_command(bench.command)
main.add_command(profile.command)

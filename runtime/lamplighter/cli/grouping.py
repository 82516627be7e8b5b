"""Options under headings, so that a long ``--help`` can be read by topic; and options that are lists of limits."""

from __future__ import annotations

from typing import Any

import click

from lamplighter.function.limits import ENFORCED


def limit_names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """The callback of an option that names limits: ``memory,cpu``."""
    names = tuple(word.strip() for word in value.split(",") if word.strip())
    for name in names:
        if name not in ENFORCED:
            raise click.BadParameter(f"{name!r} is no limit; allowed: {', '.join(ENFORCED)}.")
    return names


class GroupedOption(click.Option):
    """An option that belongs under the heading ``group`` of its command's help."""

    def __init__(self, *names: Any, group: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its grouped options by heading, in the order they were declared; others come last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        rest: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument) or (record := parameter.get_help_record(ctx)) is None:
                continue
            if isinstance(parameter, GroupedOption):
                sections.setdefault(parameter.group, []).append(record)
            else:
                rest.append(record)
        for heading, records in [*sections.items(), ("Other", rest)]:
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

"""Headings among the options of a command whose config is made of several classes of settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import click

FIRST = "Options"  # what no class of settings has, and what a command wants at the top


class HeadedCommand(click.Command):
    """A command that shows each class of its config's settings under the first line of the class's docstring.

    ::

        @config
        class TrainConfig(ViewSettings, NetworkSettings): …    # a dataclass takes its bases' fields from the last to the first

        @click.command(cls=HeadedCommand, config=TrainConfig, first=("out",))
        @options(TrainConfig)
        def command(**given): …
    """

    def __init__(self, *args: Any, config: type, first: Iterable[str] = (), **attributes: Any) -> None:
        """``first`` names settings that stand before all headings."""
        super().__init__(*args, **attributes)
        self.headings = {name: text for name, text in headings(config).items() if name not in set(first)}

    def sections(self, ctx: click.Context) -> list[tuple[str, list[click.Parameter]]]:
        """The headings, in the order of the options, with what stands under each."""
        found: dict[str, list[click.Parameter]] = {FIRST: []}
        for param in self.get_params(ctx):
            found.setdefault(self.headings.get(param.name or "", FIRST), []).append(param)
        return list(found.items())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, a table under each heading."""
        for heading, params in self.sections(ctx):
            if rows := [record for param in params if (record := param.get_help_record(ctx)) is not None]:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def headings(config: type) -> dict[str, str]:
    """Setting -> the first line, without its full stop, of the docstring of the class that declares it."""
    return {
        name: inspect.cleandoc(kind.__doc__ or "").partition("\n")[0].removesuffix(".")
        for kind in reversed(config.__mro__[:-1])
        for name in inspect.get_annotations(kind)
    }

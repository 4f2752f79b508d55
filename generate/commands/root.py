"""Options of every command that reads real images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from genrep.option_types import PATH

Command = TypeVar("Command", bound=Callable[..., Any])


def root_options(command: Command) -> Command:
    """``--root`` and ``--download``."""
    command = click.option("--download", is_flag=True, help="Fetch a named dataset that is not under --root.")(command)
    return click.option(
        "--root",
        metavar="DIR",
        type=PATH,
        help="Where a named dataset lies, or is downloaded to.",
    )(command)

"""The types of the commands' options and arguments: paths, whole numbers and choices, read in one way everywhere.

``tests/test_option_types.py`` looks at every parameter of every command, and refuses click's own types in their place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .errors import ConfigError, GenRepError, suggestion
from .files import nearest, user_path

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
HOME = re.compile(
    r"(?:^|(?<==))~[^/,=]*"
)  # where a path may begin: at the start, or behind the = of NAME=DIR or key=value
MOST_DIGITS = 19  # what 64 bits hold


def whole_number(text: str) -> int:
    """Read ``1000000``, ``1_000_000`` or ``1e6``. Raises ValueError for anything else, which says what is wanted."""
    wrong = ValueError(f"{text!r}: wanted a whole number, such as 1000000, 1_000_000 or 1e6")
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise wrong from None
    if not number.is_finite() or number.adjusted() >= MOST_DIGITS or number != number.to_integral_value():
        raise wrong
    return int(number)


class PathType(click.Path):
    """A path. ``~`` and ``~user`` are home folders, also where the shell has left them as they are (``--out=~/x``)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; fails for the home of a user that there is not."""
        try:
            return super().convert(user_path(value), param, ctx)
        except GenRepError as error:
            self.fail(str(error), param, ctx)


class NewFileType(PathType):
    """A file to be written at a command's end, whose folder is made then; refused at once where that could not be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Fails for a folder, and if its parent is not a writable folder."""
        path = super().convert(value, param, ctx)
        if path.is_dir():
            self.fail(f"{path}: is a folder; wanted a file's name", param, ctx)
        there = nearest(path.absolute().parent)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            self.fail(f"{path}: {there} is not a writable folder", param, ctx)
        return path


class PathTextType(click.types.StringParamType):
    """Text that may be or hold paths (``NAME|DIR``, ``NAME=DIR``, ``view:weights=FILE,…``), with ``~`` as in ``PATH``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text with home folders in the places of ``~``; an address stays as it is."""
        text = super().convert(value, param, ctx)
        try:
            return text if ADDRESS.match(text) else HOME.sub(lambda found: str(user_path(found[0])), text)
        except GenRepError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The files of the shell's own completion."""
        return [CompletionItem(incomplete, type="file")]


class WholeNumber(click.types.IntParamType):
    """A whole number: ``1000000``, ``1_000_000`` or ``1e6``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails for other text."""
        return _whole(self, value, param, ctx)


class IntRange(click.IntRange):
    """A ``WholeNumber`` from ``min`` to ``max``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails for other text, and for a number out of range."""
        return super().convert(_whole(self, value, param, ctx), param, ctx)


def _whole(kind: click.ParamType[Any], value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
    try:
        return value if isinstance(value, int) else whole_number(str(value))
    except ValueError as error:
        kind.fail(str(error), param, ctx)


class Parsed(click.types.StringParamType):
    """Text that a function turns into a value. The function's ValueError is the error."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; a default that is one already stays."""
        try:
            return self.parse(value) if isinstance(value, str) else value
        except ConfigError as error:  # which names the setting
            raise click.UsageError(error.in_shell(), ctx) from error
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ParsedPath(PathType):
    """A path that a function looks at, and may change."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        super().__init__()
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The function's value for the path."""
        return self.parse(super().convert(value, param, ctx))


class Choice(click.Choice[str]):
    """One of several names. The error for a misspelt one suggests the closest.

    The names are those that ``names`` holds at the time: what a lab adds to a registry after the command was made is offered.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        super().__init__(tuple(names))

    @property
    def choices(self) -> tuple[str, ...]:
        """The names of now."""
        return tuple(self._names)

    @choices.setter
    def choices(self, _: Sequence[str]) -> None:
        """What click's own constructor keeps."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; fails for another."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(error.message.rstrip(".") + suggestion(str(value), self.choices), param, ctx)


def offering(
    names: Callable[[], Iterable[str]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """A ``shell_complete`` for an option that takes one of these names, or else a path."""

    def complete(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # Names last: click's script for bash forgets what stands before a file. It offers files where no name fits.
        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return [*param.type.shell_complete(context, param, incomplete), *found]

    return complete


PATH = PathType()
NEW_FILE = NewFileType()
PATH_TEXT = PathTextType()
WHOLE = WholeNumber()
COUNT = IntRange(min=1)

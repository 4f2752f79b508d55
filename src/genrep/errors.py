"""Every error that a user can cause, under one base class.

GenRepError
  x ConfigError         a setting that is no such value, or does not go with another
  x RecipeError         a recipe, view string or generator name that cannot be resolved
  x WeightsError        a weights file that is missing, damaged, or of another kind than named
  x GeneratorError      a generator that raised, or returned something that is no image
  x DatasetError        a dataset folder that is missing, unfinished or damaged
    + ManifestError     a manifest.json that is not what docs/format.md describes
  x ResumeError         an output folder that belongs to another recipe, run or process
  x DataError           real images that are missing or cannot be read
  x TrainingError       a training run that cannot go on (NaN loss, collapse)

Commands print an error as one line on stderr and exit with status 1 (2 for a ``ConfigError`` of the command line). Messages
name the setting or file, what was found, and what was wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from string import Formatter
from typing import Self


class Terminated(BaseException):
    """SIGTERM arrived. Not an ``Exception``: only ``finally`` and context managers should see it on its way out."""


class Phrase:
    """Words that name settings, for messages to begin or end with: ``in_shell`` says ``--lr`` where ``str`` says ``lr``."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        self.parts = parts  # text, a setting's name, text, a name, …

    def __str__(self) -> str:
        return _joined(self.parts, str)

    def in_shell(self) -> str:
        """The words as a command says them."""
        return _joined(self.parts, flag)

    def map(self, change: Callable[[str], str]) -> Phrase:
        """The words with each text between the settings' names changed."""
        return Phrase(tuple(part if number % 2 else change(part) for number, part in enumerate(self.parts)))


def phrase(text: str, *values: object) -> Phrase:
    """Words that name settings as in ``GenRepError.naming``, which takes them among its values.

    >>> error = TrainingError.naming("loss is nan; {}", phrase("try a lower {lr}"))
    >>> str(error), error.in_shell()
    ('loss is nan; try a lower lr', 'loss is nan; try a lower --lr')
    """
    return Phrase(_parts(text, values))


class GenRepError(Exception):
    """Base class: anything a user can mend."""

    parts: tuple[str, ...] = ()  # of a message about settings, as a ``Phrase``'s

    @classmethod
    def naming(cls, text: str, *values: object) -> Self:
        """An error about settings: in ``text``, ``{lr}`` is the setting ``lr`` and ``{}`` (``{!r}``, ``{:g}``) the next value.

        If a value is an error or a ``phrase``, its settings are named in the same way.

        >>> error = ConfigError.naming("{lr} {}: wanted a positive number", -1)
        >>> str(error), error.in_shell()
        ('lr -1: wanted a positive number', '--lr -1: wanted a positive number')
        """
        parts = _parts(text, values)
        error = cls(_joined(parts, str))
        error.parts = parts
        return error

    def in_shell(self, flags: Mapping[str, str] | None = None) -> str:
        """The message as a command says it, with ``--num-pairs`` for the setting ``num_pairs``.

        ``flags``: options that are not called as their settings.
        """
        return _joined(self.parts, lambda name: (flags or {}).get(name) or flag(name)) if self.parts else str(self)

    def use_flags(self, flags: Mapping[str, str]) -> None:
        """Have ``in_shell`` call the settings among ``flags`` so, whatever flags it is given later."""
        parts = [""]
        for number, part in enumerate(self.parts):
            if number % 2 and part not in flags:
                parts += [part, ""]
            else:
                parts[-1] += flags[part] if number % 2 else part
        self.parts = tuple(parts) if self.parts else ()


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Errors raised within name a caller's settings: ``renamed(out="folder")`` says ``folder`` where a helper says ``out``."""
    try:
        yield
    except GenRepError as error:
        if error.parts:
            error.parts = tuple(names.get(part, part) if k % 2 else part for k, part in enumerate(error.parts))
            error.args = (_joined(error.parts, str),)
        raise


def _parts(text: str, values: Iterable[object]) -> tuple[str, ...]:
    rest = iter(values)
    parts = [""]
    for literal, name, form, conversion in Formatter().parse(text):
        parts[-1] += literal
        if name:
            parts += [name, ""]
        elif name is not None:
            value = next(rest)
            if isinstance(value, (Phrase, GenRepError)) and value.parts and not conversion:
                parts[-1] += value.parts[0]
                parts += value.parts[1:]
            else:
                parts[-1] += format(repr(value) if conversion == "r" else value, form or "")
    return tuple(parts)


def _joined(parts: Iterable[str], named: Callable[[str], str]) -> str:
    return "".join(named(part) if number % 2 else part for number, part in enumerate(parts))


def flag(name: str) -> str:
    """The command line's option for a setting: ``--num-pairs`` for ``num_pairs``."""
    return "--" + name.replace("_", "-")


class ConfigError(GenRepError, ValueError):
    """A setting has a wrong value, or does not go with another. See ``genrep.settings``."""


class RecipeError(GenRepError):
    """A recipe, a view string or a generator's name cannot be resolved."""


class WeightsError(GenRepError):
    """A weights file is missing, damaged, or not of the family that was named."""


class GeneratorError(GenRepError):
    """A generator raised or returned something other than finite images of the promised shape."""


class DatasetError(GenRepError):
    """A dataset folder is missing, unfinished or damaged."""


class ManifestError(DatasetError):
    """A manifest.json is not what docs/format.md describes."""


class ResumeError(GenRepError):
    """An output folder belongs to another recipe, to another run, or to a process still at work."""


class DataError(GenRepError):
    """Real images are missing or cannot be read."""


class TrainingError(GenRepError):
    """A training run cannot go on: a loss that is not finite, or a collapsed representation."""


def suggestion(found: object, known: Iterable[object]) -> str:
    """`` (did you mean NAME?)`` for the known name that is most like ``found``; empty where none is."""
    from difflib import get_close_matches

    names = {str(name).casefold(): str(name) for name in known}
    close = get_close_matches(str(found)[:100].casefold(), names, n=1)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def one_of(found: object, known: Iterable[object]) -> str:
    """The known names with commas between, as a message lists them, and the one that ``found`` may have meant."""
    names = [str(name) for name in known if name is not None]
    return ", ".join(names) + suggestion(found, names)

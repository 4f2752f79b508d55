"""One declaration per setting: a config's field makes the option, the check, the error and the documentation.

How to: the config, and the command that takes it. ::

    @config                                                    # a frozen dataclass of keywords that checks itself
    class KnnConfig:
        \"""Settings of a k-nearest-neighbour classifier.\"""

        out: Path = setting(help="Folder whose knn.json receives the result.", metavar="DIR")      # no default: required
        k: int = setting(default=20, least=1, help="Number of nearest neighbours that vote.")
        crop: int | None = setting(default=None, least=1, metavar="PIXELS", help="…  [default: the preset's]")
        device: str = setting(default="auto", choices=DEVICES, help="Device to compute on. auto: …")
        collapse_steps: int = 500                              # a plain field is checked by its type, and no option

        def __post_init__(self) -> None:                       # after the fields' own checks: what goes together
            if self.k > self.size:
                raise ConfigError.naming("{k} {}: wanted at most {size}, {}", self.k, self.size)

    @click.command("knn")
    @configured(KnnConfig)                                     # its options, in the order of its fields, and --dry-run
    def command(config: KnnConfig) -> None: …

``KnnConfig(k=0)`` says ``k 0: wanted at least 1`` in a ``ConfigError``; a command says ``--k 0: …``, with exit status 2.
``options`` and ``from_options`` are the two halves of ``configured``, for commands that do more in between. Settings that
several configs share are functions that return ``setting(…)``. A fault found only during a run is a
``TrainingError.naming(…)`` or the like. Configs must import neither torch nor ffcv: ``--help`` waits for them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

import click

from .cli import print_config
from .errors import ConfigError, GenRepError, flag, one_of
from .files import user_path
from .option_types import PATH, PATH_TEXT, WHOLE, Choice, IntRange, Parsed, ParsedPath, offering

T = TypeVar("T")
Decorator = Callable[[Callable[..., Any]], Any]
LARGEST_SHOWN = 2**32  # a larger bound is what a machine's words hold, and no news to who reads a help text
MOST_SEED = 2**63 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The part of a field's declaration beside its type and default."""

    help: str | None = None  # what it is, and its unit
    metavar: str | None = None  # the unit of a number, the shape of a text
    least: float | None = None  # bounds of a number, or of each of several, …
    most: float | None = None
    above: float | None = None  # … these excluded
    below: float | None = None
    check: Callable[[Any], object] | None = None  # raises a GenRepError, which may name the setting, for a wrong value
    choices: Collection[str] | None = None  # the names that a text may be; a registry that grows later is followed
    flags: (
        str | tuple[str, ...]
    ) = ()  # the option's names, the first for errors, where they are not ``--`` and the field's
    negatable: bool = False  # a switch ``--x/--no-x``; one of ``bool | None`` always is
    argument: bool = False  # a positional argument instead of an option
    text: bool = False  # text in which ``~`` is no home folder
    parse: Callable[[str], Any] | None = None  # makes the option's text the value; its ValueError is the option's error
    show_default: bool | str | None = None  # in the help text; with ``parse`` the text of which the default is made
    show_range: bool = True  # in the help text
    offers: Callable[[], Iterable[str]] | None = (
        None  # names that a shell completes, where the text may be another as well
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", (self.flags,) if isinstance(self.flags, str) else self.flags)

    def in_range(self, number: float) -> bool:
        """Whether a number is within the bounds. A number that is not finite never is."""
        return (
            abs(number) < float("inf")
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def range_text(self, whole: bool) -> str:
        """The allowed numbers in words: ``at least 1``, ``0 to below 1``."""
        low = [_number(self.least)] if self.least is not None else []
        low += [f"above {_number(self.above)}"] if self.above is not None else []
        high = [_number(self.most)] if self.most is not None else []
        high += [f"below {_number(self.below)}"] if self.below is not None else []
        if low and high:
            return f"{low[0]}, at most {high[0]}" if self.above is not None else f"{low[0]} to {high[0]}"
        if self.above == 0:
            return "a positive number"
        if self.least == 0 and not whole:
            return "a number that is not negative"
        if self.least is not None:
            return f"at least {low[0]}"
        return (low or [f"at most {high[0]}" if self.most is not None else high[0]] if low or high else [_noun(whole)])[
            0
        ]


def setting(*, default: Any = dataclasses.MISSING, **said: Any) -> Any:
    """A config's field that is also an option. ``said`` takes the arguments of ``Setting``. The annotation gives the type.

    Without a ``default`` the option is required. The defaults None, False and () are not shown; for these, ``help`` says what
    happens.
    """
    return dataclasses.field(default=default, metadata={"setting": Setting(**said)})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, dataclasses.field))
def config(kind: type[T]) -> type[T]:
    """A frozen dataclass of keywords. Its fields are checked before its ``__post_init__`` and listed in its docstring."""
    own = kind.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        _check(self)
        if own is not None:
            own(self)

    setattr(kind, "__post_init__", __post_init__)  # noqa: B010  (mypy knows no such attribute of a type)
    made = dataclasses.dataclass(frozen=True, kw_only=True)(kind)
    made.__doc__ = "\n".join([made.__doc__ or "", "", "Settings:", *_documentation(made)])
    return made


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A field's type: what one value may be, and whether there may be several, or none."""

    types: tuple[Any, ...]
    many: bool
    one: bool
    optional: bool

    def is_only(self, *types: type) -> bool:
        return bool(self.types) and set(self.types) <= set(types)


@cache
def _kinds(config: Any) -> dict[str, _Kind]:
    hints = get_type_hints(config)
    return {one.name: _kind(hints[one.name]) for one in dataclasses.fields(config)}


def _kind(hint: Any) -> _Kind:
    types: list[Any] = []
    many = one = optional = False
    for part in get_args(hint) if type(None) in get_args(hint) or _is_union(hint) else (hint,):
        if part is type(None):
            optional = True
        elif get_origin(part) in (tuple, list, Sequence):
            many = True
            types.append(get_args(part)[0])
        else:
            one = True
            types.append(part)
    return _Kind(tuple(types), many, one, optional)


def _is_union(hint: Any) -> bool:
    from types import UnionType
    from typing import Union

    return get_origin(hint) in (Union, UnionType)


def said_of(field: dataclasses.Field[Any]) -> Setting | None:
    """A field's declaration; None for a field that is no option."""
    found: Setting | None = field.metadata.get("setting")
    return found


def _check(made: Any) -> None:
    """Check each field by its declaration, and bring paths and lists into form. Raises ConfigError."""
    kinds = _kinds(made.__class__)
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        formed = checked(field.name, value, kinds[field.name], said_of(field) or Setting())
        if formed is not value:
            object.__setattr__(made, field.name, formed)


def checked(name: str, value: Any, kind: _Kind, said: Setting) -> Any:
    """The value in its form: paths with their home folders, several as a tuple. Raises ConfigError, naming the setting."""
    if value is None and kind.optional:
        return value
    if kind.many and isinstance(value, (tuple, list)):
        formed = tuple(_checked_one(name, item, kind, said) for item in value)
        return value if formed == value else formed
    if kind.many and not kind.one:
        raise ConfigError.naming(f"{{{name}}} {{!r}}: wanted several values", value)
    return _checked_one(name, value, kind, said)


def _checked_one(name: str, value: Any, kind: _Kind, said: Setting) -> Any:
    subject = f"{{{name}}}"
    if not any(_is_a(value, wanted) for wanted in kind.types):
        wanted = " or ".join(
            dict.fromkeys(_noun(one is int) if one in (int, float) else _NOUNS[one] for one in kind.types)
        )
        raise ConfigError.naming(subject + " {!r}: wanted {}", value, wanted)
    if said.choices is not None and value not in said.choices:
        raise ConfigError.naming(subject + " {!r}: wanted one of {}", value, one_of(value, said.choices))
    _passing(value, said)
    if kind.is_only(int, float) and not said.in_range(value):
        raise ConfigError.naming(subject + " {}: wanted {}", value, said.range_text(float not in kind.types))
    return user_path(value) if Path in kind.types and str not in kind.types else value


def _passing(value: Any, said: Setting) -> Any:
    """The value, if ``said.check`` has nothing against it. Raises ConfigError."""
    if said.check is not None:
        try:
            said.check(value)
        except GenRepError as error:
            raise ConfigError.naming("{}", error) from error
    return value


_NOUNS = {str: "text", bool: "True or False", Path: "a path"}
_CHECKED = (int, float, str, bool, Path)


def _is_a(value: object, wanted: Any) -> bool:
    if wanted not in _CHECKED:
        return True  # a type that is the config's own to check
    if wanted in (int, float):
        return isinstance(value, Integral if wanted is int else Real) and not isinstance(value, bool)
    return isinstance(value, (str, Path) if wanted is Path else wanted)


def _number(value: float | None) -> str:
    return "2^63 - 1" if value == MOST_SEED else f"{value:g}" if isinstance(value, float) else str(value)


def _noun(whole: bool) -> str:
    return "a whole number" if whole else "a number"


def _documentation(config: Any) -> Iterable[str]:
    """A line about each setting, for the docstring."""
    for field in dataclasses.fields(config):
        default = "" if field.default is dataclasses.MISSING else f", default {field.default!r}"
        said = said_of(field) or Setting()
        kind = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
        yield f"    {field.name} ({kind}{default}){': ' if said.help else ''}{said.help or ''}"


def flags_of(config: type) -> dict[str, str]:
    """The names of a config's settings on the command line: an option's name, an argument's metavar."""
    return {name: _flag(name, said) for name, said in _declared(config).items()}


def _flag(name: str, said: Setting) -> str:
    if said.argument:
        return said.metavar or name.upper()
    return said.flags[0].partition("/")[0] if said.flags else flag(name)


def _declared(config: Any) -> dict[str, Setting]:
    found = ((field.name, said_of(field)) for field in dataclasses.fields(config))
    return {name: said for name, said in found if said is not None}


def options(config: type, *names: str, without: Iterable[str] = (), defaults: bool = True) -> Decorator:
    """Decorator: the options of a config's settings, either all in the order of its fields or only the named ones.

    If the function fails, its error names options in the places of settings.
    Without ``defaults``, an option that is not given is None: a preset stands between it and the setting's own default.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        declared = _declared(config)
        function = _told_in_options(function, flags_of(config))
        for name in reversed(names or [name for name in declared if name not in set(without)]):
            function = _option(config, name, declared[name], defaults)(function)
        return function

    return decorate


def _told_in_options(function: Callable[..., Any], flags: Mapping[str, str]) -> Callable[..., Any]:
    """The function, whose failures name options in the places of settings."""

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return function(*values, **named)
        except GenRepError as error:
            error.use_flags(flags)
            raise

    return call


def _option(config: Any, name: str, said: Setting, defaults: bool) -> Decorator:
    """click's decorator for a setting."""
    default, kind = config.__dataclass_fields__[name].default, _kinds(config)[name]
    required = default is dataclasses.MISSING
    several = kind.many and said.parse is None
    attributes: dict[str, Any] = {"type": _option_type(kind, said), "metavar": said.metavar}
    if said.offers is not None:
        attributes["shell_complete"] = offering(said.offers)
    if said.argument:
        attributes |= {"nargs": -1} if several else {} if required else {"default": default}
        return click.argument(name, required=required, **attributes)
    attributes |= {"help": said.help, "required": required}
    if not required and not several:
        shown = (
            default is not None and default is not False and default != ()
            if said.show_default is None
            else said.show_default
        )
        if said.parse is not None and isinstance(shown, str):
            default, shown = shown, True
        attributes |= {"default": default, "show_default": shown}
    if several:
        shown = bool(said.show_default)
        attributes |= {"multiple": True, "default": None if required else default or None, "show_default": shown}
    if not defaults and not required:  # beside a default, click takes an option that is required as given
        attributes |= {"default": None, "show_default": False}
    if kind.is_only(bool):
        del attributes["type"], attributes["metavar"]
        attributes["is_flag"] = True
    called = said.flags or (flag(name),)
    if (said.negatable or kind.optional) and kind.is_only(bool) and "/" not in called[0]:
        called = (f"{called[0]}/--no-{called[0].removeprefix('--')}", *called[1:])
    return click.option(*called, name, **attributes)


def _option_type(kind: _Kind, said: Setting) -> Any:
    if said.parse is not None:
        return (ParsedPath if kind.is_only(Path) else Parsed)(said.parse)
    if said.choices is not None:
        return Choice(said.choices)
    if said.check is not None and kind.is_only(str):
        return Parsed(lambda text: _passing(text, said))
    if kind.is_only(int):
        return _range(IntRange, said) or WHOLE
    if kind.is_only(int, float):
        return _range(click.FloatRange, said) or click.FLOAT
    if kind.is_only(Path):
        return PATH
    return click.STRING if said.text else PATH_TEXT


def _range(kind: Any, said: Setting) -> Any:
    """click's range of the bounds; None if there are none to show."""
    low = said.least if said.above is None else said.above
    high = said.most if said.below is None else said.below
    high = None if high is not None and high > LARGEST_SHOWN else high
    if not said.show_range or (low is None and high is None):
        return None
    return kind(min=low, max=high, min_open=said.above is not None, max_open=said.below is not None)


def from_options(config: Callable[..., T], values: Mapping[str, Any]) -> T:
    """The config of a command's values. Values that are not its settings are ignored.

    Raises:
        click.UsageError: a setting has a wrong value; names the option.
    """
    fields: dict[str, Any] = {one.name: one for one in dataclasses.fields(config)}  # type: ignore[arg-type]
    given = {name: value for name, value in values.items() if name in fields}
    for name in [
        name for name, value in given.items() if value == () and fields[name].default is not dataclasses.MISSING
    ]:
        del given[name]  # of an option that may be repeated and was not given
    try:
        return config(**given)
    except ConfigError as error:
        raise click.UsageError(error.in_shell(flags_of(config))) from error  # type: ignore[arg-type]


def configured(
    config: Callable[..., Any],
    *,
    more: Iterable[Decorator] = (),
    dry_run: str = "Print the settings as JSON and exit.",
) -> Decorator:
    """Decorator of ``function(config, **others)``: a config's options, then ``more``, then ``--dry-run``, which prints it."""

    def decorate(function: Callable[..., Any]) -> Any:
        names = {one.name for one in dataclasses.fields(config)}  # type: ignore[arg-type]

        @wraps(function)
        def call(**values: Any) -> Any:
            made = from_options(config, values)
            if values.pop("dry_run"):
                print_config(made)
                return None
            return function(made, **{name: value for name, value in values.items() if name not in names})

        made: Any = click.option("--dry-run", is_flag=True, help=dry_run)(call)
        for one in reversed(list(more)):
            made = one(made)
        return options(config)(made)  # type: ignore[arg-type]

    return decorate

"""The edge between click and the library: every way a command can end, with its exit status and at most one line on stderr.

0 done · 1 a fault of data, file or machine · 2 a wrong command line · 130 SIGINT · 143 SIGTERM

Every command takes ``--json`` and ``--quiet``: its group adds them (``with_output_options``). A command tells its result once,
by ``tell``, as an object and as lines. ``genrep.progress`` shows the rest on stderr.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import resource
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from .errors import GenRepError, Terminated, one_of
from .files import size_text
from .progress import QUIET_VARIABLE, note
from .untrusted import line

LONGEST_ERROR = 2000  # characters
TOO_MANY_FILES, LEAST_FILES = os.strerror(errno.EMFILE), 4096
TRACEBACK_VARIABLE = "GENREP_TRACEBACK"  # set to see where an unexpected error came from


class Output:
    """The settings of ``--json`` and ``--quiet`` in this process, until the command ends."""

    def __init__(self) -> None:
        self.write: Callable[[str], object] | None = None  # where the result of --json goes; None: lines are wanted
        self.asked = ExitStack()

    @contextmanager
    def of_a_command(self) -> Iterator[None]:
        """Neither is asked for at the beginning, and what they change is as before at the end."""
        with ExitStack() as self.asked:
            yield

    def use_json(self) -> None:
        """Leave stdout to the result: what a generator of the user's or a library prints there goes to stderr."""
        if self.write is None:
            self.write = self.asked.enter_context(_stdout_on_stderr())
            self.asked.callback(setattr, self, "write", None)

    def be_quiet(self) -> None:
        """Show no progress and no notes, here and in the processes that are started."""
        before = os.environ.get(QUIET_VARIABLE)
        os.environ[QUIET_VARIABLE] = "1"
        self.asked.callback(_restore, QUIET_VARIABLE, before)
        self.asked.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


@contextmanager
def _stdout_on_stderr() -> Iterator[Callable[[str], object]]:
    """Send what anybody prints on stdout to stderr, of this process and those that it starts; gives what prints on stdout."""
    own = sys.stdout
    own.flush()
    with redirect_stdout(sys.stderr), ExitStack() as descriptors:
        try:
            number, other = own.fileno(), sys.stderr.fileno()
        except (OSError, ValueError):  # no files: a test's
            yield own.write
            return
        kept = os.dup(number)
        descriptors.callback(os.close, kept)
        descriptors.callback(os.dup2, kept, number)
        descriptors.callback(own.flush)
        os.dup2(other, number)
        yield partial(_write_all, kept)


def _write_all(descriptor: int, text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(descriptor, left) :]


_output = Output()


_OPTIONS = (
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=lambda context, option, given: _output.use_json() if given else None,
        help="Print the result as JSON, and nothing else on stdout.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=lambda context, option, given: _output.be_quiet() if given else None,
        help="Show no progress and no notes on stderr. Errors are still shown.",
    ),
)


def with_output_options(command: click.Command) -> click.Command:
    """The command with ``--json`` and ``--quiet``, last of its options."""
    if not any(param.name == "as_json" for param in command.params):
        for add in _OPTIONS:
            add(command)
    return command


class Group(click.Group):
    """A group that adds ``--json`` and ``--quiet`` to its commands, and knows what a misspelt one may have meant."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, with what every command takes; None if there is none."""
        command = self.find_command(ctx, cmd_name)
        return None if command is None else with_output_options(command)

    def find_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name as it was written."""
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. Raises UsageError for one that there is not."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no command {args[0]!r}; wanted one of {one_of(args[0], known)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which the commands were added: that of the work."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, each with the whole first sentence of its help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=1000)) for name, one in commands if one is not None]
            )


class LazyGroup(Group):
    """A group whose commands' modules are imported only for a command to be run or to show its own help.

    Each command is ``<name>_command`` of a module that holds several, with ``_`` for ``-``, or ``command`` of
    ``<package>.<name>``.
    """

    def __init__(
        self,
        *args: Any,
        packages: dict[str, dict[str, str]],
        modules: Mapping[str, Sequence[str]] | None = None,
        **attributes: Any,
    ) -> None:
        """The names and homes of the commands.

        Args:
            packages: for each package, or module, its commands' names, in the order of the help text, with a line about
                each.
            modules: of a package's modules those that hold several commands, with the commands' names.
        """
        super().__init__(*args, **attributes)
        self.modules = {name: module for module, names in (modules or {}).items() for name in names}
        self.summaries = {name: line for commands in packages.values() for name, line in commands.items()}
        self.homes = {name: package for package, commands in packages.items() for name in commands}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names."""
        return list(self.summaries)

    def find_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or None."""
        if cmd_name not in self.summaries:
            return None
        own = cmd_name.replace("-", "_")
        shared = self.modules.get(cmd_name)
        home = import_module(f"{self.homes[cmd_name]}.{shared}" if shared else self.homes[cmd_name])
        command: click.Command | None = getattr(home, f"{own}_command", None)
        if command is None:
            command = import_module(f"{home.__name__}.{own}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def run(command: click.Command) -> NoReturn:
    """Run a command on ``sys.argv`` and exit with the house's status; the console scripts' last call."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(invoke(command, sys.argv[1:]))


def invoke(command: click.Command, args: list[str]) -> int:
    """Run a command and return its exit status."""
    try:
        with _output.of_a_command():
            result = command.main(args=args, prog_name=command.name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2: a group alone, which shows what it can do
            click.echo(error.format_message(), err=True)
            return 2
        where = error.ctx.command_path if error.ctx else command.name
        return _say(f"{where}: {error.format_message()}", 2)
    except (click.Abort, KeyboardInterrupt):
        return _say(f"{command.name}: interrupted", 130)
    except Terminated:
        return _say(f"{command.name}: terminated", 143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        return _say(f"{command.name}: {describe(error)}", 1)


def describe(error: Exception) -> str:
    """One line for any exception."""
    if isinstance(error, (GenRepError, click.ClickException)):
        text = error.format_message() if isinstance(error, click.ClickException) else error.in_shell()
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"unexpected {type(error).__name__}: {error} ({TRACEBACK_VARIABLE}=1 shows where)"
    if TOO_MANY_FILES in text:  # whoever met it: a library, a worker, an error of ours around it
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        text += f"; this process may open {soft}: raise that with 'ulimit -n {max(hard, LEAST_FILES)}', or use fewer workers"
    return text


def _say(message: str, status: int) -> int:
    complain(message)
    return status


def complain(message: str) -> None:
    """Print an error as one line on stderr; ``--quiet`` does not silence it."""
    # Whatever a message quotes: a stranger's name may hold escapes that a terminal obeys, or have megabytes.
    print("Error: " + line(" ".join(message[: 2 * LONGEST_ERROR].split()), LONGEST_ERROR), file=sys.stderr)


def tell(result: Any, lines: str | Iterable[object]) -> None:
    """Print a command's result, once: ``lines`` for people, or ``result``, which is what ``plain`` takes, for ``--json``."""
    if _output.write is not None:
        _output.write(_json_text(result))
        return
    for text in [lines] if isinstance(lines, str) else lines:
        say(text)


def _json_text(result: Any) -> str:
    return json.dumps(plain(result), indent=2, sort_keys=True) + "\n"


def plain(value: Any) -> Any:
    """A value as JSON has it: paths and errors as text, dataclasses as objects, numbers that are not finite as null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, GenRepError):
        return value.in_shell()
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if hasattr(value, "tolist"):  # NumPy's
        return plain(value.tolist())
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


def say(text: object) -> None:
    """Print lines on stdout: whatever names they hold, no letter of them is obeyed by the terminal."""
    for part in str(text).split("\n"):
        click.echo(line(part))


def say_leftovers(paths: Iterable[Path], needed: str = "to go on") -> None:
    """Name on stderr the files of a finished run that nothing needs any more, if there are any."""
    if (text := leftovers(paths, needed)) is not None:
        note(f"note: {text}")


def print_config(config: Any) -> None:
    """What ``--dry-run`` prints, with ``--json`` or without: settings of a config dataclass, or a mapping of them, as JSON."""
    settings = config if isinstance(config, Mapping) else vars(config)
    tell_json(json.loads(json.dumps(settings, default=str)))


def tell_json(result: Any) -> None:
    """Print a result that is JSON with ``--json`` or without."""
    (_output.write or sys.stdout.write)(_json_text(result))


def leftovers(paths: Iterable[Path], needed: str = "to go on") -> str | None:
    """A line about what only an unfinished run needs, of the files and folders that are there; None if none are.

    ``needed``: what they are still good for. Bytes that two names share (hard links) count once.
    """
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    files = [file for path in there for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in (file.stat() for file in files)}
    names = ", ".join(path.name for path in there)
    each = "is" if len(there) == 1 else "are"
    option = "-r " if any(path.is_dir() for path in there) else ""
    command = f"rm {option}{' '.join(shlex.quote(str(path)) for path in there)}"
    return f"{names} ({size_text(sum(sizes.values()))}) {each} only needed {needed}; remove with: {command}"

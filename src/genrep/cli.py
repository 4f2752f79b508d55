"""The edge between click and the library: every way a command can end, with its exit status and at most one line on stderr.

0 done · 1 a fault of data, file or machine · 2 a wrong command line · 130 SIGINT · 143 SIGTERM
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shlex
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from .errors import GenRepError, Terminated, one_of
from .files import size_text
from .untrusted import line

LONGEST_ERROR = 2000  # characters
TOO_MANY_FILES, LEAST_FILES = os.strerror(errno.EMFILE), 4096
TRACEBACK_VARIABLE = "GENREP_TRACEBACK"  # set to see where an unexpected error came from


class Group(click.Group):
    """A group that knows what a misspelt command may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. Raises UsageError for one that there is not."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no command {args[0]!r}; wanted one of {one_of(args[0], known)}")
        return super().resolve_command(ctx, args)


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

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None if there is none."""
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
    # Whatever a message quotes: a stranger's name may hold escapes that a terminal obeys, or have megabytes.
    print("Error: " + line(" ".join(message[: 2 * LONGEST_ERROR].split()), LONGEST_ERROR), file=sys.stderr)
    return status


def say(text: object, *, err: bool = False) -> None:
    """Print the lines of a result: whatever names they hold, no letter of them is obeyed by the terminal."""
    for part in str(text).split("\n"):
        click.echo(line(part), err=err)


def say_leftovers(paths: Iterable[Path], needed: str = "to go on") -> None:
    """Say on stderr what a finished run leaves that nothing needs any more, if it leaves such."""
    if (text := leftovers(paths, needed)) is not None:
        say(f"note: {text}", err=True)


def print_config(config: Any) -> None:
    """What ``--dry-run`` prints: the resolved settings of a config dataclass, or a mapping of them, as JSON."""
    settings = config if isinstance(config, Mapping) else vars(config)
    click.echo(json.dumps(settings, indent=2, sort_keys=True, default=str))


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

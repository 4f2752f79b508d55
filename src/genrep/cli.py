"""The edge between click and the library: every way a command can end, with its exit status and at most one line on stderr.

0 done · 1 a fault of data, file or machine · 2 a wrong command line · 130 SIGINT · 143 SIGTERM
"""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from .errors import GenRepError

TRACEBACK_VARIABLE = "GENREP_TRACEBACK"  # set to see where an unexpected error came from


class Terminated(BaseException):
    """SIGTERM arrived. Not an ``Exception``: only ``finally`` and context managers should see it on its way out."""


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
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"unexpected {type(error).__name__}: {error} ({TRACEBACK_VARIABLE}=1 shows where)"
    return text


def _say(message: str, status: int) -> int:
    print("Error: " + " ".join(message.split()), file=sys.stderr)
    return status


def print_config(config: Any) -> None:
    """What ``--dry-run`` prints: the resolved settings of a config dataclass as JSON."""
    click.echo(json.dumps(vars(config), indent=2, sort_keys=True, default=str))

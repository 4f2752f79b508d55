"""Write docs/help/*.txt: the --help of every command, so that changes of the command line show in a diff.

python docs/update_help.py
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import click

from genrep.datasets_manifest.cli import group as manifest
from genrep.doctor import group as genrep
from genrep.generate.cli import cli as generate
from genrep.papers.cli import group as evaluate
from genrep.train.cli import command as train

FOLDER = Path(__file__).parent / "help"
WIDTH = 110


COMMANDS: dict[str, click.Command] = {
    "genrep": genrep,
    "genrep-generate": generate,
    "genrep-train": train,
    "genrep-evaluate": evaluate,
    "genrep-manifest": manifest,
}


def help_texts() -> Iterator[tuple[str, str]]:
    """File name and text of every command and subcommand."""
    for name, command in COMMANDS.items():
        context = click.Context(command, info_name=name, terminal_width=WIDTH, **command.context_settings)
        yield f"{name}.txt", _fresh(command).get_help(context) + "\n"
        if isinstance(command, click.Group):
            for verb in sorted(command.list_commands(context)):
                subcommand = command.get_command(context, verb)
                assert subcommand is not None
                fresh = _fresh(subcommand)
                below = click.Context(fresh, info_name=verb, parent=context, terminal_width=WIDTH)
                yield f"{name}-{verb}.txt", fresh.get_help(below) + "\n"


def _fresh(command: click.Command) -> click.Command:
    """The command as if never used: click keeps the help option of a command's first use, which may have had no -h."""
    fresh = copy.copy(command)
    vars(fresh)["_help_option"] = None
    return fresh


def main() -> None:
    """Write the files, and remove those of commands that are gone."""
    FOLDER.mkdir(exist_ok=True)
    texts = dict(help_texts())
    for path in FOLDER.glob("*.txt"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()

"""The command genrep-manifest: look at a dataset and check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genrep.cli import run

if TYPE_CHECKING:
    from genrep.progress import Progress

LEVELS = ("quick", "bytes", "full")  # verify.LEVELS, which is not imported before it is needed

folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group(name="genrep-manifest", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Look at datasets that genrep-generate made, and check them.

    \b
    Example:
      genrep-manifest show shards/
      genrep-manifest verify shards/ --level full
    """


@group.command()
@folder_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: a summary and the whole manifest.")
def show(folder: Path, as_json: bool) -> None:
    """Print what the dataset in DIR is: recipe, size, fields, provenance.

    Reads manifest.json only; nothing is checked against the shards.

    \b
    Example:
      genrep-manifest show shards/
      genrep-manifest show shards/ --json | jq .manifest.recipe
    """
    from .describe import describe, summary
    from .manifest import read_manifest

    manifest = read_manifest(folder)
    if as_json:
        facts = {"summary": summary(folder, manifest), "manifest": manifest.to_json()}
        click.echo(json.dumps(facts, indent=2, sort_keys=True))
    else:
        for line in describe(folder, manifest):
            click.echo(line)


@group.command()
@folder_argument
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="bytes",
    show_default=True,
    help="quick: presence, sizes, FFCV tables. bytes: + sha256. full: + decoding and latents.",
)
def verify(folder: Path, level: str) -> None:
    """Check the dataset in DIR against its manifest.

    Prints a line per problem and exits with 1 if there is one. Safe on folders that come from strangers.

    \b
    Example:
      genrep-manifest verify shards/
      genrep-manifest verify shards/ --level quick
    """
    import time

    from genrep.errors import DatasetError

    from .manifest import read_manifest
    from .regular import printable
    from .verify import verify as verify_folder

    started = time.monotonic()
    with _ProgressBar(f"verifying {folder.name}") as bar:
        problems = verify_folder(folder, level, bar.report)
    for problem in problems:
        click.echo(printable(str(problem)))
    if problems:
        raise DatasetError(f"{folder}: {len(problems)} problem{'s' if len(problems) > 1 else ''} at level {level}")
    manifest = read_manifest(folder)
    click.echo(
        f"OK {folder}: {manifest.num_pairs:,} pairs in {len(manifest.shards)} shards, {manifest.num_bytes:,} bytes, "
        f"level {level}, {time.monotonic() - started:.1f} s"
    )


@group.command()
@folder_argument
def finish(folder: Path) -> None:
    """Write the manifest of the dataset in DIR, whose shards were built in parts and are all done.

    Needs no generator. The last part to finish does this by itself.

    \b
    Example:
      genrep-manifest finish shards/
    """
    from .finish import finish as finish_folder

    manifest = finish_folder(folder)
    click.echo(f"{folder}: {manifest.num_pairs:,} pairs in {len(manifest.shards)} shards")


class _ProgressBar:
    """A Progress that learns its total with the first report."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.done = 0
        self.progress: Progress | None = None

    def report(self, done: int, total: int) -> None:
        from genrep.progress import Progress

        if self.progress is None:
            self.progress = Progress(total, "byte", self.label)
        self.progress.update(done - self.done)
        self.done = done

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)


def main() -> None:
    """Entry point of the console script."""
    run(group)

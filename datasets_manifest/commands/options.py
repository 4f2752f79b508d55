"""Options and a progress bar that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from genrep.option_types import PATH, PATH_TEXT, IntRange, PathType

if TYPE_CHECKING:
    from genrep.across import RegenerationConfig
    from genrep.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])
LEVELS = ("quick", "bytes", "full")  # verify.LEVELS, which is not imported before it is needed


class DatasetType(PathType):
    """The folder of a dataset, given as it is or by its manifest.json."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The folder."""
        from ..manifest import dataset_folder

        return dataset_folder(super().convert(value, param, ctx))


DATASET = DatasetType()
folder_argument = click.argument("folder", metavar="DIR", type=DATASET)
jobs_option = click.option(
    "--jobs", metavar="N", type=IntRange(1, 1024), help="Shards read at a time.  [default: one per core]"
)
report_option = click.option("--report", metavar="FILE.json", type=PATH, help="Write the result there as well.")

MAKING = (  # what a manifest does not tell, or what this machine wants otherwise
    click.option(
        "--gen",
        metavar="NAME|FILE.toml|MODULE:FACTORY",
        type=PATH_TEXT,
        help="The generator, where its name does not do.",
    ),
    click.option(
        "--weights",
        metavar="FILE",
        type=PATH_TEXT,
        help="Its weights, where none ship with the package or can be fetched.",
    ),
    click.option("--features", metavar="FILE", type=PATH_TEXT, help="Its instance features (IC-GAN)."),
    click.option(
        "--views",
        metavar="NAME:KEY=VALUE,...",
        type=PATH_TEXT,
        help="The latent view, where it was learned: names its file.",
    ),
    click.option(
        "--filter",
        metavar="keep=PART,weights=FILE",
        type=PATH_TEXT,
        help="The filter, where there was one: names its file.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto: the kind that was used, if it is here."),
    click.option("--batch-size", type=IntRange(1, 1_000_000), help="[default: what was used]"),
    click.option("--processes", type=IntRange(min=1), help="[default: one per core, one on a GPU]"),
)


def making_options(function: Command) -> Command:
    """The options of whatever makes images again."""
    for option in reversed(MAKING):
        function = option(function)
    return function


def making_config(options: dict[str, Any]) -> RegenerationConfig:
    """Take these options out of a command's."""
    from dataclasses import fields

    from genrep.across import RegenerationConfig

    return RegenerationConfig(**{field.name: options.pop(field.name) for field in fields(RegenerationConfig)})


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


class ProgressBar:
    """A Progress that learns its total with the first report."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.done = 0
        self.progress: Progress | None = None

    def report(self, done: int, total: int) -> None:
        """Hear of bytes so far and in all."""
        from genrep.progress import Progress

        if self.progress is None:
            self.progress = Progress(total, "byte", self.label)
        self.progress.update(done - self.done)
        self.done = done

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)

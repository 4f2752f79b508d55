"""``transfer``: a paper's table of linear probes."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say, settings_of
from genrep.option_types import COUNT, PATH, Choice

from ..linear.config import PRESETS
from ..transfer import SUITES, TransferConfig
from .options import encoder_options, run_options

setting = settings_of(TransferConfig)


@click.command("transfer")
@encoder_options
@click.option("--suite", required=True, type=Choice(list(SUITES)), help="Whose table.")
@click.option("--root", required=True, type=PATH, metavar="DIR", help="Where the datasets lie, or are downloaded to.")
@click.option("--download", is_flag=True, help="Fetch the datasets that are not under --root: tens of GB.")
@click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder whose transfer.json gets the results.")
@setting("--preset", type=Choice(list(PRESETS)), help="Another protocol than the suite's.")
@setting("--size", type=COUNT, metavar="PIXELS", help="Resize the shorter side to this.  [default: the preset's]")
@setting(
    "--crop", type=COUNT, metavar="PIXELS", help="Side of crops.  [default: the preset's, in proportion to --size]"
)
@setting("--epochs", type=COUNT, help="Passes over the training images.  [default: the preset's]")
@setting("--workers", type=COUNT, help="Threads that decode images.  [default: one per core]")
@run_options
def command(dry_run: bool, **options: Any) -> None:
    """The papers' tables of linear probes in one go.

    Datasets that are not under ROOT are skipped, and told with how to get them. cop-gen is table 2 of COP-Gen (VISSL's
    protocol), hl tables 3 and 4 of HL.

    \b
    Example:
      genrep-evaluate transfer --encoder runs/x --suite cop-gen --root /data --out runs/x --seed 0,1,2
    """
    try:
        config = TransferConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from ..transfer import evaluate_transfer

    result = evaluate_transfer(config)
    say(result.table())
    say(f"results: {result.path}")

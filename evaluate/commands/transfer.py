"""``transfer``: a paper's table of linear probes."""

from __future__ import annotations

import click

from genrep.cli import say
from genrep.settings import configured

from ..transfer import TransferConfig


@click.command("transfer")
@configured(TransferConfig)
def command(config: TransferConfig) -> None:
    """The papers' tables of linear probes in one go.

    Datasets that are not under ROOT are skipped, and told with how to get them. cop-gen is table 2 of COP-Gen (VISSL's
    protocol), hl tables 3 and 4 of HL.

    \b
    Example:
      genrep-evaluate transfer --encoder runs/x --suite cop-gen --root /data --out runs/x --seed 0,1,2
    """
    from ..transfer import evaluate_transfer

    result = evaluate_transfer(config)
    say(result.table())
    say(f"results: {result.path}")

"""``fit-foreground``: which patches of an image are foreground to an encoder."""

from __future__ import annotations

import click

from genrep.cli import tell
from genrep.settings import configured

from ..fits.config import ForegroundConfig
from .dataset import DRY_RUN

BINS = ("[0, .2)", "[.2, .4)", "[.4, .6)", "[.6, .8)", "[.8, 1]")


@click.command("fit-foreground")
@configured(ForegroundConfig, dry_run=DRY_RUN)
def fit_foreground_command(config: ForegroundConfig) -> None:
    """Learn what is foreground of an image, from the patches of a frozen encoder (GenView).

    A patch is a place of a ResNet's last map, or one of a vision transformer's. It is foreground if its projection on the first
    principal component of the patches of sample images is above a threshold. The file holds the encoder too: --views
    unclip:noise_level=auto,foreground=FILE and --weigh foreground=FILE need nothing else.

    \b
    Example:
      genrep-generate fit-foreground --data photos/ --encoder resnet50.pth --out fg.safetensors
      genrep-generate dataset --gen unclip.toml --anchors photos/ --views unclip:noise_level=auto,foreground=fg.safetensors \
        --weigh foreground=fg.safetensors --out shards
    """
    from ..fits.foreground import fit_foreground
    from ..views.foreground import STEP

    result = fit_foreground(config)
    rows, columns = result.patches
    left_out = f", {result.unreadable} more cannot be read" if result.unreadable else ""
    histogram = dict(zip(BINS, result.ratio))
    tell(
        {**vars(result), "ratio": histogram},
        [
            f"foreground     {result.path}",
            f"picture        {result.sheet}",
            f"patches        {rows}x{columns} of images of {result.size} pixels, by {result.encoder}",
            f"direction      {100 * result.explained:.1f} % of the variance of the patches of {result.images} images{left_out}",
            f"threshold      {result.threshold:.6g}",
            *(
                f"{'ratio' if not step else '':15}{name:9} {number:7} images, noise level {STEP * step}"
                for step, (name, number) in enumerate(histogram.items())
            ),
        ],
    )

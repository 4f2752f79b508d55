"""``preview``: anchors and the positives of latent views, on one picture."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import print_config, say
from genrep.option_types import PATH, PATH_TEXT, WHOLE


@click.command("preview")
@click.option(
    "--gen",
    metavar="NAME|FILE.toml|MODULE:FACTORY",
    type=PATH_TEXT,
    default="stylegan2_fashion",
    show_default=True,
    help="The generator.",
)
@click.option("--weights", metavar="FILE[#NETWORK]", type=PATH, help="Weights instead of the recipe's own.")
@click.option("--features", metavar="FILE", type=PATH, help="Instance features, for IC-GAN.")
@click.option(
    "--classes",
    metavar="all|0-99|PRESET|FILE",
    type=PATH_TEXT,
    default="all",
    show_default=True,
    help="Classes of a class-conditional generator, taken in turn.",
)
@click.option("--truncation", type=float, help="The generator's own: psi of StyleGAN2.  [default: the recipe's]")
@click.option(
    "--views",
    metavar="NAME:KEY=VALUE,...",
    type=PATH_TEXT,
    multiple=True,
    help="Latent view of the positives; give it again to see several side by side.  [default: the recipe's]",
)
@click.option("--compare", is_flag=True, help="Beside them, the papers' random views that this generator admits.")
@click.option(
    "--chunks", metavar="each", help="Move every chunk of the latent, or every group of W layers, alone (HL, Figure 2)."
)
@click.option(
    "--distances",
    metavar=".5,1,2,4",
    help="Positives at these distances instead, in a random direction or in that of the view (COP-Gen, Figure 2).",
)
@click.option("--out", metavar="FILE.png", type=PATH, required=True, help="The picture.")
@click.option("--num-anchors", metavar="N", type=WHOLE, default=6, show_default=True, help="Rows.")
@click.option(
    "--num-positives", metavar="K", type=WHOLE, default=4, show_default=True, help="Of each view; not with --distances."
)
@click.option(
    "--columns",
    metavar="N",
    type=WHOLE,
    help="Positives side by side, at most.  [default: as many as can be seen well]",
)
@click.option("--seed", type=WHOLE, default=0, show_default=True, help="Of the latents.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--dry-run", is_flag=True, help="Print the settings and exit.")
def preview_command(distances: str | None, dry_run: bool, **options: Any) -> None:
    """Look at latent views: a row per anchor, its positives beside it, their distance |z' - z| below them.

    These are the first pairs of a dataset of the same generator, view and seed: what "dataset" will write (before
    --filter). For a view on several groups of W layers the distance is that of all their z' together.

    \b
    Examples:
      genrep-generate preview --views gaussian:std=.2 --views gaussian:std=.5 --out sheet.png
      genrep-generate preview --gen stylegan2_fashion_cond --compare --out sheet.png
      genrep-generate preview --chunks each --views gaussian:std=1 --out sheet.png
      genrep-generate preview --distances 2,4,8,16,32 --out sheet.png
    """
    from ..preview.config import PreviewConfig, parse_distances

    try:
        config = PreviewConfig(distances=parse_distances(distances), **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        print_config(config)
        return
    from ..preview import preview_views

    found = preview_views(config)
    for reason in found.left_out:
        say(f"left out       {reason}", err=True)
    for item in () if config.distances else found.shown:
        title = " ".join((item.panel.title, *item.panel.part))
        low, mean, high = item.distances.min(), item.distances.mean(), item.distances.max()
        say(f"distance       {mean:.3g} on average, {low:.3g} to {high:.3g}: {title}")
    say(f"picture        {found.path}, {found.layout.width}x{found.layout.height}")

"""``preview``: anchors and the positives of latent views, on one picture."""

from __future__ import annotations

import click

from genrep.cli import say
from genrep.settings import configured

from ..preview.config import PreviewConfig
from .dataset import DRY_RUN


@click.command("preview")
@configured(PreviewConfig, dry_run=DRY_RUN)
def preview_command(config: PreviewConfig) -> None:
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
    from ..preview.run import preview_views

    found = preview_views(config)
    for reason in found.left_out:
        say(f"left out       {reason.in_shell()}", err=True)
    for item in () if config.distances else found.shown:
        title = " ".join((item.panel.title, *item.panel.part))
        low, mean, high = item.distances.min(), item.distances.mean(), item.distances.max()
        say(f"distance       {mean:.3g} on average, {low:.3g} to {high:.3g}: {title}")
    say(f"picture        {found.path}, {found.layout.width}x{found.layout.height}")

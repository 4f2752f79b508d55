"""Commands that come before a dataset: ``list``, ``weights``, ``import-walk`` and ``preview``, which shows views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.cli import tell
from genrep.errors import ConfigError
from genrep.option_types import PATH, PATH_TEXT, offering
from genrep.progress import note
from genrep.settings import config, configured, from_options, options, setting

from ..fits.config import check_parts
from ..plans.config import recipe_names
from ..preview.config import PreviewConfig
from .dataset import DRY_RUN


@click.command("weights")
@click.argument("name", type=PATH_TEXT, shell_complete=offering(recipe_names))
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Folder to put the file in.  [default: the cache, under GENREP_HOME or ~/.cache/genrep]",
)
def weights_command(name: str, out: Path | None) -> None:
    """Download the weights of the recipe NAME.

    Checks the sha256 and prints the path of the file. The same command resumes an interrupted download.

    \b
    Example:
      genrep-generate weights stylegan2_car
    """
    from ..weights.locate import get_weights

    path = get_weights(name, out)
    tell({"weights": path}, f"{name} has no weights: there is nothing to download" if path is None else str(path))


@click.command("list")
def list_recipes() -> None:
    """List the recipes that ship with the package.

    Prints the name, the family, where the weights come from, and their licence.

    \b
    Example:
      genrep-generate list
    """
    from ..generators.families import weightless
    from ..recipes.recipe import known_recipes, load_recipe
    from ..weights.locate import is_embedded

    facts, lines = [], []
    for name in known_recipes():
        recipe = load_recipe(name)
        where = "ship with the package" if is_embedded(recipe) else "are downloaded"
        weights = "are given with --weights FILE" if recipe.weights is None else where
        if weightless(recipe.family):
            weights = "are not needed"
        facts.append({"name": name, "family": recipe.family, "weights": recipe.weights, "licence": recipe.licence})
        lines.append(f"{name:24} {recipe.family:16} weights {weights}; licence: {recipe.licence}")
    tell({"recipes": facts}, lines)


@config
class ImportConfig:
    """Settings of a conversion of a released walk or navigator."""

    source: Path = setting(argument=True, metavar="SRC")
    out: Path = setting(metavar="FILE.safetensors", help="File to write.")
    chunks: str | None = setting(
        default=None,
        metavar="A-B",
        text=True,
        help="Chunks of the latent that the navigator was trained for.  [default: all]",
    )
    layers: str | None = setting(
        default=None,
        metavar="A-B",
        text=True,
        help="StyleGAN2: W layers that the navigator was trained for.  [default: none, it moves z]",
    )

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.out.suffix != ".safetensors":
            raise ConfigError.naming("{out} {}: wanted a name that ends in .safetensors", self.out)
        if self.out.resolve() == self.source.resolve():
            raise ConfigError.naming("{out} {}: is the input file; wanted another name", self.out)
        check_parts(self.chunks or None, self.layers or None)


@click.command("import-walk")
@options(ImportConfig)
def import_walk_command(**values: Any) -> None:
    """Convert a published walk (GenRep) or navigator (COP-Gen, HL).

    SRC is the file that the paper's authors published; no code in it is executed. Use the result with --views steered or
    --views navigator.

    \b
    Example:
      genrep-generate import-walk released.pth --out navigator.safetensors
      genrep-generate preview --gen bigbigan --views navigator:weights=navigator.safetensors --out sheet.png
    """
    settings = from_options(ImportConfig, values)
    from ..generators.base import read_safetensors
    from ..views.released import import_walk

    out = settings.out
    out.parent.mkdir(parents=True, exist_ok=True)
    made = import_walk(settings.source, out, chunks=settings.chunks or "", layers=settings.layers or "")
    tensors, facts = read_safetensors(made)
    if facts["genrep"].startswith("navigator/"):
        kind, view = f"navigator of {facts['dim']} components", "navigator:weights"
    else:
        kind, view = f"walks {', '.join(tensors)} of {facts['dim']} components", "steered:walks"
    tell(
        {"path": out, "views": f"{view}={out}", "dim": facts["dim"], "tensors": sorted(tensors)},
        [f"found          {kind}", f"written to     {out}; use it as --views {view}={out}"],
    )


@click.command("preview")
@configured(PreviewConfig, dry_run=DRY_RUN)
def preview_command(config: PreviewConfig) -> None:
    """Draw a picture of latent views.

    Each row shows an anchor, its positives beside it, and the distance |z' - z| below each. The pairs are the first ones that
    genrep-generate dataset writes for the same generator, view and seed, before --filter. A view on several groups of W layers
    counts the distance over all their z' together.

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
        note(f"left out       {reason.in_shell()}")
    distances, lines = [], []
    for item in () if config.distances else found.shown:
        title = " ".join((item.panel.title, *item.panel.part))
        low, mean, high = item.distances.min(), item.distances.mean(), item.distances.max()
        distances.append({"view": title, "least": low, "mean": mean, "most": high})
        lines.append(f"distance       {mean:.3g} on average, {low:.3g} to {high:.3g}: {title}")
    lines.append(f"picture        {found.path}, {found.layout.width}x{found.layout.height}")
    tell({"picture": found.path, "distances": distances, "left_out": found.left_out}, lines)

"""``list``, ``weights`` and ``import-walk``: the generators that there are, their weights, and walks that others released."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import say
from genrep.errors import RecipeError
from genrep.option_types import PATH, PATH_TEXT


@click.command("weights")
@click.argument("name", type=PATH_TEXT)
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Put the file here.  [default: the cache, below GENREP_HOME or ~/.cache/genrep]",
)
def weights_command(name: str, out: Path | None) -> None:
    """Get the weights of the recipe NAME: download, resume, check."""
    from ..weights.locate import get_weights

    say(get_weights(name, out))


@click.command("list")
def list_recipes() -> None:
    """List the recipes that ship with the package."""
    from ..recipes.recipe import known_recipes, load_recipe

    for name in known_recipes():
        recipe = load_recipe(name)
        where = "ship with the package" if str(recipe.weights).startswith("package:") else "are downloaded"
        weights = "by --weights FILE" if recipe.weights is None else where
        say(f"{name:24} {recipe.family:13} weights {weights}; licence: {recipe.licence}")


@click.command("import-walk")
@click.argument("source", metavar="SRC", type=PATH)
@click.option("--out", metavar="FILE.safetensors", type=PATH, required=True, help="The new file.")
@click.option("--chunks", metavar="A-B", default="", help="The chunks of the latent that a navigator was learned for.")
@click.option("--layers", metavar="A-B", default="", help="StyleGAN2: the W layers that it was learned for.")
def import_walk_command(source: Path, out: Path, chunks: str, layers: str) -> None:
    """Convert a released walk (GenRep) or navigator (COP-Gen, HL) for "--views steered" or "--views navigator".

    Nothing in the file is executed.

    \b
    Example:
      genrep-generate import-walk released.pth --out navigator.safetensors
      genrep-generate preview --gen bigbigan --views navigator:weights=navigator.safetensors --out sheet.png
    """
    from ..views.base import parse_range

    if out.suffix != ".safetensors":
        raise click.UsageError(f"--out {out}: wanted a name that ends in .safetensors")
    if out.resolve() == source.resolve():
        raise click.UsageError(f"--out {out}: is the file that is read")
    if chunks and layers:
        raise click.UsageError(f"--chunks {chunks} and --layers {layers}: give one of the two")
    try:
        for option, text in (("--chunks", chunks), ("--layers", layers)):
            if text:
                parse_range(text, option)
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    from ..generators.base import read_safetensors
    from ..views.released import import_walk

    out.parent.mkdir(parents=True, exist_ok=True)
    tensors, facts = read_safetensors(import_walk(source, out, chunks=chunks, layers=layers))
    if facts["genrep"].startswith("navigator/"):
        kind, view = f"navigator of {facts['dim']} components", "navigator:weights"
    else:
        kind, view = f"walks {', '.join(tensors)} of {facts['dim']} components", "steered:walks"
    say(f"found          {kind}")
    say(f"written to     {out}; use it as --views {view}={out}")

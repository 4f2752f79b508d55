"""``list`` and ``weights``: the generators that there are, and getting them."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import say
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

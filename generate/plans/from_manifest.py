"""From a manifest's resolved recipe, which may be a stranger's, back to a recipe and the settings of its build."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from genrep.across import RegenerationConfig
from genrep.errors import ConfigError, RecipeError

from ..pixels import FORMULAS
from ..recipes.recipe import Recipe, known_recipes, latent_spec, load_recipe
from ..views import View, view_from_json
from ..views.base import Draw
from ..weights.load import LoadedGenerator
from .config import BuildConfig
from .resolve import resolve_views

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # of a recipe: downloads lie in a folder of this name
MAX_TEXT = 500  # characters of an error that may quote a stranger


def recipe_of(resolved: dict[str, Any], config: RegenerationConfig) -> Recipe:
    """The recipe that a manifest's was resolved from, weights excepted: those are found by its name, or given.

    Raises:
        RecipeError: it is of real images, of code that the user did not name, or not one that this package writes.
    """
    if "source" in resolved:
        raise RecipeError("the dataset holds real images: make it again with genrep-generate from-folder, or fetch it")
    if "filter" in resolved and config.filter is None:
        raise RecipeError("its pairs were filtered: give --filter keep=PART,weights=FILE")
    with recipes_faults():
        name, family = resolved["generator"]["name"], resolved["generator"]["family"]
        if family == "module" or ":" in name:
            if config.gen != name:
                raise RecipeError(
                    f"its generator is code, {name[:100]!r}: give that as --gen if you trust it to be run here"
                )
            return _declared(resolved, config, name, "module")
        if not NAME.fullmatch(name):
            raise RecipeError(f"its recipe is named {name[:100]!r}, wanted letters, digits and ._-")
        return _declared(resolved, config, name, family)


@contextmanager
def recipes_faults() -> Iterator[None]:
    """A recipe is a stranger's data, of any types: what that leads to is its fault."""
    try:
        yield
    except (RecipeError, ConfigError) as error:
        raise RecipeError(short(error.in_shell())) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError(short(f"not a recipe of genrep-generate: {type(error).__name__}: {error}")) from None


def short(text: str) -> str:
    """What may hold a stranger's text, safe to print."""
    text = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
    return text if text.isprintable() else ascii(text)


def draw_one(build: BuildConfig, recipe: Recipe, loaded: LoadedGenerator) -> None:
    """Draw a positive's latent: a learned view says now if its file was not given."""
    views, latent = resolve_views(build, recipe), latent_spec(recipe, loaded.generator.latent)
    first = np.zeros(1, dtype=np.int64)
    views.transform(latent.sample(build.seed, first), latent, Draw(seed=build.seed, indices=first))


def _declared(resolved: dict[str, Any], config: RegenerationConfig, name: str, family: str) -> Recipe:
    if family != "module" and config.gen is None and name not in known_recipes():
        base = Recipe(name=name, family=family, views=view_from_json({"name": "none"}))
    else:
        base = load_recipe(config.gen or name)
    image, latent = resolved["image"], resolved["latent"]
    if image["uint8"] not in FORMULAS:
        raise ValueError(f"uint8 {image['uint8']!r}")
    return replace(
        base,
        name=name,
        family=family,
        options={} if family == "module" else _options(resolved),
        latent={key: latent[key] for key in ("law", "truncation", "scale")} | {"chunks": tuple(latent["chunks"])},
        views=base.views if config.views else _views(resolved["views"]),
        uint8=image["uint8"],
        encoding=image["encoding"],
        crop=tuple(image["crop"]) if image["crop"] else None,
        resize=_size(image.get("resize")),
    )


def _options(resolved: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resolved["generator"]["options"].items() if key != "features"}


def _views(table: Any) -> View:
    """A manifest's views, which name no file: what they learned is stated by its digest, and found by the user's --views."""
    return view_from_json(table, "the manifest's views", strangers=True)


def _size(value: Any) -> tuple[int, int] | None:
    """Height and width, where a recipe states them."""
    if not value:
        return None
    height, width = map(int, value)
    return height, width


def build_config(resolved: dict[str, Any], config: RegenerationConfig, threads: int) -> BuildConfig:
    """The settings of the build that made a manifest's recipe. Raises RecipeError."""
    with recipes_faults():
        classes = ",".join(str(int(number)) for number in resolved["classes"]) or "all"
        return BuildConfig(
            num_pairs=resolved["num_pairs"],
            num_positives=max(1, int(resolved["num_positives"])),
            views=config.views,
            shard_size=str(resolved["pairs_per_shard"]),
            seed=resolved["seed"],
            weights=config.weights,
            features=config.features,
            classes=classes,
            filter=config.filter,
            threads=threads,
        )

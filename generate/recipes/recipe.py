"""Recipes: how a generator's images become a dataset.

A recipe is a TOML file (``generate/recipes/*.toml`` ship with the package), or anyone's own ``package.module:factory``.
"""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.errors import RecipeError, one_of
from genrep.files import user_path
from genrep.untrusted import parse_toml, read_bounded, shown

from ..generators.base import LatentSpec
from ..pixels import FORMULAS, parse_encoding
from ..views import View, view_from_json

MAX_BYTES = 1 << 20  # of a TOML file
FILE_NAME = re.compile(r"\w[\w.-]{0,127}(/\w[\w.-]{0,127}){0,4}", re.ASCII)  # of a file in a model folder
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
TEXT, TEXTS, NUMBER, WHOLES, FRAME = "a text", "a list of texts", "a number", "a list of whole numbers", "pixels"
SCALAR = "a text, a number, true or false"  # what the option of a family may be; the family checks its own
TYPES = {
    TEXT: (str,),
    TEXTS: (str,),
    NUMBER: (int, float),
    WHOLES: (int,),
    SCALAR: (str, int, float, bool),
}  # and FRAME, whose length counts too
TABLES: dict[str, dict[str, str] | None] = {
    "generator": {
        "family": TEXT,
        "weights": TEXT,
        "sha256": TEXT,
        "extra_weights": TEXTS,
        "addresses": TEXTS,
        "source": TEXT,
        "licence": TEXT,
        "truncation": NUMBER,
        "truncation_cutoff": NUMBER,
        "noise": TEXT,
        "conv_clamp": NUMBER,
        "class_names": TEXTS,
    },
    "latent": {"law": TEXT, "truncation": NUMBER, "scale": NUMBER, "chunks": WHOLES},
    "files": None,  # of a model folder: relative name = "sha256"; checked below
    "views": None,  # checked by the view itself
    "image": {"uint8": TEXT, "encoding": TEXT, "crop": FRAME, "resize": FRAME},
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe as written; plans/resolve.py turns it into what a manifest holds."""

    name: str
    family: str
    weights: str | None = None  # "package:FILE", a path (relative to the recipe's file) or a URL
    weights_sha256: str | None = None  # of that file, where its publisher states it
    extra_weights: tuple[str, ...] = ()  # URLs of files that belong beside it, such as its config
    addresses: tuple[str, ...] = ()  # of a model folder, tried in order: folders, hf://ORG/NAME@REVISION, http(s)
    files: dict[str, str] = field(default_factory=dict)  # of a model folder: sha256 by relative name
    source: str | None = None  # where a person finds the weights, if there is no URL that a program can fetch
    licence: str = "unknown"
    class_names: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)  # the generator's own: truncation, noise, ...
    latent: dict[str, Any] = field(default_factory=dict)  # overrides of the generator's LatentSpec
    views: View
    uint8: str = "127.5x+128"
    encoding: str | None = None  # None = raw up to 64 pixels, JPEG above
    crop: tuple[int, int, int, int] | None = None  # top, left, height, width of the network's output
    resize: tuple[int, int] | None = None  # height, width: what is left after the crop is shrunk to this
    folder: Path | None = None  # of the TOML file, for relative weights


def known_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    files = importlib.resources.files("genrep.generate.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in files.iterdir() if entry.name.endswith(".toml"))


def load_recipe(gen: str) -> Recipe:
    """Find a recipe by name, by the path of a TOML file, or make one for ``package.module:factory``.

    Raises:
        RecipeError: there is no such recipe, or its file is not what a recipe must be.
    """
    if gen.endswith(".toml"):
        path = user_path(gen)
        data = read_bounded(path, MAX_BYTES, RecipeError, follow=True)
        return _parse(data, path.stem, path.parent, where=str(path))
    if ":" in gen:
        return Recipe(name=gen, family="module", views=view_from_json({"name": "gaussian"}))
    if gen not in known_recipes():
        raise RecipeError.naming(
            "{gen} {!r}: unknown generator; known: {}, or FILE.toml, or package.module:factory",
            gen,
            one_of(gen, known_recipes()),
        )
    data = importlib.resources.files("genrep.generate.recipes").joinpath(f"{gen}.toml").read_bytes()
    return _parse(data, gen, None, where=f"recipe {gen}")


def _parse(data: bytes, name: str, folder: Path | None, where: str) -> Recipe:
    tables = parse_toml(data, where, RecipeError)
    for table, content in tables.items():
        if table not in TABLES or not isinstance(content, dict):
            raise RecipeError(f"{where}: unknown table [{shown(table)[1:-1]}]; known: {one_of(table, TABLES)}")
        if (kinds := TABLES[table]) is not None:
            own = _family_options(content) if table == "generator" else {}
            _check_kinds(content, {**own, **kinds}, f"{where}: [{table}]")
    generator, image = dict(tables.get("generator", {})), tables.get("image", {})
    if not isinstance(generator.get("family"), str):
        raise RecipeError(f"{where}: [generator] needs a family")
    uint8, crop, encoding = image.get("uint8", "127.5x+128"), image.get("crop"), image.get("encoding")
    if uint8 not in FORMULAS:
        raise RecipeError(f"{where}: [image] uint8 = {uint8!r}; known: {one_of(uint8, FORMULAS)}")
    if crop is not None and not (
        isinstance(crop, list) and len(crop) == 4 and all(type(n) is int and n >= 0 for n in crop)
    ):
        raise RecipeError(f"{where}: [image] crop = {crop!r}; wanted [top, left, height, width]")
    resize = image.get("resize")
    if resize is not None and not (
        isinstance(resize, list) and len(resize) == 2 and all(type(n) is int and n >= 1 for n in resize)
    ):
        raise RecipeError(f"{where}: [image] resize = {resize!r}; wanted [height, width]")
    if encoding is not None:
        parse_encoding(encoding)
    return Recipe(
        name=name,
        family=generator.pop("family"),
        weights=generator.pop("weights", None),
        weights_sha256=generator.pop("sha256", None),
        extra_weights=tuple(generator.pop("extra_weights", ())),
        addresses=tuple(generator.pop("addresses", ())),
        files=_files(tables.get("files", {}), where),
        source=generator.pop("source", None),
        licence=generator.pop("licence", "unknown"),
        class_names=tuple(generator.pop("class_names", ())),
        options=generator,
        latent=dict(tables.get("latent", {})),
        views=view_from_json(tables.get("views", {"name": "gaussian"}), where=f"{where}: [views]", folder=folder),
        uint8=uint8,
        encoding=encoding,
        crop=tuple(crop) if crop is not None else None,
        resize=tuple(resize) if resize is not None else None,
        folder=folder,
    )


def _files(table: dict[str, Any], where: str) -> dict[str, str]:
    """The table [files], whose keys stay inside a folder. Raises RecipeError."""
    for name, sha256 in table.items():
        if not FILE_NAME.fullmatch(name) or not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise RecipeError(
                f'{where}: [files] {shown(name)} = {shown(sha256)}; wanted "folder/name" = the sha256 as 64 hex digits'
            )
    return {name: sha256.lower() for name, sha256 in table.items()}


def _family_options(generator: dict[str, Any]) -> dict[str, str]:
    """The options of the recipe's family beyond those of all families. Asks the family only about keys that need it."""
    from ..generators.families import FAMILIES, family

    name = generator.get("family")
    if generator.keys() <= (TABLES["generator"] or {}).keys() or not isinstance(name, str) or name not in FAMILIES:
        return {}
    return dict.fromkeys(family(name).OPTIONS - {"features"}, SCALAR)  # features are files: --features names them


def _check_kinds(content: dict[str, Any], kinds: dict[str, str], where: str) -> None:
    for key, value in content.items():
        if key not in kinds:
            raise RecipeError(f"{where} has unknown key {shown(key)}; known: {one_of(key, sorted(kinds))}")
        if kinds[key] == FRAME:
            continue
        wanted = TYPES[kinds[key]]
        items = value if kinds[key] in (TEXTS, WHOLES) else [value]
        if not isinstance(items, list) or not all(type(item) in wanted for item in items):
            raise RecipeError(f"{where} {key} = {shown(value)}; wanted {kinds[key]}")


def latent_spec(recipe: Recipe, own: LatentSpec) -> LatentSpec:
    """The generator's own latent law with the recipe's overrides."""
    import dataclasses

    overrides = dict(recipe.latent)
    if "chunks" in overrides:
        overrides["chunks"] = tuple(overrides["chunks"])
    try:
        return dataclasses.replace(own, **overrides)
    except TypeError as error:
        raise RecipeError(f"recipe {recipe.name}: [latent]: {error}") from None


def framed_shape(recipe: Recipe, shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what a dataset keeps of a network's output.

    Raises RecipeError for a crop that leaves the image, or a size to shrink to that is larger than the crop.
    """
    if recipe.crop is not None:
        top, left, height, width = recipe.crop
        if height < 1 or width < 1 or top + height > shape[0] or left + width > shape[1]:
            raise RecipeError(
                f"recipe {recipe.name}: crop {list(recipe.crop)} does not lie inside {shape[0]}x{shape[1]}"
            )
        shape = height, width
    if recipe.resize is None:
        return shape
    if not all(1 <= new <= old for new, old in zip(recipe.resize, shape)):
        raise RecipeError(
            f"recipe {recipe.name}: resize {list(recipe.resize)}, wanted at most the {shape[0]}x{shape[1]} that are there"
        )
    return recipe.resize

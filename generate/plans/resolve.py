"""Resolve settings, a recipe and its generator into the plan of a build, and a manifest's recipe back into them.

A manifest's resolved recipe may be a stranger's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genrep.across import RegenerationConfig
from genrep.datasets_manifest.schema import WEIGHT_FIELD, field_table
from genrep.errors import ConfigError, RecipeError, phrase
from genrep.files import require_writable
from genrep.images.sets import require_images

from ..generators.base import Generator, LatentSpec
from ..generators.calls import require_plain
from ..pixels import FORMULAS, default_encoding, parse_encoding
from ..recipes.conditions import (
    ClassSelection,
    Conditions,
    Material,
    check_classes,
    class_count,
    make_conditions,
    select_classes,
)
from ..recipes.recipe import Recipe, framed_shape, known_recipes, latent_spec, load_recipe
from ..views import GeneratorFacts, View, parse_view, view_from_json
from ..views.base import Draw
from ..views.filters import FilterSpec, parse_filter
from ..views.foreground import WeighSpec, parse_weigh
from ..weights.load import LoadedGenerator
from .build_plan import BuildPlan, pair_bytes, shard_pairs, small_page
from .config import BuildConfig, parse_part
from .tables import planned_tables


def resolve_views(config: BuildConfig, recipe: Recipe) -> View:
    """The view of ``--views``, else the recipe's."""
    return parse_view(config.views) if config.views is not None else recipe.views


def resolve_filter(config: BuildConfig) -> FilterSpec | None:
    """The filter of ``--filter``."""
    return None if config.filter is None else parse_filter(config.filter)


def resolve_weigh(config: BuildConfig) -> WeighSpec | None:
    """What weighs pairs, of ``--weigh``."""
    return None if config.weigh is None else parse_weigh(config.weigh)


def check_options(config: BuildConfig) -> None:
    """Check the options of a build that do not depend on the generator, before its weights are downloaded and read.

    Raises:
        RecipeError, WeightsError: there is no such view, filter, foreground, class, encoding, shard size, part or file.
        ResumeError: ``out`` cannot be written.
    """
    if config.views is not None:
        parse_view(config.views).files()
    for chosen in (resolve_filter(config), resolve_weigh(config)):
        if chosen is not None:
            chosen.files()
    check_classes(config.classes)
    if config.anchors is not None:
        require_images(config.anchors)
    if config.encoding is not None:
        parse_encoding(config.encoding)
    shard_pairs(config.shard_size, config.most_pairs, 1.0)
    parse_part(config.part)
    require_writable(config.out)


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    """Everything that the options, a recipe and its generator resolve to."""

    views: View
    latent: LatentSpec
    num_positives: int
    selection: ClassSelection
    conditions: Conditions
    material: Material
    filtering: FilterSpec | None
    weighing: WeighSpec | None
    shape: tuple[int, int]  # height and width of the images
    encoding: str
    latents_stored: bool


def make_plan(
    config: BuildConfig, recipe: Recipe, loaded: LoadedGenerator, material: Material | None = None
) -> BuildPlan:
    """Resolve a build. ``material``: its prompts and real anchors.

    Raises:
        RecipeError: options that contradict each other or the generator.
    """
    found = _resolve(config, recipe, loaded.generator, material or Material())
    views, anchors, prompts = found.views, found.material.anchors, found.material.prompts
    fields = field_table(
        found.shape,
        found.encoding,
        num_positives=found.num_positives,
        z_anchor=None if anchors is not None else list(found.latent.shape),
        z_positive=list(views.positive_shape(found.latent)),
        latents_stored=found.latents_stored,
        floats=(*views.parameter_names, *(() if found.weighing is None else (WEIGHT_FIELD,))),
        instances=found.conditions.by_row,
        prompts=0 if prompts is None else 1 + found.num_positives * views.changes_prompt,
        sources=anchors is not None,
    )
    per_pair = pair_bytes(fields)
    num_pairs = config.num_pairs or (config.most_pairs if anchors is None else len(anchors))
    per_shard = shard_pairs(config.shard_size, num_pairs, per_pair)
    tables = planned_tables(prompts, anchors)
    return BuildPlan(
        recipe={
            **_identity(config, recipe, loaded, found),
            **{table.key: table.identity() for table in tables},
            "num_pairs": num_pairs,
            "pairs_per_shard": per_shard,
            "seed": config.seed,
        },
        fields=fields,
        classes=_class_names(recipe, loaded, found),
        facts={**_facts(recipe, loaded, found), **small_page(fields, per_shard * per_pair)},
        tables=tables,
    )


def _resolve(config: BuildConfig, recipe: Recipe, generator: Generator, material: Material) -> _Resolved:
    """Fill in what is left open, and check that it fits together. Raises RecipeError."""
    views, latent = resolve_views(config, recipe), latent_spec(recipe, generator.latent)
    shape = framed_shape(recipe, generator.image_shape)
    encoding = config.encoding or recipe.encoding or default_encoding(*shape)
    parse_encoding(encoding)
    views.check(latent, GeneratorFacts.of(generator))
    selection = select_classes(config.classes, 0 if material.anchors is not None else class_count(generator))
    conditions = make_conditions(selection.numbers, generator, material)
    if views.changes_prompt:
        conditions.require_groups()
    filtering = resolve_filter(config)
    if filtering is not None:
        if material.prompts is not None or material.anchors is not None:
            raise RecipeError.naming("{filter}: keeps anchors by their class; prompts and real anchors are all kept")
        require_plain(generator, recipe.name)
        filtering.check(shape, len(conditions.choices))
    num_positives = config.num_positives if views.has_positive else 0
    weighing = resolve_weigh(config)
    if weighing is not None:
        weighing.check(views.name, num_positives)
    return _Resolved(
        views=views,
        latent=latent,
        num_positives=num_positives,
        selection=selection,
        conditions=conditions,
        material=material,
        filtering=filtering,
        weighing=weighing,
        shape=shape,
        encoding=encoding,
        latents_stored=_latents_stored(config, latent, views, filtered=filtering is not None),
    )


def require_view_of_images(config: BuildConfig, recipe: Recipe, generator: Generator) -> None:
    """Refuse views that make no positives of real anchors, before these are read. Raises RecipeError."""
    views = resolve_views(config, recipe)
    views.check(latent_spec(recipe, generator.latent), GeneratorFacts.of(generator))
    if not views.edits:
        raise RecipeError.naming(
            "{anchors}: real images have no latent that {views} {} could move; wanted a view of images, sdedit or unclip",
            views.name,
        )


def determined(views: View, *, filtered: bool) -> bool:
    """Whether recipe and index give a pair's latents back: no file of learned parameters and no filter decides on them."""
    return not filtered and not views.latents_need_files


def _latents_stored(config: BuildConfig, latent: LatentSpec, views: View, *, filtered: bool) -> bool:
    """Whether shards hold the latents. Raises RecipeError if nothing would give them back."""
    free = determined(views, filtered=filtered)
    if config.store_latents == "no" and not free:
        what = "{filter} decides" if filtered else "the learned view's file decides"
        raise RecipeError.naming(
            f"{{store_latents}} no: {what} on the latents, so the recipe alone cannot give them back"
        )
    return config.store_latents == "yes" or not free or (config.store_latents == "auto" and latent.dim <= MOST_STORED)


def _class_names(recipe: Recipe, loaded: LoadedGenerator, found: _Resolved) -> tuple[str, ...]:
    """Names of the labels: of real anchors' classes, prompts' groups, or the generator's classes."""
    if found.material.anchors is not None:
        return found.material.anchors.classes
    if found.material.prompts is not None:
        return found.material.prompts.groups
    return class_names(_with_own_classes(recipe, loaded), found.selection, class_count(loaded.generator))


def _identity(config: BuildConfig, recipe: Recipe, loaded: LoadedGenerator, found: _Resolved) -> dict[str, Any]:
    """Everything besides the seed and i that pair i depends on. It is the dataset's identity, so no key may change."""
    options = {**recipe.options, **config.generator_options()}
    if "features" in options:
        options["features"] = loaded.features_digest
    identity = {
        "generator": {
            "name": recipe.name,
            "family": recipe.family,
            "weights": loaded.weights_digest,
            "config": loaded.config,
            "options": options,
            "precision": "fp32",
        },
        "latent": found.latent.to_json(),
        "views": found.views.to_json(),
        "num_positives": found.num_positives,
        "classes": list(found.selection.numbers),
        "image": {
            "height": found.shape[0],
            "width": found.shape[1],
            "crop": list(recipe.crop) if recipe.crop else None,
            "uint8": recipe.uint8,
            "encoding": found.encoding,
            **({"resize": list(recipe.resize)} if recipe.resize else {}),  # without one the identity stays what it was
        },
    }
    # A recipe without these has no such keys: its identity stays what it was.
    for key, chosen in (("filter", found.filtering), ("weigh", found.weighing)):
        if chosen is not None:
            identity[key] = chosen.to_json()
    if not found.latents_stored:
        identity["latents_stored"] = False
    return identity


def _facts(recipe: Recipe, loaded: LoadedGenerator, found: _Resolved) -> dict[str, Any]:
    """The part of the manifest's ``build`` about files: where they came from, and under which licence."""
    others = [one.files() for one in (found.filtering, found.weighing) if one is not None]
    files = (*found.views.files(), *(file for one in others for file in one))
    return {
        "weights": {key: value for key, value in loaded.weights_facts.items() if key != "classes"},
        "licence": loaded.weights_facts.get("licence", recipe.licence),
        **({"anchors_licence": found.material.anchors.licence} if found.material.anchors is not None else {}),
        "views": [{"digest": file.digest, "file": file.path.name, "sha256": file.sha256} for file in files],
    }


def _with_own_classes(recipe: Recipe, loaded: LoadedGenerator) -> Recipe:
    """The recipe with the class names that the weights of a user's own generator bring, if any."""
    own = tuple(loaded.weights_facts.get("classes", ()))
    return replace(recipe, class_names=own) if own and len(own) == class_count(loaded.generator) else recipe


def class_names(recipe: Recipe, selection: ClassSelection, count: int) -> tuple[str, ...]:
    """Names of the labels 0 .. count - 1: the selection's own, else the recipe's, else their numbers."""
    if recipe.class_names and len(recipe.class_names) != count:
        raise RecipeError(
            f"recipe {recipe.name}: {len(recipe.class_names)} class_names, the generator has {count} classes"
        )
    names = {**dict(enumerate(recipe.class_names)), **selection.names}
    return tuple(names.get(number, str(number)) for number in range(count))


MOST_STORED = 4096  # values of a latent that is stored unless somebody asks for it: 16 KiB
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # of a recipe, whose downloads are in a folder of this name
MAX_TEXT = 500  # characters of an error that may quote a stranger


def recipe_of(resolved: dict[str, Any], config: RegenerationConfig) -> Recipe:
    """The recipe that a manifest's was resolved from, weights excepted: those are found by its name, or given.

    Raises:
        RecipeError: it is of real images, of code that the user did not name, or not one that this package writes.
    """
    if "source" in resolved:
        raise RecipeError("the dataset holds real images: make it again with genrep-generate from-folder, or fetch it")
    if "filter" in resolved and config.filter is None:
        raise RecipeError.naming("its pairs were filtered: give {filter} keep=PART,weights=FILE")
    if "weigh" in resolved and config.weigh is None:
        raise RecipeError.naming("its pairs are weighed: give {weigh} foreground=FILE,gamma=NUMBER")
    with recipes_faults():
        name, family = resolved["generator"]["name"], resolved["generator"]["family"]
        if family == "module" or ":" in name:
            if config.gen != name:
                raise RecipeError.naming(
                    "its generator is code, {!r}: give that as {gen} if you trust it to run here", name[:100]
                )
            return _declared(resolved, config, name, "module")
        if not NAME.fullmatch(name):
            raise RecipeError(f"its recipe is named {name[:100]!r}, wanted letters, digits and ._-")
        return _declared(resolved, config, name, family)


@contextmanager
def recipes_faults() -> Iterator[None]:
    """Report errors of any kind as faults of the recipe, which is a stranger's data and may hold any types."""
    try:
        yield
    except (RecipeError, ConfigError) as error:
        raise RecipeError.naming("{}", phrase("{}", error).map(short)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError(short(f"not a recipe of genrep-generate: {type(error).__name__}: {error}")) from None


def short(text: str) -> str:
    """Make text that may be a stranger's safe to print."""
    text = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
    return text if text.isprintable() else ascii(text)


def draw_one(build: BuildConfig, recipe: Recipe, loaded: LoadedGenerator) -> None:
    """Draw a positive's latent, so that a learned view reports a missing file now."""
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
        options={}
        if family == "module"
        else {k: v for k, v in resolved["generator"]["options"].items() if k != "features"},
        latent={key: latent[key] for key in ("law", "truncation", "scale")} | _chunks(latent["chunks"]),
        views=base.views if config.views else _views(resolved["views"]),
        uint8=image["uint8"],
        encoding=image["encoding"],
        crop=tuple(image["crop"]) if image["crop"] else None,
        resize=_size(image.get("resize")),
    )


def _chunks(sizes: Any) -> dict[str, tuple[int, ...]]:
    """The chunks of a latent that has more than one."""
    return {"chunks": tuple(sizes)} if len(sizes) > 1 else {}


def _views(table: Any) -> View:
    """A manifest's views. They name no file: a learned view states a digest, and the user's --views gives the file."""
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
        stored = resolved.get("latents_stored", True)
        anchors = resolved.get("anchors")
        if anchors is not None and config.anchors is None:
            raise RecipeError.naming("its anchors are real images: give {anchors} DIR, where they are")
        if "prompts" in resolved and config.prompts is None:
            raise RecipeError.naming("it was made from prompts: give {prompts} FILE")
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
            weigh=config.weigh,
            prompts=config.prompts,
            anchors=config.anchors,
            root=config.root,
            download=config.download,
            split=anchors["split"] if anchors is not None else "train",
            store_latents="yes" if stored else "no",
            threads=threads,
        )

"""From options, a recipe and its generator to the plan of a build."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from genrep.datasets_manifest.schema import field_table
from genrep.errors import RecipeError
from genrep.files import require_writable

from ..generators.base import Generator, LatentSpec
from ..pixels import default_encoding, parse_encoding
from ..recipes.conditions import ClassSelection, Conditions, check_classes, class_count, make_conditions, select_classes
from ..recipes.recipe import Recipe, framed_shape, latent_spec
from ..views import GeneratorFacts, View, parse_view
from ..views.filters import FilterSpec, parse_filter
from ..weights.load import LoadedGenerator
from .config import BuildConfig, parse_part
from .plan import Plan, pair_bytes, shard_pairs, small_page


def resolve_views(config: BuildConfig, recipe: Recipe) -> View:
    """The view of ``--views``, else the recipe's."""
    return parse_view(config.views) if config.views is not None else recipe.views


def resolve_filter(config: BuildConfig) -> FilterSpec | None:
    """The filter of ``--filter``."""
    return None if config.filter is None else parse_filter(config.filter)


def check_options(config: BuildConfig) -> None:
    """Find what is wrong with a build's options whatever the generator: before its weights are downloaded and read.

    Raises:
        RecipeError, WeightsError: there is no such view, filter, class, encoding, shard size, part or file.
        ResumeError: ``out`` cannot be written.
    """
    if config.views is not None:
        parse_view(config.views).files()
    if (filtering := resolve_filter(config)) is not None:
        filtering.files()
    check_classes(config.classes)
    if config.encoding is not None:
        parse_encoding(config.encoding)
    shard_pairs(config.shard_size, config.num_pairs, 1.0)
    parse_part(config.part)
    require_writable(config.out, "--out")


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    """All that options, a recipe and its generator come to."""

    views: View
    latent: LatentSpec
    num_positives: int
    selection: ClassSelection
    conditions: Conditions
    filtering: FilterSpec | None
    shape: tuple[int, int]  # height and width of the images
    encoding: str


def make_plan(config: BuildConfig, recipe: Recipe, loaded: LoadedGenerator) -> Plan:
    """Resolve a build.

    Raises:
        RecipeError: options that contradict each other or the generator.
    """
    found = _resolve(config, recipe, loaded.generator)
    fields = field_table(
        found.shape,
        found.encoding,
        num_positives=found.num_positives,
        z_anchor=[found.latent.dim],
        z_positive=list(found.views.positive_shape(found.latent)),
        instances=found.conditions.by_row,
    )
    per_pair = pair_bytes(fields)
    per_shard = shard_pairs(config.shard_size, config.num_pairs, per_pair)
    return Plan(
        recipe={
            **_identity(config, recipe, loaded, found),
            "num_pairs": config.num_pairs,
            "pairs_per_shard": per_shard,
            "seed": config.seed,
        },
        fields=fields,
        classes=class_names(_with_own_classes(recipe, loaded), found.selection, class_count(loaded.generator)),
        facts={**_facts(recipe, loaded, found), **small_page(fields, per_shard * per_pair)},
    )


def _resolve(config: BuildConfig, recipe: Recipe, generator: Generator) -> _Resolved:
    """Decide what is left open, and see that it goes together. Raises RecipeError."""
    views, latent = resolve_views(config, recipe), latent_spec(recipe, generator.latent)
    shape = framed_shape(recipe, generator.image_shape)
    encoding = config.encoding or recipe.encoding or default_encoding(*shape)
    parse_encoding(encoding)
    views.check(latent, GeneratorFacts.of(generator))
    selection = select_classes(config.classes, class_count(generator))
    conditions = make_conditions(selection.numbers, generator)
    filtering = resolve_filter(config)
    if filtering is not None:
        filtering.check(shape, len(conditions.choices))
    return _Resolved(
        views=views,
        latent=latent,
        num_positives=config.num_positives if views.has_positive else 0,
        selection=selection,
        conditions=conditions,
        filtering=filtering,
        shape=shape,
        encoding=encoding,
    )


def _identity(config: BuildConfig, recipe: Recipe, loaded: LoadedGenerator, found: _Resolved) -> dict[str, Any]:
    """What pair i is a function of, besides the seed and i: the dataset's identity is made of it, so no key may change."""
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
    if found.filtering is not None:  # an unfiltered recipe has no such key: its identity stays what it was
        identity["filter"] = found.filtering.to_json()
    return identity


def _facts(recipe: Recipe, loaded: LoadedGenerator, found: _Resolved) -> dict[str, Any]:
    """For the manifest's ``build``: where files came from, and under which licence."""
    files = (*found.views.files(), *(found.filtering.files() if found.filtering is not None else ()))
    return {
        "weights": {key: value for key, value in loaded.weights_facts.items() if key != "classes"},
        "licence": loaded.weights_facts.get("licence", recipe.licence),
        "views": [{"digest": file.digest, "file": file.path.name, "sha256": file.sha256} for file in files],
    }


def _with_own_classes(recipe: Recipe, loaded: LoadedGenerator) -> Recipe:
    """The recipe with the class names of a generator of one's own, where its weights come with such."""
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

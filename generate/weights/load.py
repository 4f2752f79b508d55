"""From a recipe and a weights file to a generator ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import RecipeError, WeightsError, one_of
from genrep.files import file_and_network

from ..generators.base import Generator
from ..generators.families import family, is_of_folders, options_before, weightless
from .model_folder import LocatedFolder, is_model_folder, locate_folder

if TYPE_CHECKING:
    import torch

    from ..generators.base import Checkpoint
    from ..recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LoadedGenerator:
    """A generator with the facts of its weights."""

    generator: Generator
    weights_digest: (
        str | None
    )  # sha256 over the converted tensors, part of the dataset's identity; None: there are none
    config: dict[str, Any] = field(default_factory=dict)  # of the checkpoint: facts that cannot be read off the tensors
    features_digest: str | None = None  # of the instance features, for the families that take them
    weights_facts: dict[str, Any] = field(default_factory=dict)  # file, its sha256, source, licence


def load_generator(
    gen: str | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Generator:
    """Load a generator by recipe name, TOML file, ``package.module:factory``, or (``gen=None``) from a weights file.

    The result is frozen, in eval mode and differentiable in z. Its ``latent`` carries the recipe's law.

    Args:
        gen: see above.
        weights: a file or folder to read instead of the recipe's own; with ``gen=None`` its family is recognised.
            ``FILE#NETWORK`` chooses one of several networks in a file, by the prefix of its tensors' names.
        device: torch device.
        options: of the family, overriding the recipe's: ``truncation`` (psi of StyleGAN2, default 1; the statistics of
            BigGAN-deep), ``truncation_cutoff``, ``noise`` ("const", "none", "random"), ``conv_clamp``, ``features``
            (IC-GAN: an array (N, d) or a file).

    Raises:
        RecipeError: no such generator or option.
        WeightsError: the weights are missing, damaged or of another kind.
        GeneratorError: a user's own generator does not follow the protocol.
    """
    from ..recipes.recipe import latent_spec, load_recipe

    if gen is None:
        if weights is None:
            raise RecipeError("load_generator: give gen or weights")
        from .conversion import read_checkpoint

        path, network = file_and_network(weights)
        if is_model_folder(path):
            return _open_model_folder("diffusers", LocatedFolder(path=path), device, options).generator
        checkpoint, _ = read_checkpoint(path, None, network)
        return _open(checkpoint, device, options, path.name)
    recipe = load_recipe(gen)
    generator = open_generator(recipe, weights, device, options).generator
    if recipe.family != "module":
        generator.latent = latent_spec(recipe, generator.latent)
    return generator


def open_generator(
    recipe: Recipe,
    weights: str | Path | None,
    device: str | torch.device,
    options: Mapping[str, Any] | None = None,
) -> LoadedGenerator:
    """Build a recipe's generator; ``options`` override the recipe's."""
    if recipe.family == "module":
        from ..generators.families import open_module
        from ..generators.probe import probe

        if options:
            raise RecipeError.naming(
                "{gen} {}: takes no option {!r}; its factory decides", recipe.name, sorted(options)[0]
            )
        generator = open_module(recipe.name, device)
        probe(generator, recipe.name, device)
        return LoadedGenerator(generator=generator, weights_digest=None)
    from .conversion import read_checkpoint
    from .locate import locate

    given = {key: value for key, value in {**recipe.options, **(options or {})}.items() if value is not None}
    # Before a download: an unknown family or option, and a damaged file of features.
    _check_options(given, options_before(recipe.family), f"generator {recipe.name}")
    if weightless(recipe.family):
        return _open_plain(recipe, weights, device, given)
    if is_of_folders(recipe.family):
        return _open_model_folder(recipe.family, locate_folder(recipe, weights), device, given, recipe.weights_sha256)
    if "features" in given:
        from ..generators.instance_features import load_features

        given["features"] = load_features(given["features"])
    source = locate(recipe, weights)
    checkpoint, facts = read_checkpoint(source.path, recipe.family, source.network)
    generator = _open(checkpoint, device, given, recipe.name)
    instances = getattr(generator, "instances", None)
    return LoadedGenerator(
        generator=generator,
        weights_digest=checkpoint.digest(),
        config=checkpoint.config,
        features_digest=None if instances is None else instances.digest(),
        weights_facts={**facts, **source.facts},
    )


def _open_plain(
    recipe: Recipe, weights: str | Path | None, device: str | torch.device, options: Mapping[str, Any]
) -> LoadedGenerator:
    """The generator of a family without weights, whose identity is its options and the version of its law."""
    from .locate import refuse_weights

    refuse_weights(recipe, weights)
    module: Any = family(recipe.family)
    generator: Generator = module.open_plain(device=device, **options)
    return LoadedGenerator(generator=generator, weights_digest=None, config={"law": module.LAW})


def _open_model_folder(
    name: str,
    found: LocatedFolder,
    device: str | torch.device,
    options: Mapping[str, Any],
    sha256: str | None = None,
) -> LoadedGenerator:
    """``sha256``: what the digest must begin with. Raises WeightsError if it does not."""
    module: Any = family(name)
    loaded = module.open_folder(found.path, device=device, only=found.only, **options)
    if sha256 is not None and not loaded.digest.startswith(sha256.lower()):
        raise WeightsError(f"weights {found.path}: the model's digest is {loaded.digest}, the recipe states {sha256}")
    return LoadedGenerator(
        generator=loaded.generator,
        weights_digest=loaded.digest,
        config=loaded.config,
        weights_facts={**loaded.facts, **found.facts},
    )


def _open(checkpoint: Checkpoint, device: str | torch.device, options: Mapping[str, Any], name: str) -> Generator:
    module = family(checkpoint.family)
    _check_options(options, module.OPTIONS, f"generator {name}")
    return module.open_checkpoint(checkpoint, device=device, **options)


def _check_options(options: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(options) - known)
    if unknown:
        wanted = one_of(unknown[0], sorted(known)) or "none"
        raise RecipeError(f"{where}: unknown option {unknown[0]!r}; known: {wanted}")

"""From a recipe and a weights file to a generator ready to run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.resources
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, RecipeError, WeightsError
from genrep.files import sha256_file

from .base import Generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..recipe import Recipe

OPTIONS = {"truncation", "truncation_cutoff", "noise", "conv_clamp"}


@dataclass(frozen=True, kw_only=True)
class LoadedGenerator:
    """A generator with the facts of its weights."""

    generator: Generator
    weights_digest: str | None  # sha256 over the converted tensors: what identity is made of
    weights_facts: dict[str, Any] = field(default_factory=dict)  # file, its sha256, source, licence


def load_generator(
    gen: str | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    **options: Any,
) -> Generator:
    """Load a generator by recipe name, TOML file, ``package.module:factory``, or (``gen=None``) from a weights file.

    Args:
        gen: see above.
        weights: a file to read instead of the recipe's own.
        device: torch device.
        options: ``truncation`` (psi, default 1 or the recipe's), ``truncation_cutoff``, ``noise`` ("const", "none", "random").

    Raises:
        RecipeError: no such generator or option.
        WeightsError: the weights are missing, damaged or of another kind.
    """
    from ..recipe import Recipe, load_recipe
    from ..views import view_from_json

    unknown = set(options) - OPTIONS
    if unknown:
        raise RecipeError(f"load_generator: unknown option {sorted(unknown)[0]!r}; known: {', '.join(sorted(OPTIONS))}")
    if gen is None:
        if weights is None:
            raise RecipeError("load_generator: give gen or weights")
        recipe = Recipe(name=Path(weights).stem, family="stylegan2", views=view_from_json("none"))
    else:
        recipe = load_recipe(gen)
    return open_generator(recipe, weights, device, options).generator


def open_generator(
    recipe: Recipe, weights: str | Path | None, device: str | torch.device, options: dict[str, Any] | None = None
) -> LoadedGenerator:
    """Build a recipe's generator; ``options`` override the recipe's."""
    if recipe.family == "module":
        return _open_module(recipe, device)
    if recipe.family not in FAMILIES:
        raise RecipeError(f"recipe {recipe.name}: unknown family {recipe.family!r}; known: {', '.join(FAMILIES)}")
    with ExitStack() as stack:
        path = _weights_path(recipe, weights, stack)
        state = read_safetensors(path)
        facts = {
            "file": path.name,
            "sha256": sha256_file(path),
            "source": "a local file" if weights is not None else recipe.weights,
            "licence": recipe.licence if weights is None else "unknown",
        }
    generator = FAMILIES[recipe.family](state, device, {**recipe.options, **(options or {})})
    return LoadedGenerator(generator=generator, weights_digest=digest_tensors(state), weights_facts=facts)


def _weights_path(recipe: Recipe, weights: str | Path | None, stack: ExitStack) -> Path:
    if weights is None and recipe.weights is None:
        raise WeightsError(f"recipe {recipe.name}: no weights ship with it; give --weights FILE")
    if weights is None and str(recipe.weights).startswith("package:"):
        resource = importlib.resources.files("genrep.generate.weights").joinpath(
            str(recipe.weights).removeprefix("package:")
        )
        path = stack.enter_context(importlib.resources.as_file(resource))
    elif weights is None:
        path = (recipe.folder or Path()) / str(recipe.weights)
    else:
        path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file")
    return path


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, as float32. Raises WeightsError if it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path}: not a readable safetensors file ({error})") from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def digest_tensors(state: dict[str, Tensor]) -> str:
    """Hex sha256 over names, shapes, dtypes and little-endian bytes, in order of name: the same from any container."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        array = tensor.numpy()
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\x1f{tuple(tensor.shape)}\x1f{array.dtype.name}\x1f".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def _open_stylegan2(state: dict[str, Tensor], device: str | torch.device, options: dict[str, Any]) -> Generator:
    from .stylegan2.generator import StyleGAN2Generator

    try:
        return StyleGAN2Generator.from_state(state, device=device, **options)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise WeightsError(f"weights: not those of a StyleGAN2 generator ({str(error).splitlines()[0]})") from None


FAMILIES = {"stylegan2": _open_stylegan2}


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    # A console script does not look in the current folder, where people keep such a module. At the end of the path it
    # cannot shadow an installed package.
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _open_module(recipe: Recipe, device: str | torch.device) -> LoadedGenerator:
    module_name, _, attribute = recipe.name.partition(":")
    try:
        with _current_folder_importable():
            factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"--gen {recipe.name}: cannot import it ({error})") from None
    if not callable(factory):
        raise RecipeError(
            f"--gen {recipe.name}: {attribute} is not callable; wanted a function that returns a generator"
        )
    try:
        takes_device = "device" in inspect.signature(factory).parameters
        generator = factory(device=device) if takes_device else factory()
    except Exception as error:  # whatever a stranger's factory raises is theirs to mend, in one line
        raise GeneratorError(f"--gen {recipe.name}: the factory raised {type(error).__name__}: {error}") from error
    for name in ("latent", "num_classes", "image_shape", "synthesize"):
        if not hasattr(generator, name):
            raise GeneratorError(f"--gen {recipe.name}: the generator has no attribute {name!r}")
    return LoadedGenerator(generator=generator, weights_digest=None)

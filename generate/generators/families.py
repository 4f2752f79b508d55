"""The known families of generators, what each must offer, and a user's own ``package.module:factory``.

A user's own generator is found, called and checked before it is used for a dataset.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from genrep.errors import GeneratorError, GenRepError, RecipeError, one_of
from genrep.imports import find_factory

from .base import Generator, LatentSpec

if TYPE_CHECKING:
    import torch

    from .base import Checkpoint, Generator


_HERE = __name__.rpartition(".")[0]
# A file is offered to the families in this order until one knows it.
FAMILIES: dict[str, str] = {
    "stylegan2": f"{_HERE}.stylegan2.family",
    "biggan_deep": f"{_HERE}.biggan_deep.family",
    "bigbigan": f"{_HERE}.biggan.bigbigan",
    "icgan": f"{_HERE}.biggan.icgan",
    "biggan": f"{_HERE}.biggan.family",
    "residual_flow": f"{_HERE}.residual_flow.family",
    "dead_leaves": f"{_HERE}.procedural.dead_leaves",
    "fractal_noise": f"{_HERE}.procedural.fractal_noise",
    "stylegan2_random": f"{_HERE}.procedural.stylegan2_random",
    "diffusers": f"{_HERE}.diffusers.family",
}


class Family(Protocol):
    """The module of a family whose weights are a file.

    A family without weights has ``WEIGHTLESS = True``, OPTIONS, LAW (the version of what a latent's image is) and
    ``open_plain(*, device, **options) -> Generator`` instead.
    """

    OPTIONS: frozenset[
        str
    ]  # options of ``open_checkpoint``; a module may also have BACKBONES, families that its files may belong to

    def find(self, folder: Path) -> Path | None:
        """The weights file in a folder that its authors publish or their training writes; None if there is none."""
        ...

    def recognise(self, content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
        """The checkpoint in what ``unpickle.read_file`` (or safetensors) found at ``path``; None if it is not of this family.

        ``named``: the user said that it is, so that a doubt is settled in favour. ``network``: which of the file's networks is
        meant, as ``find_network`` takes it. Raises WeightsError for a file that is of this family but damaged or not
        supported, NoSuchNetwork for one that has others of this family than the one that is meant.
        """
        ...

    def open_checkpoint(
        self, checkpoint: Checkpoint, *, device: str | torch.device = "cpu", **options: Any
    ) -> Generator:
        """The frozen generator. Raises WeightsError, in one line, if tensors and config do not fit together."""
        ...


def family(name: str) -> Family:
    """The module of a family. Raises RecipeError for an unknown name."""
    if name not in FAMILIES:
        raise RecipeError(f"unknown family {name!r}; known: {one_of(name, FAMILIES)}")
    module: Any = importlib.import_module(FAMILIES[name])
    return module


def weightless(name: str) -> bool:
    """Whether a family needs no weights. Raises RecipeError for an unknown name."""
    return getattr(family(name), "WEIGHTLESS", False) is True


def is_of_folders(name: str) -> bool:
    """Whether a family's models are folders. Raises RecipeError for an unknown name; ``module`` is none."""
    return name != "module" and getattr(family(name), "FOLDER", False) is True


def families_of_files() -> list[str]:
    """The families whose weights are files, in the order in which a file is offered to them."""
    return [name for name in FAMILIES if hasattr(family(name), "recognise")]


def options_before(name: str) -> frozenset[str]:
    """The options that a family may take before its weights are read: its own and those of its possible backbones."""
    module: Any = family(name)
    return frozenset[str](module.OPTIONS).union(*(family(other).OPTIONS for other in getattr(module, "BACKBONES", ())))


ATTRIBUTES = ("latent", "num_classes", "image_shape", "synthesize")


def open_module(name: str, device: str | torch.device) -> Generator:
    """Import ``package.module:factory``, call it (with ``device=`` if it takes that), check what it returns.

    Raises:
        RecipeError: it cannot be imported.
        GeneratorError: the factory raised, or its generator is not what the protocol asks for.
    """
    factory = find_factory(name, "gen", "a generator", RecipeError)
    try:
        takes_device = "device" in inspect.signature(factory).parameters
        generator: Generator = factory(device=device) if takes_device else factory()
    except GenRepError:
        raise
    except Exception as error:  # whatever the factory raises is reported in one line, for its author to fix
        raise GeneratorError.naming("{gen} {}: the factory raised {}: {}", name, type(error).__name__, error) from error
    check_attributes(generator, name)
    _freeze(generator)
    return generator


def _freeze(generator: object) -> None:
    """Dropout and batch statistics make an image depend on more than its latent; parameters need no gradient."""
    import torch

    for part in (generator, *getattr(generator, "__dict__", {}).values()):
        if isinstance(part, torch.nn.Module):
            part.eval()
            for parameter in part.parameters():  # not the module's own requires_grad_, which a ScriptModule lacks
                parameter.requires_grad_(False)


def check_attributes(generator: Any, name: str) -> None:
    """Raise GeneratorError unless the object has the attributes of a Generator, of the right kinds."""
    for attribute in ATTRIBUTES:
        if not hasattr(generator, attribute):
            raise GeneratorError.naming("{gen} {}: the generator has no attribute {!r}", name, attribute)
    if not isinstance(generator.latent, LatentSpec):
        raise GeneratorError.naming(
            "{gen} {}: latent is a {}, wanted a genrep.generate.LatentSpec", name, type(generator.latent).__name__
        )
    classes = generator.num_classes
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise GeneratorError.naming("{gen} {}: num_classes is {!r}, wanted an integer, 0 for no classes", name, classes)
    shape = generator.image_shape
    sane = isinstance(shape, (tuple, list)) and len(shape) == 2
    if not (sane and all(isinstance(side, int) and side > 0 for side in shape)):
        raise GeneratorError.naming("{gen} {}: image_shape is {!r}, wanted (height, width)", name, shape)
    allow_range = getattr(generator, "allow_range", False)
    if not isinstance(allow_range, bool):
        raise GeneratorError.naming("{gen} {}: allow_range is {!r}, wanted True or False", name, allow_range)
    if not callable(generator.synthesize):
        raise GeneratorError.naming("{gen} {}: synthesize is not callable", name)

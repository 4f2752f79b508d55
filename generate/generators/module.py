"""Anyone's own generator, ``package.module:factory``: found, called, and looked at before it is trusted with a dataset."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, GenRepError, RecipeError
from genrep.imports import find_factory

from .base import Generator, LatentSpec

if TYPE_CHECKING:
    import torch

ATTRIBUTES = ("latent", "num_classes", "image_shape", "synthesize")


def open_module(name: str, device: str | torch.device) -> Generator:
    """Import ``package.module:factory``, call it (with ``device=`` if it takes that), check what it returns.

    Raises:
        RecipeError: it cannot be imported.
        GeneratorError: the factory raised, or its generator is not what the protocol asks for.
    """
    factory = find_factory(name, "--gen", "a generator", RecipeError)
    try:
        takes_device = "device" in inspect.signature(factory).parameters
        generator: Generator = factory(device=device) if takes_device else factory()
    except GenRepError:
        raise
    except Exception as error:  # whatever a stranger's factory raises is theirs to mend, in one line
        raise GeneratorError(f"--gen {name}: the factory raised {type(error).__name__}: {error}") from error
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
            raise GeneratorError(f"--gen {name}: the generator has no attribute {attribute!r}")
    if not isinstance(generator.latent, LatentSpec):
        raise GeneratorError(
            f"--gen {name}: latent is a {type(generator.latent).__name__}, wanted a genrep.generate.LatentSpec"
        )
    classes = generator.num_classes
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise GeneratorError(f"--gen {name}: num_classes is {classes!r}, wanted an integer, 0 for no classes")
    shape = generator.image_shape
    sane = isinstance(shape, (tuple, list)) and len(shape) == 2
    if not (sane and all(isinstance(side, int) and side > 0 for side in shape)):
        raise GeneratorError(f"--gen {name}: image_shape is {shape!r}, wanted (height, width)")
    allow_range = getattr(generator, "allow_range", False)
    if not isinstance(allow_range, bool):
        raise GeneratorError(f"--gen {name}: allow_range is {allow_range!r}, wanted True or False")
    if not callable(generator.synthesize):
        raise GeneratorError(f"--gen {name}: synthesize is not callable")

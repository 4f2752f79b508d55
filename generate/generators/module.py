"""Anyone's own generator, ``package.module:factory``: found, called, and looked at before it is trusted with a dataset."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, GenRepError, RecipeError

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
    module_name, _, attribute = name.partition(":")
    try:
        with _current_folder_importable():
            factory: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                factory = getattr(factory, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"--gen {name}: cannot import it ({error})") from None
    except Exception as error:  # a stranger's module may raise anything while it is imported
        raise RecipeError(f"--gen {name}: importing it raised {type(error).__name__}: {error}") from error
    if not callable(factory):
        raise RecipeError(f"--gen {name}: {attribute} is not callable; wanted a function that returns a generator")
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
            part.eval().requires_grad_(False)


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
    if not callable(generator.synthesize):
        raise GeneratorError(f"--gen {name}: synthesize is not callable")


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

"""The families of generators that are known, and what each must offer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from genrep.errors import RecipeError, one_of

if TYPE_CHECKING:
    import torch

    from .base import Generator
    from .checkpoint import Checkpoint

_HERE = __name__.rpartition(".")[0]
# A file is offered to the families in this order until one knows it.
FAMILIES: dict[str, str] = {
    "stylegan2": f"{_HERE}.stylegan2.family",
    "biggan_deep": f"{_HERE}.biggan_deep.family",
    "bigbigan": f"{_HERE}.biggan.bigbigan",
    "icgan": f"{_HERE}.biggan.icgan",
    "biggan": f"{_HERE}.biggan.family",
    "residual_flow": f"{_HERE}.residual_flow.family",
}


class Family(Protocol):
    """The module of a family."""

    OPTIONS: frozenset[
        str
    ]  # that ``open_checkpoint`` takes; a module may also have BACKBONES, families that its files may be of

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


def options_before(name: str) -> frozenset[str]:
    """The options that a family may take as long as its weights were not seen: also those of what it may turn out to be."""
    module: Any = family(name)
    return frozenset[str](module.OPTIONS).union(*(family(other).OPTIONS for other in getattr(module, "BACKBONES", ())))

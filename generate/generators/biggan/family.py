"""Family "biggan": class-conditional checkpoints of ajbrock/BigGAN-PyTorch (and of its descendants), hierarchical or not."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from genrep.errors import GeneratorError, WeightsError

from ..checkpoint import Checkpoint
from .files import find_weights, read_settings
from .generator import BigGANBase, check_choices, open_network
from .state import DEEP_MARK, canonical, convert, infer_layout, looks_like_biggan, naming

OPTIONS: frozenset[str] = frozenset()
find = find_weights


class BigGANGenerator(BigGANBase):
    """z and a class -> images; z ~ N(0, 1) as in training, or what the recipe says."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.num_classes = self.layout.num_classes

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``."""
        self.check_latents(z)
        if y is None:
            raise GeneratorError(f"this generator has {self.num_classes} classes: synthesize needs y")
        check_choices(y, z.shape[0], self.num_classes, "classes")
        return self.network(z, self.network.embed_classes(y))


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. The options come from ``state_dict*.pth`` beside the weights, if that is there."""
    found = looks_like_biggan(content, f"weights {path}", network)
    if found is None:
        return None
    if DEEP_MARK in found.tensors:
        raise WeightsError(f"weights {path}: a BigGAN-deep of BigGAN-PyTorch: not supported")
    settings = read_settings(path)
    with naming(f"weights {path}"):
        if infer_layout(canonical(found.tensors), settings)[0].feature_dim:
            return None  # an IC-GAN
        return convert("biggan", found, settings)


def open_checkpoint(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> BigGANGenerator:
    """See ``Family.open_checkpoint``."""
    return BigGANGenerator(open_network(checkpoint, device))

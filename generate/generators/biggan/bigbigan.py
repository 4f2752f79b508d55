"""Family "bigbigan": the generator of BigBiGAN (Donahue & Simonyan 2019), 128 px, ported to the graph of BigGAN-PyTorch.

``BigBiGAN_x1.pth`` has the names of a BigGAN. What sets it apart: it knows no classes, so that all rows of its class
embedding are equal, and its epsilons are TensorFlow's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..base import Checkpoint
from .networks import BigGANBase, check_choices, open_network
from .state import DEEP_MARK, Settings, convert, looks_like_biggan, naming

OPTIONS: frozenset[str] = frozenset()
SETTINGS = Settings(bn_eps=1e-4, sn_eps=1e-4, hierarchical=True, class_conditional=True, instance_conditional=False)


class BigBiGANGenerator(BigGANBase):
    """z -> images; z ~ N(0, 1) within +-2 (as DeepMind's samples and COP-Gen), chunk by chunk."""

    law = "truncated_normal"
    truncation = 2.0
    num_classes = 0

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``. y picks rows of the class embedding, which in the published weights are all equal."""
        self.check_latents(z)
        if y is None:
            return self.network(z, self.network.classes[:1])
        check_choices(y, z.shape[0], self.layout.num_classes, "rows")
        return self.network(z, self.network.embed_classes(y))


def find(folder: Path) -> Path | None:
    """The published file's name, or another ``BigBiGAN*.pth``."""
    return next(
        iter(sorted(folder.glob("BigBiGAN*.pth"), key=lambda path: (path.name != "BigBiGAN_x1.pth", path.name))), None
    )


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. Unless named, the class embedding's rows must be equal, or the file be called BigBiGAN."""
    found = looks_like_biggan(content, f"weights {path}", network)
    if found is None or DEEP_MARK in found.tensors or "shared_feat.weight" in found.tensors:
        return None
    table = found.tensors.get("shared.weight")
    if not isinstance(table, Tensor) or table.dim() != 2:
        return None
    unconditional = len(table) > 1 and bool((table == table[:1]).all())
    if not (named or unconditional or path.name.lower().startswith("bigbigan")):
        return None
    with naming(f"weights {path}"):
        return convert("bigbigan", found, SETTINGS)


def open_checkpoint(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> BigBiGANGenerator:
    """See ``Family.open_checkpoint``."""
    return BigBiGANGenerator(open_network(checkpoint, device))

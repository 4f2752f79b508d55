"""Family "icgan": instance-conditioned BigGANs (IC-GAN, Casanova et al. 2021), with classes as well (cc_icgan) or without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genrep.errors import GeneratorError

from ..base import Checkpoint
from ..instance_features import InstanceFeatures, load_features
from ..stylegan2 import family as stylegan2
from .family import find_weights, read_settings
from .networks import BigGANBase, BigGANNetwork, check_choices, open_network
from .state import canonical, convert, infer_layout, looks_like_biggan, naming

if TYPE_CHECKING:
    from ..instance_features import Source

OPTIONS: frozenset[str] = frozenset({"features"})
BACKBONES = ("stylegan2",)  # its files may belong to that family
ROWS_AT_ONCE = 4096


class ICGANGenerator(BigGANBase):
    """z and a row of the instance features -> images."""

    needs_instances = True

    def __init__(self, network: BigGANNetwork, instances: InstanceFeatures | None = None) -> None:
        super().__init__(network)
        self.instances = instances
        self.num_classes = 0 if instances is None else len(instances.features)
        self.conditions = None if instances is None else self._conditions(instances)

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``; y ``(B,)`` int64: rows of the features, or ``(B, rows)`` weights of them."""
        self.check_latents(z)
        if self.conditions is None:
            raise GeneratorError.naming("this generator is conditioned on instance features: give {features} FILE")
        if y is None:
            raise GeneratorError(f"this generator has {self.num_classes} rows of instance features: synthesize needs y")
        check_choices(y, z.shape[0], self.num_classes, "rows of the features")
        condition = self.conditions[y] if y.dim() == 1 else y.to(self.conditions.dtype) @ self.conditions
        return self.network(z, condition)

    def synthesize_conditioned(self, z: Tensor, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images for explicit conditions, used as they are.

        Shapes: z ``(B, dim)``; features ``(B, d)``, L2-normalised rows; labels ``(B,)`` int64 or ``(B, C)`` soft, only if the
        network is class-conditional -> ``(B, 3, H, W)``.
        """
        self.check_latents(z)
        return self.network(z, self._condition(features, labels))

    def _condition(self, features: Tensor, labels: Tensor | None) -> Tensor:
        layout, network = self.layout, self.network
        if features.dim() != 2 or features.shape[1] != layout.feature_dim:
            raise GeneratorError(f"features have shape {tuple(features.shape)}, wanted (N, {layout.feature_dim})")
        embedded = network.embed_features(features)
        if not layout.num_classes:
            return embedded
        if labels is None:
            raise GeneratorError("this IC-GAN is conditioned on classes too: the features need labels")
        check_choices(labels, features.shape[0], layout.num_classes, "classes")
        return torch.cat([network.embed_classes(labels), embedded], dim=1)

    def _conditions(self, instances: InstanceFeatures) -> Tensor:
        """The condition of every row, made once. Shape: ``(rows, condition_width)``."""
        labels = instances.labels if self.layout.num_classes else None
        device, made = self.network.linear.device, []
        for start in range(0, len(instances.features), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            made.append(
                self._condition(
                    instances.features[rows].to(device), None if labels is None else labels[rows].to(device)
                )
            )
        return torch.cat(made)


def find(folder: Path) -> Path | None:
    """``G_ema_best0.pth`` or ``G_ema_best1.pth``, whichever state beside it has the lower FID, as the published code picks."""
    return find_weights(folder) or stylegan2.find(folder)


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. The options come from ``state_dict*.pth`` beside the weights, if that is there."""
    found = looks_like_biggan(content, f"weights {path}", network)
    if found is None or "shared_feat.weight" not in found.tensors:
        return _stylegan2_backbone(content, path, network) if named else None
    settings = read_settings(path)
    with naming(f"weights {path}"):
        if not infer_layout(canonical(found.tensors), settings)[0].feature_dim:
            return None  # a BigGAN trained with IC-GAN's code: the layer is there but nothing uses it
        return convert("icgan", found, settings)


def _stylegan2_backbone(content: object, path: Path, network: str | None) -> Checkpoint | None:
    """IC-GAN's other backbone is a StyleGAN2 with an embedding of instance features, and goes on as that family."""
    found = stylegan2.recognise(content, path, named=False, network=network)
    return found if found is not None and "mapping.embed_feats.weight" in found.tensors else None


def open_checkpoint(
    checkpoint: Checkpoint, *, device: str | torch.device = "cpu", features: Source | None = None
) -> ICGANGenerator:
    """See ``Family.open_checkpoint``; features: see ``load_features``. Without them only the weights are looked at."""
    instances = None if features is None else load_features(features)
    return ICGANGenerator(open_network(checkpoint, device), instances)

"""BigGAN-deep behind the Generator protocol."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.errors import GeneratorError

from ..base import LatentSpec
from .network import BigGANDeepNetwork

SAMPLING_TRUNCATION = 2.0  # z is a normal redrawn outside +-2, times the truncation


class BigGANDeepGenerator:
    """A frozen, class-conditional BigGAN-deep at one truncation, which its batch statistics and its latents' scale follow."""

    def __init__(self, network: BigGANDeepNetwork, *, truncation: float = 1.0) -> None:
        self.network = network.eval().requires_grad_(False)
        self.truncation = truncation
        structure = network.structure
        self.latent = LatentSpec(
            dim=structure.z_dim, law="truncated_normal", truncation=SAMPLING_TRUNCATION, scale=truncation
        )
        self.num_classes = structure.num_classes
        self.image_shape = (structure.resolution, structure.resolution)

    def class_embeddings(self, y: Tensor | None) -> Tensor:
        """Class indices ``(B,)`` or soft classes ``(B, num_classes)`` -> ``(B, class_dim)``.

        Raises GeneratorError for anything else, and for classes that do not exist.
        """
        wanted = f"wanted classes (B,) below {self.num_classes} or soft classes (B, {self.num_classes})"
        if y is None:
            raise GeneratorError(f"BigGAN-deep: synthesize without y, {wanted}")
        if y.dim() == 2 and y.shape[1] == self.num_classes:
            return y.to(self.network.embeddings) @ self.network.embeddings
        if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool:
            raise GeneratorError(f"BigGAN-deep: y is {y.dtype} of shape {tuple(y.shape)}, {wanted}")
        # On a GPU this would wait for all work under way, and the kernel's own check ends the process anyway.
        if y.device.type == "cpu" and len(y) and not 0 <= int(y.min()) <= int(y.max()) < self.num_classes:
            raise GeneratorError(f"BigGAN-deep: y from {int(y.min())} to {int(y.max())}, {wanted}")
        return F.embedding(y.to(self.network.embeddings.device, torch.int64), self.network.embeddings)

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``. Raises GeneratorError for z or y of another shape."""
        if z.dim() != 2 or z.shape[1] != self.latent.dim:
            raise GeneratorError(f"BigGAN-deep: latents of shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")
        embedding = self.class_embeddings(y)
        if len(embedding) != len(z):
            raise GeneratorError(f"BigGAN-deep: {len(z)} latents with {len(embedding)} classes, wanted one each")
        return self.network(z.to(embedding.dtype), embedding).float()

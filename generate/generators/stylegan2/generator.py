"""StyleGAN2 behind the Generator protocol."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.errors import GeneratorError

from ..base import LatentSpec
from .networks import NoiseMode, StyleGAN2Config, StyleGAN2Network, infer_config


class StyleGAN2Generator:
    """A frozen StyleGAN2: ``synthesize(z, y)``, and ``mapping`` / ``synthesize_w`` for its two halves."""

    def __init__(
        self,
        network: StyleGAN2Network,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseMode = "const",
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config: StyleGAN2Config = network.config
        self.truncation = truncation  # psi, about w_avg; 1 = none
        self.truncation_cutoff = truncation_cutoff  # number of W inputs that psi applies to, None = all
        self.noise = noise
        self.latent = LatentSpec(dim=self.config.z_dim)
        self.num_classes = self.config.c_dim
        self.image_shape = (self.config.resolution, self.config.resolution)

    @classmethod
    def from_state(
        cls,
        state: dict[str, Tensor],
        *,
        conv_clamp: float | None = None,
        device: str | torch.device = "cpu",
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseMode = "const",
    ) -> StyleGAN2Generator:
        """Build the network that a state dict with ADA names describes. Raises GeneratorError if it does not fit."""
        network = StyleGAN2Network(infer_config(state, conv_clamp=conv_clamp))
        missing, unexpected = network.load_state_dict(state, strict=False)
        missing = [name for name in missing if not name.endswith("resample_filter")]  # follow from the architecture
        if missing or unexpected:
            raise GeneratorError(f"StyleGAN2 weights: missing {missing[:3]}, unexpected {unexpected[:3]}")
        network = network.to(device).to(memory_format=torch.channels_last)
        return cls(network, truncation=truncation, truncation_cutoff=truncation_cutoff, noise=noise)

    def class_vectors(self, y: Tensor | None) -> Tensor | None:
        """Class indices ``(B,)`` or soft classes ``(B, C)`` -> ``(B, C)`` float32; None for unconditional networks."""
        if self.num_classes == 0:
            return None
        if y is None:
            raise GeneratorError(f"this generator has {self.num_classes} classes: synthesize needs y")
        return F.one_hot(y, self.num_classes).float() if y.dim() == 1 else y.float()

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """f: Z -> W, before truncation. Shapes: z ``(B, z_dim)`` -> ``(B, w_dim)``."""
        return self.network.mapping(z, self.class_vectors(y))

    def synthesize_w(self, ws: Tensor) -> Tensor:
        """Images for one w per layer. Shape: ``(B, num_ws, w_dim) -> (B, 3, H, W)``; a gray image is repeated to RGB."""
        images = self.network.synthesis(ws, self.noise)
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``."""
        ws = self.network.broadcast(self.mapping(z, y), self.truncation, self.truncation_cutoff)
        return self.synthesize_w(ws)

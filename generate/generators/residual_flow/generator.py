"""Residual Flow behind the Generator protocol."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrep.errors import GeneratorError, WeightsError

from ..base import LatentSpec
from .network import ResidualFlowNetwork


class ResidualFlowGenerator:
    """A frozen Residual Flow run backwards; invertible, so a latent has as many components as the image has values."""

    def __init__(self, network: ResidualFlowNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.latent = LatentSpec(dim=network.latent_dim)
        self.num_classes = 0
        self.image_shape = network.image_size

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any], *, device: str | torch.device = "cpu"
    ) -> ResidualFlowGenerator:
        """Build the network that tensors and config describe. Raises WeightsError, in one line, if they do not fit."""
        try:
            network = ResidualFlowNetwork(tensors, config)
        except KeyError as error:
            raise WeightsError(f"Residual Flow weights: no {error}") from None
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise WeightsError(f"Residual Flow weights: {str(error).splitlines()[0]}") from None
        return cls(network.to(device))

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``; a gray image is repeated to RGB. Raises GeneratorError for latents of another size."""
        if z.dim() != 2 or z.shape[1] != self.latent.dim:
            raise GeneratorError(f"Residual Flow: latents of shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")
        images = self.network(z)
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

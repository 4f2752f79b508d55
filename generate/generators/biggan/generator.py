"""What the generators on this network have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from genrep.errors import GeneratorError

from ..base import LatentSpec, Law
from ..checkpoint import Checkpoint
from .networks import BigGANNetwork
from .state import Settings, naming


class BigGANBase:
    """A frozen network with its latent law and its checks."""

    law: Law = "normal"
    truncation: float | None = None

    def __init__(self, network: BigGANNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.layout = network.layout
        chunks = self.layout.chunks
        self.latent = LatentSpec(dim=sum(chunks), chunks=chunks, law=self.law, truncation=self.truncation)
        self.image_shape = (self.layout.resolution, self.layout.resolution)

    def check_latents(self, z: Tensor) -> None:
        """Raises GeneratorError for z of a wrong shape. What a chunked z has too much is ignored, as in the original."""
        wide_enough = z.dim() == 2 and (
            z.shape[1] >= self.latent.dim if self.layout.hierarchical else z.shape[1] == self.latent.dim
        )
        if not wide_enough:
            raise GeneratorError(f"z has shape {tuple(z.shape)}, wanted (B, {self.latent.dim})")


def check_choices(y: Tensor, batch: int, count: int, what: str) -> None:
    """Raises GeneratorError unless y is ``(B,)`` integers below count, or ``(B, count)`` weights."""
    one_each = y.dim() == 1 and not y.is_floating_point()
    if y.shape[0] != batch or not (one_each or tuple(y.shape[1:]) == (count,)):
        raise GeneratorError(
            f"y has shape {tuple(y.shape)} and dtype {y.dtype}, wanted ({batch},) int64 {what} or ({batch}, {count}) weights"
        )
    # Elsewhere than on the CPU, a look at the values would wait for the device.
    if one_each and y.device.type == "cpu" and batch and (int(y.min()) < 0 or int(y.max()) >= count):
        raise GeneratorError(f"y is {int(y.min())} to {int(y.max())}, wanted {what} from 0 to {count - 1}")


def open_network(checkpoint: Checkpoint, device: str | torch.device) -> BigGANNetwork:
    """Raises WeightsError if tensors and config of a checkpoint do not fit together."""
    with naming("weights"):
        return BigGANNetwork(checkpoint.tensors, Settings.from_json(checkpoint.config)).to(device)

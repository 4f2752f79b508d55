"""T, the network of a navigator: COP-Gen's NonlinearWalk and LinearWalk, HL's NonlinearWalker."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from genrep.seeding import derive

ROUNDING = 1e-6  # of δ, kept free so that float32 cannot round T(z) out of the ball
SMALL_WEIGHT_STD, SMALL_BIAS = 0.01, 0.001  # HL: T(z) starts near 0


class Walk(nn.Module):
    """``z -> T(z)``: linear layers with ReLU between them or nothing, projected on a ball if there is a constraint.

    With ``max_distance`` δ the result is ``T(z) · min(1, δ / ‖T(z)‖₂)``: the constraint d(z, z') <= δ of COP-Gen's eq. 4
    holds for every z, at every moment of training, and the gradient goes through the projection.

    Shape: ``(B, F) -> (B, F)``.
    """

    def __init__(self, widths: tuple[int, ...], *, activation: str = "relu", max_distance: float | None = None) -> None:
        super().__init__()
        self.activation = activation  # "relu" or "none"
        self.max_distance = max_distance
        self.dim = widths[0]  # F: how many components of the latent go in, and out
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))

    def forward(self, z: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            if i and self.activation == "relu":
                z = z.relu()
            z = layer(z)
        if self.max_distance is None:
            return z
        limit = self.max_distance * (1 - ROUNDING)
        # The divisor is at least the limit, so that T(z) = 0 has a gradient too.
        return z * (limit / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=limit))


def new_walk(
    dim: int, *, walk: str, reduction: int = 1, init: str = "torch", max_distance: float | None = None, seed: int
) -> Walk:
    """A fresh T with ``dim // reduction`` hidden units (at least one).

    ``init``: ``torch`` is the default of ``nn.Linear``, U(±1/√fan_in), which alone gives COP-Gen's T(z) a standard
    deviation of .21; ``small`` is HL's, N(0, .01) for weights and U(±.001) for biases, whose T(z) is nearly 0.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("navigator-init", seed))
        network = Walk(
            (dim, max(dim // reduction, 1), dim),
            activation="relu" if walk == "mlp" else "none",
            max_distance=max_distance,
        )
        if init == "small":
            for layer in network.layers:
                assert isinstance(layer, nn.Linear)
                nn.init.normal_(layer.weight, std=SMALL_WEIGHT_STD)
                nn.init.uniform_(layer.bias, -SMALL_BIAS, SMALL_BIAS)
    return network

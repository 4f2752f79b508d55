"""A network that follows another one as its exponential moving average."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genrep.errors import TrainingError

SCHEDULES = ("constant", "cosine")


class Target(nn.Module):
    """A copy of an encoder and its projector, without gradients.

    It stays in training mode, as BYOL's and MoCo's do: its batch norm takes the batch's statistics. Only parameters
    follow; the running statistics are its own, and nothing reads them.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.networks = nn.Sequential(deepcopy(encoder), deepcopy(projector)).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.networks(images)
        return output

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projector: nn.Module, momentum: float) -> None:
        """target <- momentum · target + (1 - momentum) · online."""
        online = [parameter.detach() for module in (encoder, projector) for parameter in module.parameters()]
        get_ema_multi_avg_fn(momentum)(list(self.networks.parameters()), online, 0)


def momentum_at(step: int, total_steps: int, base: float, schedule: str) -> float:
    """``base`` (``constant``), or 1 - (1 - base) (cos(π k / K) + 1) / 2 (``cosine``; Grill et al. 2020, section 3.3).

    >>> [round(momentum_at(k, 4, 0.9, "cosine"), 3) for k in range(5)]
    [0.9, 0.915, 0.95, 0.985, 1.0]
    """
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * step / total_steps) + 1) / 2


def require_momentum(value: float) -> float:
    """Raises TrainingError."""
    if not 0 <= value <= 1:
        raise TrainingError(f"--target-momentum {value}: wanted 0 to 1")
    return value

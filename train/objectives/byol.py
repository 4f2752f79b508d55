"""Bootstrap your own latent (Grill et al. 2020), as HL's later journal version trains it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import PAIR_WEIGHTS, Objective, Output, Setup, require_views, unit
from .heads import Target, mlp, momentum_at, require_momentum, require_schedule
from .simsiam import negative_cosine


class BYOL(Objective):
    """Online encoder, projector and predictor against a moving average of encoder and projector.

    Loss: for two views (2 - 2 cos(p₁, z'₂)) + (2 - 2 cos(p₂, z'₁)), mean over the samples (Grill et al. 2020, eqs. 2-3);
    with more, twice the mean over all ordered pairs of views. Projector 2048-8192-2048 and predictor 2048-512-2048 for
    ResNet-50, in these proportions for others; hidden layers have batch norm, outputs none. HL keeps the target's momentum
    constant at 0.996; BYOL itself raises it to 1 (``target_schedule="cosine"``).
    """

    name = "byol"
    num_views = 2  # at least
    weighs_pairs = True

    def __init__(self, setup: Setup, *, target_momentum: float = 0.996, target_schedule: str = "constant") -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        self.target_momentum = require_momentum(target_momentum)
        self.target_schedule = require_schedule(target_schedule)
        width = setup.width
        self.projector = mlp(width, 4 * width, width)
        self.predictor = mlp(width, width // 4, width)
        self.target = Target(setup.encoder, self.projector)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        by_view = images.chunk(self.num_views)
        projected = [self.projector(encoder(view)) for view in by_view]
        predicted = torch.stack([self.predictor(z) for z in projected])  # (V, B, D)
        targets = torch.stack([self.target(view) for view in by_view])
        # 4, whatever the weights: their mean over all ranks is 1.
        loss = 4 + 4 * negative_cosine(predicted, targets, batch.get(PAIR_WEIGHTS))
        return Output(loss, {}, unit(torch.stack(projected).detach()))

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        momentum = momentum_at(step, total_steps, self.target_momentum, self.target_schedule)
        self.target.follow(encoder, self.projector, momentum)

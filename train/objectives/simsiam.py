"""SimSiam (Chen & He 2021), as HL trains it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .base import PAIR_WEIGHTS, Objective, Output, Setup, full_precision, mean_over_pairs, require_views, unit
from .heads import mlp
from .pairs import between_views, within_samples


def negative_cosine(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over all ordered pairs of two views v ≠ u of -cos(p_v, stop-gradient(z_u)) (Chen & He 2021, eqs. 1-4).

    For two views: ½ D(p₁, z₂) + ½ D(p₂, z₁).

    Args:
        predictions, targets: Shape ``(V, B, D)`` each, of any length.
        weights: Shape ``(B,)``: of this rank's samples, see ``mean_over_pairs``.
    """
    with full_precision(predictions):
        return mean_over_pairs(-between_views(within_samples(unit(predictions), unit(targets.detach()))), weights)


class SimSiam(Objective):
    """Projector of three layers as wide as the features, predictor with a bottleneck of a quarter (ResNet-50: 2048, 512).

    Every layer of the projector ends in batch norm, the last one without scale and shift. The views go through the
    networks one by one, so that batch norm takes the statistics of one view. The predictor's rate has no schedule.
    The paper's encoder starts with zero-initialised residual branches; that is the encoder's matter.
    """

    name = "simsiam"
    num_views = 2  # at least
    weighs_pairs = True

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        width = setup.width
        self.projector = mlp(width, width, width, width, end=nn.BatchNorm1d(width, affine=False))
        self.predictor = mlp(width, width // 4, width)

    def fixed_rate_parameters(self) -> Iterable[nn.Parameter]:
        return self.predictor.parameters()

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        projected = [self.projector(encoder(view)) for view in images.chunk(self.num_views)]
        predicted = torch.stack([self.predictor(z) for z in projected])  # (V, B, D)
        targets = torch.stack(projected).detach()
        return Output(negative_cosine(predicted, targets, batch.get(PAIR_WEIGHTS)), {}, unit(targets))

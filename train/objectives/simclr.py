"""SimCLR (Chen et al. 2020), the objective of GenRep and COP-Gen; and what the objectives that vary its loss share."""

from __future__ import annotations

from torch import Tensor, nn

from genrep.encoders import EMBEDDING_DIM, Projector

from .base import (
    PAIR_WEIGHTS,
    Objective,
    Output,
    Setup,
    full,
    full_precision,
    mean_over_pairs,
    require_positive,
    require_views,
)
from .pairs import between_views, gather_views, leave_out_self, log_sum_exp, logits, within_samples


def nt_xent(views: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """InfoNCE (Chen et al. 2020, eq. 1): the mean over all images i and their partners j of

        -log( exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),

    s the inner products. The k are all images of all ranks but i itself; with more than two views the partners of i are
    its sample's other images (and stay among the k, as in SupCon, Khosla et al. 2020, eq. 2). One sample alone has loss 0.

    Args:
        views: Shape ``(V, B, D)``, rows of unit length; this rank's samples.
        weights: Shape ``(B,)``: of this rank's samples, see ``mean_over_pairs``; of image i its sample's.

    Returns:
        This rank's part of the mean. Chance level is ``log(V·N - 1)``, N the samples of all ranks.
    """
    with full_precision(views):
        views = full(views)
        everyone, first = gather_views(views)
        rest = log_sum_exp(leave_out_self(logits(views, everyone, temperature), first))  # (V, B)
        partners = between_views(within_samples(views, views)) / temperature  # (V, B)
        return mean_over_pairs(rest - partners, weights)


class Contrastive(Objective):
    """Encoder, GenRep's projector (Linear - ReLU - Linear to 128, unit length), and a loss on all views of a batch.

    ``base_temperature`` multiplies the loss by τ / base τ, as the code of GenRep and COP-Gen does (base 0.07: 1.43 at
    τ = 0.1); their learning rates belong to that. The metric ``unscaled_loss`` is then the equation's value.
    """

    name = "simclr"
    num_views = 2  # at least
    negatives_in_batch = True
    weighs_pairs = True

    def __init__(self, setup: Setup, *, temperature: float = 0.1, base_temperature: float | None = None) -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        self.temperature = require_positive("temperature", temperature)
        self.scale = 1.0
        if base_temperature is not None:
            self.scale = temperature / require_positive("base_temperature", base_temperature)
        self.projector = Projector(setup.width, EMBEDDING_DIM, setup.seed)

    def contrast(self, views: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The loss. Shape: ``(V, B, D) -> ()``."""
        raise NotImplementedError

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        rows = self.projector(encoder(images))
        views = rows.view(self.num_views, -1, rows.shape[1])
        value = self.contrast(views, batch)
        metrics = {} if self.scale == 1 else {"unscaled_loss": value.detach()}
        return Output(value * self.scale, metrics, views.detach())


class SimCLR(Contrastive):
    """InfoNCE with the images of all ranks as negatives."""

    def contrast(self, views: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return nt_xent(views, self.temperature, batch.get(PAIR_WEIGHTS))

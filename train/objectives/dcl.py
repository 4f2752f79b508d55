"""Decoupled contrastive learning (Yeh et al. 2022): InfoNCE without the positive in its denominator."""

from __future__ import annotations

from torch import Tensor

from genrep.errors import TrainingError

from .base import PAIR_WEIGHTS, Setup, full, full_precision, mean_over_pairs, require_positive
from .pairs import between_views, gather_views, leave_out_sample, log_sum_exp, logits, within_samples
from .simclr import Contrastive

SIGMA = 0.5  # of the weights (Yeh et al. 2022, section 3)


def decoupled(views: Tensor, temperature: float, sigma: float | None = None, weights: Tensor | None = None) -> Tensor:
    """The mean over all images, image i of sample n in view k, of (Yeh et al. 2022, eq. 6)

        -w_n s_ij / τ + log Σ_{m ≠ n, views l} exp(s_i(m,l) / τ),

    j the other view of n: ONE logarithm over the images of all other samples of all ranks, both views. With more than two
    views the first term is its mean over the partners.

    Args:
        views: Shape ``(V, B, D)``, rows of unit length; this rank's samples.
        sigma: None: w = 1 (DCL). Otherwise (DCLW) w_n = 2 - exp(s_n / σ) / E_m[exp(s_m / σ)], s_n the similarity of n's
            views and E over the samples of all ranks: a weight, through which no gradient flows.
        weights: Shape ``(B,)``: of this rank's samples, see ``mean_over_pairs``. They multiply the whole term of an image, w_n
            only its first part.

    Raises:
        TrainingError: there is only one sample, and so no negative.
    """
    with full_precision(views):
        views = full(views)
        everyone, first = gather_views(views)
        if everyone.shape[1] < 2:
            raise TrainingError.naming("{batch_size} 1: dcl takes its negatives from other samples; wanted at least 2")
        negatives = log_sum_exp(leave_out_sample(logits(views, everyone, temperature), first))  # (V, B)
        partners = within_samples(views, views)  # (V, V, B)
        if sigma is not None:
            partners = partners * negative_von_mises_fisher(everyone, sigma)[..., first : first + views.shape[1]]
        return mean_over_pairs(negatives - between_views(partners) / temperature, weights)


def negative_von_mises_fisher(everyone: Tensor, sigma: float) -> Tensor:
    """Weights of mean 1 over the samples, small for pairs that are close already. Shape: ``(V, N, D) -> (V, V, N)``."""
    similar = within_samples(everyone.detach(), everyone.detach())
    return 2 - similar.shape[2] * (similar / sigma).softmax(dim=2)


class DCL(Contrastive):
    """The decoupled loss."""

    name = "dcl"

    def contrast(self, views: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return decoupled(views, self.temperature, weights=batch.get(PAIR_WEIGHTS))


class DCLW(Contrastive):
    """The decoupled loss with weighted positives."""

    name = "dclw"

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: float = 0.1,
        base_temperature: float | None = None,
        weight_sigma: float = SIGMA,
    ) -> None:
        super().__init__(setup, temperature=temperature, base_temperature=base_temperature)
        self.weight_sigma = require_positive("weight_sigma", weight_sigma)

    def contrast(self, views: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return decoupled(views, self.temperature, self.weight_sigma, batch.get(PAIR_WEIGHTS))

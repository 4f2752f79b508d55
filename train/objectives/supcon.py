"""Supervised contrastive learning (Khosla et al. 2020): GenRep's objective for class-conditional generators."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import PAIR_WEIGHTS, Setup, full, full_precision, mean_over_pairs
from .heads import require_labels
from .pairs import gather, gather_views, leave_out_self, log_sum_exp, logits
from .simclr import Contrastive


def sup_con(views: Tensor, labels: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """The mean over all images i of (Khosla et al. 2020, eq. 2, the sum outside the logarithm)

        -1/|P(i)| Σ_{p in P(i)} log( exp(s_ip / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),

    P(i) all other images of i's class, i's own sample's other views among them, over all ranks. A sample that is alone
    in its class, or has label -1 (none), has its other views only: its term is InfoNCE's.

    Args:
        views: Shape ``(V, B, D)``, rows of unit length; this rank's samples.
        labels: Shape ``(B,)``, integers.
        weights: Shape ``(B,)``: of this rank's samples, see ``mean_over_pairs``; of image i its own sample's, whatever P(i).
    """
    with full_precision(views):
        views = full(views)
        everyone, first = gather_views(views)
        rest = log_sum_exp(leave_out_self(logits(views, everyone, temperature), first))  # (V, B)
        same = (labels[:, None] == gather(labels)[None, :]) & (labels[:, None] >= 0)  # (B, N)
        own = torch.arange(len(labels), device=labels.device)
        same[own, first + own] = True
        members = same.to(views.dtype)
        # The sum of an image's similarities with its class is one with the sum of the class, less the image itself.
        total = (views * (members @ everyone.sum(dim=0))).sum(dim=2) - (views * views).sum(dim=2)  # (V, B)
        positives = total / (len(views) * members.sum(dim=1) - 1) / temperature
        return mean_over_pairs(rest - positives, weights)


class SupCon(Contrastive):
    """All images of a class attract each other."""

    name = "supcon"
    fields = ("label",)

    def __init__(self, setup: Setup, *, temperature: float = 0.1, base_temperature: float | None = None) -> None:
        require_labels(self.name, setup)
        super().__init__(setup, temperature=temperature, base_temperature=base_temperature)

    def contrast(self, views: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return sup_con(views, batch["label"], self.temperature, batch.get(PAIR_WEIGHTS))

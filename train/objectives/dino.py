"""DINO (Caron et al. 2021): every crop of a sample predicts what a teacher says of its global views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import LOCAL_CROPS, PAIR_WEIGHTS, Output, Setup, mean_over_pairs
from .distillation import DistillationOptions, SelfDistillation, distilled, information
from .heads import Target


def between_crops(student: Tensor, targets: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """The mean over all pairs of a global view a of the teacher and another crop b ≠ a of the same sample of

        -Σ_k p_ak log softmax(s_b / τ)_k

    (Caron et al. 2021, eqs. 1-3), and over this rank's samples.

    Args:
        student: Shape ``(C, B, K)``: scores of all crops, the V global views first.
        targets: Shape ``(V, B, K)``: the teacher's distributions.
        weights: Shape ``(B,)``, see ``mean_over_pairs``.
    """
    crops, views = len(student), len(targets)
    wanted = targets.sum(dim=0).expand_as(student).clone()
    wanted[:views] -= targets
    terms = distilled(wanted, student, temperature).sum(dim=0)
    return mean_over_pairs(terms / (views * (crops - 1)), weights)


@dataclass(frozen=True, kw_only=True)
class DINOOptions(DistillationOptions):
    """Those of the authors' ViT-S/16 (main_dino.py)."""

    freeze_prototypes_epochs: float = 1.0


class DINO(SelfDistillation):
    """The teacher, a moving average of encoder and head, gives each global view a distribution over prototypes. The student
    predicts it from every other crop of the sample.

    Global views are view 0, of the anchor, and those of its positives; local crops are of the same images. Prototypes have no
    gradient in the first ``freeze_prototypes_epochs`` epochs.
    """

    name = "dino"

    Options = DINOOptions

    def __init__(self, setup: Setup, options: DINOOptions) -> None:
        super().__init__(setup, options)
        self.frozen_steps = round(options.freeze_prototypes_epochs * setup.steps_per_epoch)
        self.target = Target(setup.encoder, self.head)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        views, samples = self.num_views, len(images) // self.num_views
        features = [encoder(images), *([encoder(batch[LOCAL_CROPS])] if self.local_views else [])]
        rows = self.head.embed(torch.cat(features))
        student = self.head.prototypes(rows)
        scores = self.target(images)
        targets = self.distributions(scores, step, self.centre)
        self.centre.push(scores)
        value = between_crops(
            student.unflatten(0, (-1, samples)),
            targets.unflatten(0, (views, samples)),
            self.student_temperature,
            batch.get(PAIR_WEIGHTS),
        )
        embeddings = rows[: len(images)].detach().unflatten(0, (views, samples))
        return Output(value, {"teacher_information": information(targets)}, embeddings)

    def after_backward(self, encoder: nn.Module, step: int) -> None:
        if step < self.frozen_steps:
            for parameter in self.head.prototypes.parameters():
                parameter.grad = None

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        self.target.follow(encoder, self.head, self.momentum(step, total_steps))
        self.centre.advance()

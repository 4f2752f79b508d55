"""iBOT (Zhou et al. 2022): DINO, and the same for the patches that the student does not see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import LOCAL_CROPS, PAIR_WEIGHTS, Output, Setup, mean_over_pairs
from .dino import DINO, DINOOptions, between_crops
from .distillation import Centre, distilled, information
from .masks import MaskDraws, MaskOptions


def of_masked_patches(
    student: Tensor, targets: Tensor, mask: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """The mean over an image's masked patches of their cross-entropies, and over images (Zhou et al. 2022, eq. 2).

    An image without a masked patch gives 0, and counts.

    Args:
        student: Shape ``(M, K)``: scores of the masked patches, image by image.
        targets: Shape ``(M, K)``: the teacher's distributions of the same patches.
        mask: Shape ``(N, P)`` of bool; M are True.
        weights: Shape ``(N,)``, see ``mean_over_pairs``.
    """
    terms = distilled(targets, student, temperature)
    sums = terms.new_zeros(len(mask)).index_add(0, mask.nonzero()[:, 0], terms)
    return mean_over_pairs(sums / mask.sum(dim=1).clamp(min=1), weights)


def masked_rows(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens of the masked patches, image by image. Shape: ``(N, P, C), (N, P) -> (M, C)``."""
    return tokens.flatten(0, 1)[mask.flatten().nonzero()[:, 0]]


@dataclass(frozen=True, kw_only=True)
class IBOTOptions(MaskOptions, DINOOptions):
    """Those of the authors' ViT-S/16 (README.md and main_ibot.py)."""

    dino_weight: float = 1.0
    ibot_weight: float = 1.0
    teacher_temperature: float = 0.07
    teacher_temperature_start: float | None = 0.04
    teacher_warmup_epochs: float = 30.0
    prototypes: int = 8192
    fixed_prototype_lengths: bool = False


class IBOT(DINO):
    """DINO on class tokens, where the student's global views are masked; and the student predicts what the teacher, which sees
    all of a view, says of each masked patch.

    The loss is ``dino_weight`` times the former plus ``ibot_weight`` times the latter. One head serves both (``shared_head`` of
    the authors). Each has a centre; that of patches is of all patches, masked or not.
    """

    name = "ibot"
    fields = ("index",)
    of_class_tokens = True

    Options = IBOTOptions

    def __init__(self, setup: Setup, options: IBOTOptions) -> None:
        super().__init__(setup, options)
        self.dino_weight, self.ibot_weight = options.dino_weight, options.ibot_weight
        self.masks = MaskDraws(setup.seed, options)
        self.patch_centre = Centre(options.prototypes, options.centre_momentum)
        self.mask_token = nn.Parameter(torch.zeros(self.head.width))

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        views, samples = self.num_views, len(images) // self.num_views
        with torch.no_grad():
            seen = self.target.networks[0](images, tokens=True)
            class_scores, patch_scores = self.target.networks[1](seen.cls), self.target.networks[1](seen.patches)
        mask = self.masks.draw(step, batch["index"], views, seen.grid).to(images.device)
        student = encoder(images, tokens=True, mask=mask, mask_token=self.mask_token)
        local = [encoder(batch[LOCAL_CROPS], tokens=True).cls] if self.local_views else []
        rows = self.head.embed(torch.cat([student.cls, *local]))
        targets = self.distributions(class_scores, step, self.centre)
        weights = batch.get(PAIR_WEIGHTS)
        classes = between_crops(
            self.head.prototypes(rows).unflatten(0, (-1, samples)),
            targets.unflatten(0, (views, samples)),
            self.student_temperature,
            weights,
        )
        patches = of_masked_patches(
            self.head(masked_rows(student.patches, mask)),
            self.distributions(masked_rows(patch_scores, mask), step, self.patch_centre),
            mask,
            self.student_temperature,
            None if weights is None else weights.repeat(views),
        )
        self.centre.push(class_scores)
        self.patch_centre.push(patch_scores.flatten(0, 1))
        metrics = {
            "teacher_information": information(targets),
            "class_loss": classes.detach(),
            "patch_loss": patches.detach(),
        }
        embeddings = rows[: len(images)].detach().unflatten(0, (views, samples))
        return Output(self.dino_weight * classes + self.ibot_weight * patches, metrics, embeddings)

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        super().after_step(encoder, step, total_steps)
        self.patch_centre.advance()

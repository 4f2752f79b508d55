"""SynCLR (Tian et al. 2024): multi-positive contrast with a momentum encoder's class tokens, and iBOT's masked patches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from genrep.errors import TrainingError

from .base import (
    LOCAL_CROPS,
    PAIR_WEIGHTS,
    Output,
    Setup,
    full,
    full_precision,
    mean_over_pairs,
    require_positive,
    unit,
)
from .distillation import Centre, DistillationOptions, SelfDistillation, begin_linear_layers, distilled, information
from .heads import Target
from .ibot import masked_rows, of_masked_patches
from .masks import MaskDraws, MaskOptions
from .multi_positive import PROMPT
from .pairs import gather, rank_and_size


def momentum_sup_con(
    queries: Tensor, keys: Tensor, labels: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Multi-positive contrast of the student's crops with the teacher's global views of all ranks,

        -1/|P(i)| Σ_{p in P(i)} log( exp(q_i · k_p / τ) / Σ_j exp(q_i · k_j / τ) ),

    P(i) the views of i's label. For a global view its own image is left out of both sums. The mean over global views plus the
    mean over local crops (SynCLR's ``SupConMomentumLoss``).

    Args:
        queries: Shape ``(C, B, D)``: unit rows of all crops, the V global views first.
        keys: Shape ``(V, B, D)``: unit rows of the teacher's global views; constants to the gradient.
        labels: Shape ``(B,)``: equal for samples of one prompt, on all ranks.
        weights: Shape ``(B,)``, see ``mean_over_pairs``.
    """
    (crops, samples, _), views = queries.shape, len(keys)
    with full_precision(queries):
        columns = gather(full(keys).detach().transpose(0, 1)).transpose(0, 1)  # (V, N, D)
        scores = torch.einsum("cbd,vnd->cbvn", full(queries), columns) / temperature
        own = torch.arange(samples, device=keys.device)
        place = own + samples * rank_and_size()[0]
        same = (labels[:, None] == gather(labels)[None, :]).view(1, samples, 1, -1)
        positives = same.expand(crops, -1, views, -1).to(scores.dtype).clone()
        for view in range(views):
            scores[view, own, view, place] = -torch.inf
            positives[view, own, view, place] = 0
        rest = scores.flatten(2).logsumexp(dim=2)  # (C, B)
        known = torch.where(positives > 0, scores, 0.0)
        terms = rest - (known * positives).sum(dim=(2, 3)) / positives.sum(dim=(2, 3))
        value = mean_over_pairs(terms[:views], weights)
        return value if crops == views else value + mean_over_pairs(terms[views:], weights)


class NormedMLP(nn.Sequential):
    """Linear - layer norm - GELU for every hidden layer, then a linear layer without bias and a plain layer norm (SynCLR's)."""

    def __init__(self, *widths: int) -> None:
        parts: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            parts += [nn.Linear(before, after), nn.LayerNorm(after), nn.GELU()]
        parts += [
            nn.Linear(widths[-2], widths[-1], bias=False),
            nn.LayerNorm(widths[-1], elementwise_affine=False),
        ]
        super().__init__(*parts)
        begin_linear_layers(self)


@dataclass(frozen=True, kw_only=True)
class SynCLROptions(MaskOptions, DistillationOptions):
    """Those of the authors' command (SynCLR/train_pytorch/README.md and main_mask_synclr.py)."""

    temperature: float = 0.1
    projector_layers: int = 3
    projector_width: int = 4096
    projector_dim: int = 256
    dino_weight: float = 0.0
    ibot_weight: float = 1.0
    mask_ratio: tuple[float, float] = (0.5, 0.5)
    mask_shape: str = "random"
    prototypes: int = 8192
    fixed_prototype_lengths: bool = False
    teacher_temperature: float = 0.07
    teacher_temperature_start: float | None = 0.04
    teacher_warmup_epochs: float = 1.0
    centring: str = "sinkhorn"
    target_momentum: float = 0.994


class SynCLR(SelfDistillation):
    """Three losses on class tokens and patches of a student whose global views are masked, against a momentum teacher that sees
    all of them:

    - contrast: projector and predictor of the student's crops against the teacher's projector of global views. Positives are
      all images of the prompt, as with ``multi-positive``.
    - ``ibot_weight`` times the cross-entropy of masked patches with the teacher's distributions over prototypes.
    - ``dino_weight`` times that of local crops with the teacher's view of the same image. The authors leave it out.

    The mean over an image's masked patches is summed over images, and divided by how many of them are masked in the mean. The
    authors mask exactly the first part of a batch. Here each image has its own draw, so that masks do not depend on the batch.
    """

    name = "synclr"
    fields: tuple[str, ...] = ("index",)
    negatives_in_batch = True
    of_class_tokens = True
    temperature_by_epoch = False

    Options = SynCLROptions

    def __init__(self, setup: Setup, options: SynCLROptions) -> None:
        super().__init__(setup, options)
        self.temperature = require_positive("temperature", options.temperature)
        if options.dino_weight and not setup.local_views:
            raise TrainingError.naming("{dino_weight} {:g}: requires {local_crops}", options.dino_weight)
        self.dino_weight, self.ibot_weight = options.dino_weight, options.ibot_weight
        self.masks = MaskDraws(setup.seed, options)
        self.patch_centre = Centre(options.prototypes, options.centre_momentum)
        length, width, dim = self.head.width, options.projector_width, options.projector_dim
        self.mask_token = nn.Parameter(torch.zeros(length))
        self.projector = NormedMLP(length, *[width] * (options.projector_layers - 1), dim)
        self.predictor = NormedMLP(dim, width, dim)
        self.target = Target(setup.encoder, self._followed())
        if PROMPT in setup.fields:
            self.fields = ("index", PROMPT)

    def _followed(self) -> nn.ModuleList:
        """The heads that the teacher has too."""
        return nn.ModuleList([self.projector, self.head])

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        views, samples = self.num_views, len(images) // self.num_views
        teacher, heads = self.target.networks
        assert isinstance(heads, nn.ModuleList)
        projector, head = heads
        with torch.no_grad():
            seen = teacher(images, tokens=True)
            keys = unit(projector(seen.cls)).unflatten(0, (views, samples))
        mask = self.masks.draw(step, batch["index"], views, seen.grid).to(images.device)
        student = encoder(images, tokens=True, mask=mask, mask_token=self.mask_token)
        local = [encoder(batch[LOCAL_CROPS], tokens=True).cls] if self.local_views else []
        projected = self.projector(torch.cat([student.cls, *local]))
        weights = batch.get(PAIR_WEIGHTS)
        contrast = momentum_sup_con(
            unit(self.predictor(projected)).unflatten(0, (-1, samples)),
            keys,
            self._labels(batch, samples),
            self.temperature,
            weights,
        )
        each = None if weights is None else weights.repeat(views)
        with torch.no_grad():
            patch_scores = head(masked_rows(seen.patches, mask))
        patch_targets = self.distributions(patch_scores, step, self.patch_centre)
        self.patch_centre.push(patch_scores)
        patches = of_masked_patches(
            self.head(masked_rows(student.patches, mask)), patch_targets, mask, self.student_temperature, each
        )
        patches = patches / self.masks.probability  # of the images that are masked, in the mean
        value = contrast + self.ibot_weight * patches
        metrics = {"contrast_loss": contrast.detach(), "patch_loss": patches.detach()}
        if self.dino_weight:
            with torch.no_grad():
                class_scores = head(seen.cls)
            targets = self.distributions(class_scores, step, self.centre)
            self.centre.push(class_scores)
            crops = self.head(local[0]).unflatten(0, (-1, len(images)))  # (L, V·B, K)
            classes = mean_over_pairs(distilled(targets, crops, self.student_temperature), each)
            value = value + self.dino_weight * classes
            metrics["class_loss"] = classes.detach()
        metrics["teacher_information"] = information(patch_targets) if len(patch_targets) else patches.new_zeros(())
        return Output(value, metrics, unit(projected[: len(images)].detach()).unflatten(0, (views, samples)))

    def _labels(self, batch: dict[str, Tensor], samples: int) -> Tensor:
        """Equal for samples of one prompt; of other datasets each sample is a prompt by itself."""
        if PROMPT in self.fields:
            return batch[PROMPT]
        return torch.arange(samples, device=self.mask_token.device) + samples * rank_and_size()[0]

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        self.target.follow(encoder, self._followed(), self.momentum(step, total_steps))
        self.centre.advance()
        self.patch_centre.advance()

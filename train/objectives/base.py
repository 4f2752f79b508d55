"""The interface of all objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.encoders.layers import layers_above
from genrep.errors import TrainingError

Decoder = Callable[[Tensor, Tensor | None], Tensor]
# What a batch holds beside fields; no field can have these names.
PAIR_WEIGHTS = "weights of the pairs"  # (B,), of mean 1 over all ranks
LOCAL_CROPS = (
    "local crops"  # (L·V·B, 3, s, s): the first local crop of view 0 of all samples, of view 1, …, then the second
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The facts that objectives are built from: of the encoder, the views and the dataset."""

    encoder: nn.Module  # (N, 3, S, S) -> (N, width); not kept, but copied by those with a target network
    width: int
    seed: int
    num_views: int = 2  # images per sample: the anchor's view and those of its positives, all of ``size``
    size: int = 224  # S, in pixels
    local_views: int = 0  # L: local crops of each of these images
    local_size: int = 96  # s, in pixels
    steps_per_epoch: int = 1
    total_steps: int = 1
    latent_shape: tuple[int, ...] | None = None  # of z_anchor; None: the dataset stores no latents
    fields: frozenset[str] = frozenset()  # that a batch can hold
    labels: tuple[int, ...] = ()  # that the recipe's samples can have, -1 (no label) aside
    decode: Decoder | None = None  # latents (B, *latent_shape), labels (B,) or None -> images (B, 3, H, W) in [-1, 1]


class Output(NamedTuple):
    """The result of a step. Everything stays on the device."""

    loss: Tensor  # (), float32; this rank's: the mean over the ranks is the whole batch's
    metrics: dict[str, Tensor]  # (), detached, this rank's
    embeddings: Tensor  # (V, B, D), detached rows of unit length, float32: for pairs.measures


class Objective(nn.Module):
    """A loss with the heads, queue or target network that it needs. The encoder is handed in, never owned.

    Attributes:
        name: on the command line.
        fields: fields of a batch that ``loss`` reads besides the images.
        num_views: images per sample that ``loss`` wants; of the class: the least.
        negatives_in_batch: the loss compares samples of one batch, so that accumulating gradients over parts of a batch
            would be another objective.
        weighs_pairs: each pair has a loss of its own, which ``batch[PAIR_WEIGHTS]`` multiplies where it is there: see
            ``mean_over_pairs``.
        takes_local_crops: ``batch[LOCAL_CROPS]`` takes part in the loss where the setup has local views.
    """

    name: str
    fields: tuple[str, ...] = ()
    negatives_in_batch = False
    weighs_pairs = False
    takes_local_crops = False
    num_views = 1

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        """The loss of a batch, under the caller's autocast; the loss itself is computed in float32.

        Args:
            images: Shape ``(V·B, 3, S, S)``, view by view: first view 0 (the anchors) of all samples.
            batch: ``fields``, on the images' device (``index`` on the CPU), ``B`` rows each; perhaps ``PAIR_WEIGHTS`` and
                ``LOCAL_CROPS``.
            step: updates made so far.
        """
        raise NotImplementedError

    def after_backward(self, encoder: nn.Module, step: int) -> None:
        """Change gradients before the update: those of all ranks and of all parts of the batch, clipped where that is asked."""

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        """Move what follows the weights; once after each update, with the ``step`` that ``loss`` got."""

    def evaluated(self, encoder: nn.Module) -> nn.Module:
        """The network that is saved and measured, as the objective's authors do: the encoder, or one that follows it."""
        return encoder

    def collapsed(self, line: Mapping[str, float]) -> str | None:
        """Why the networks have collapsed in a way of this objective's own, by a line of metrics; None: they have not."""
        return None

    def fixed_rate_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters whose learning rate stays at its peak all through."""
        return ()

    def parameter_groups(
        self,
        encoder: nn.Module,
        *,
        weight_decay: float,
        exclude_vectors: bool = False,
        layer_decay: float = 1.0,
    ) -> list[dict[str, Any]]:
        """Everything that the optimiser trains, each parameter in one group, in an order fixed by the modules.

        Besides ``params`` and ``weight_decay`` a group says ``fixed_lr`` (True: hold the peak rate, no schedule), ``lr_scale``
        (its part of the rate) and ``adapt`` (False: no weight decay at any time, and LARS leaves it at the plain rate).

        Args:
            exclude_vectors: biases and batch norm in groups of their own without weight decay and adaptation (LARS); the
                papers' SGD decays them like all others.
            layer_decay: part of the rate that a layer of the encoder has of the one above; heads have the whole
                (Bao et al. 2022, BEiT; Clark et al. 2020, ELECTRA).
        """
        fixed = {id(parameter) for parameter in self.fixed_rate_parameters()}
        above = layers_above(encoder) if layer_decay != 1 else {}
        groups: dict[tuple[bool, bool, int], list[nn.Parameter]] = {}
        for module in (encoder, self):
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    excluded = exclude_vectors and parameter.ndim < 2
                    layers = above.get(name, 0) if module is encoder else 0
                    groups.setdefault((id(parameter) in fixed, excluded, layers), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": 0.0 if excluded else weight_decay,
                "fixed_lr": is_fixed,
                "adapt": not excluded,
                "lr_scale": layer_decay**layers,
            }
            for (is_fixed, excluded, layers), parameters in sorted(groups.items())
        ]


class Step(nn.Module):
    """Encoder and objective as one module whose forward is the loss: what DistributedDataParallel wraps."""

    def __init__(self, encoder: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def forward(self, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        return self.objective.loss(self.encoder, images, batch, step)


def mean_over_pairs(losses: Tensor, weights: Tensor | None = None) -> Tensor:
    """The one place where losses of pairs become the loss of a batch: their mean, each multiplied by its pair's weight,

        1/n Σ_i w_i ℓ_i,   w_i = n a_i / Σ_j a_j,

    a the weights that a dataset holds and n the pairs of all ranks (``engine.pair_weights``). It is GenView's quality-driven
    loss (Li et al. 2024, section 3.4), in which a is exp(q) of a pair's quality q = s(foregrounds) - s(backgrounds), so that w
    is n times the softmax of q. Their code takes it over each rank's own pairs, this over all ranks'.

    Args:
        losses: Shape ``(…, B)``: of this rank's pairs, with several terms each or with one.
        weights: Shape ``(B,)``, of mean 1 over all ranks; constants to the gradient. None: all are 1.
    """
    return (losses if weights is None else losses * weights.to(losses.dtype)).mean()


def cross_entropy(scores: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """``mean_over_pairs`` of the cross-entropies of pairs. Shape: ``(B, K), (B,) -> ()``."""
    if weights is None:  # PyTorch's own mean differs from ``mean`` in the last digit
        return F.cross_entropy(scores, wanted)
    return mean_over_pairs(F.cross_entropy(scores, wanted, reduction="none"), weights)


def unit(rows: Tensor) -> Tensor:
    """Rows scaled to unit length, in float32 or better. Shape: ``(…, D) -> (…, D)``."""
    return F.normalize(full(rows), dim=-1)


def full(values: Tensor) -> Tensor:
    """In float32, or float64 if it is."""
    return values if values.dtype == torch.float64 else values.float()


def full_precision(values: Tensor) -> AbstractContextManager[Any]:
    """No autocast on the device of these values."""
    return torch.autocast(values.device.type, enabled=False)


def require_positive(setting: str, value: float) -> float:
    """Raises TrainingError."""
    if not 0 < value < math.inf:
        raise TrainingError.naming(f"{{{setting}}} {{}}: wanted a positive number", value)
    return value


def require_views(objective: str, found: int, least: int = 2) -> int:
    """Raises TrainingError."""
    if found < least:
        raise TrainingError.naming(
            "{objective} {}: {} view of each sample; wanted at least {}", objective, found, least
        )
    return found

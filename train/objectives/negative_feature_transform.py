"""Feature transformation of positives and negatives (Zhu et al. 2021) on momentum contrast, a baseline of COP-Gen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from genrep.encoders import EMBEDDING_DIM, Projector
from genrep.errors import TrainingError
from genrep.seeding import derive

from .base import PAIR_WEIGHTS, Objective, Output, Setup, cross_entropy, full, full_precision, require_positive
from .heads import Queue, Target, require_momentum

QUEUE_SIZE = 65_536  # MoCo's (He et al. 2020), kept by Zhu et al.
NEGATIVE_ALPHA = 1.6  # λ of the negatives ~ Beta(α, α)
POSITIVE_ALPHA = 2.0  # λ of the positives ~ 1 + Beta(α, α)


@dataclass(frozen=True)
class MixingDraws:
    """The random choices of a step."""

    positive: float  # λ in (1, 2)
    negative: float  # λ in (0, 1)
    order: Tensor  # (K,) int64, a permutation: with whom each entry of the queue is mixed


def draw_mixing(seed: int, step: int, size: int) -> MixingDraws:
    """A pure function of its arguments, the same on all ranks; one λ for all positives, one for all negatives."""
    key = derive("feature-transform", seed, step)
    stream = np.random.RandomState([key & 0xFFFFFFFF, key >> 32])  # NumPy's policy freezes it
    positive = 1 + float(stream.beta(POSITIVE_ALPHA, POSITIVE_ALPHA))
    negative = float(stream.beta(NEGATIVE_ALPHA, NEGATIVE_ALPHA))
    return MixingDraws(positive, negative, torch.from_numpy(stream.permutation(size).astype(np.int64)))


def transformed_nce(
    queries: Tensor,
    keys: Tensor,
    queue: Tensor,
    mixing: MixingDraws,
    temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """The mean over the samples of -log( exp(q̃·k̃ / τ) / (exp(q̃·k̃ / τ) + Σ_j exp(q̃·ñ_j / τ)) ) with

        q̃ = λ q + (1 - λ) k,  k̃ = λ k + (1 - λ) q        (extrapolation: λ > 1 draws a pair apart)
        ñ_j = λ' n_j + (1 - λ') n_π(j)                    (interpolation within the queue)

    without normalising again, so that q̃·k̃ = q·k + 2 λ (1 - λ) (1 - q·k). That q̃, not q, meets the negatives is the
    released code's way.

    Args:
        queries: Shape ``(B, D)``, rows of unit length.
        keys: Shape ``(B, D)``, rows of unit length, without gradient.
        queue: Shape ``(K, D)``.
        weights: Shape ``(B,)``: of this rank's samples, see ``mean_over_pairs``.
    """
    with full_precision(queries):
        q, k = full(queries), full(keys.detach())
        entries = queue.to(q.dtype)
        order = mixing.order.to(queue.device, non_blocking=True)
        far = mixing.positive * q + (1 - mixing.positive) * k
        far_keys = mixing.positive * k + (1 - mixing.positive) * q
        mixed = mixing.negative * entries + (1 - mixing.negative) * entries[order]
        scores = torch.cat([(far * far_keys).sum(dim=1, keepdim=True), far @ mixed.T], dim=1) / temperature  # (B, 1+K)
        return cross_entropy(scores, torch.zeros(len(q), dtype=torch.int64, device=q.device), weights)


class NegativeFeatureTransform(Objective):
    """Queries from view 0, keys from view 1 through a moving average of the network, negatives from a queue of keys.

    Head, queue, momentum and temperature are MoCo v2's (Chen et al. 2020b: 2048-2048-128, 65,536, 0.999, 0.2), on which
    Zhu et al. build. Instead of shuffling batches between devices before batch norm, use SyncBN on several processes.
    """

    name = "negative-feature-transform"
    num_views = 2  # at least
    weighs_pairs = True

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: float = 0.2,
        queue_size: int = QUEUE_SIZE,
        target_momentum: float = 0.999,
    ) -> None:
        super().__init__()
        if setup.num_views != 2:
            raise TrainingError.naming("{objective} {}: {} views of each sample; wanted 2", self.name, setup.num_views)
        self.num_views, self.seed = 2, setup.seed
        self.temperature = require_positive("temperature", temperature)
        self.target_momentum = require_momentum(target_momentum)
        self.projector = Projector(setup.width, EMBEDDING_DIM, setup.seed)
        self.target = Target(setup.encoder, self.projector)
        self.queue = Queue(queue_size, EMBEDDING_DIM)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        first, second = images.chunk(2)
        queries, keys = self.projector(encoder(first)), self.target(second)
        mixing = draw_mixing(self.seed, step, len(self.queue.entries))
        weights = batch.get(PAIR_WEIGHTS)
        loss = transformed_nce(queries, keys, self.queue.entries, mixing, self.temperature, weights)
        self.queue.push(keys)
        return Output(loss, {}, torch.stack([queries.detach(), keys]))

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        self.target.follow(encoder, self.projector, self.target_momentum)
        self.queue.advance()

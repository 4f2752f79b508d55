"""Nearest-neighbour contrastive learning (Dwibedi et al. 2021), a baseline of COP-Gen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import (
    PAIR_WEIGHTS,
    Objective,
    Output,
    Setup,
    cross_entropy,
    full,
    full_precision,
    require_positive,
    require_views,
    unit,
)
from .heads import Queue, mlp
from .pairs import gather_views

QUEUE_SIZE = 98_304  # Dwibedi et al. 2021, section 4.1
DIM = 256  # of the embeddings


def nearest(rows: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
    """The queue's row with the largest inner product, and that product; no gradient.

    Shape: ``(V, B, D), (K, D) -> (V, B, D), (V, B)``.
    """
    with torch.no_grad(), full_precision(rows):
        similarity, index = (full(rows.detach()) @ queue.T.to(full(rows).dtype)).max(dim=2)
        return queue[index].to(similarity.dtype), similarity


def neighbour_nce(neighbours: Tensor, predictions: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """The mean over ordered pairs of views v ≠ u and samples i of (Dwibedi et al. 2021, eq. 3 and algorithm 1)

        -log( exp(NN(z_i^v) · p_i^u / τ) / Σ_k exp(NN(z_i^v) · p_k^u / τ) ),

    k over the samples of all ranks. One sample alone has loss 0.

    Args:
        neighbours: Shape ``(V, B, D)``, rows of unit length.
        predictions: Shape ``(V, B, D)``, rows of unit length.
        weights: Shape ``(B,)``: of this rank's samples i, see ``mean_over_pairs``.
    """
    with full_precision(predictions):
        predictions = full(predictions)
        everyone, first = gather_views(predictions)
        number, size, _ = neighbours.shape
        partner = first + torch.arange(size, device=predictions.device)
        terms = [
            cross_entropy(neighbours[v] @ everyone[u].T / temperature, partner, weights)
            for v in range(number)
            for u in range(number)
            if u != v
        ]
        return torch.stack(terms).mean()


class NNCLR(Objective):
    """Each view's positive is the nearest neighbour of its embedding in a queue; the other view predicts it.

    Projector 2048-2048-2048-256 with batch norm after every layer and predictor 256-4096-256 for ResNet-50 (section 4.1),
    hidden layers in these proportions for others. View 0's embeddings enter the queue after each update.
    """

    name = "nnclr"
    num_views = 2  # at least
    negatives_in_batch = True
    weighs_pairs = True

    def __init__(self, setup: Setup, *, temperature: float = 0.1, queue_size: int = QUEUE_SIZE) -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        self.temperature = require_positive("temperature", temperature)
        width = setup.width
        self.projector = mlp(width, width, width, DIM, end=nn.BatchNorm1d(DIM))
        self.predictor = mlp(DIM, 2 * width, DIM)
        self.queue = Queue(queue_size, DIM)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        projected = [self.projector(encoder(view)) for view in images.chunk(self.num_views)]
        predicted = unit(torch.stack([self.predictor(z) for z in projected]))  # (V, B, D)
        embeddings = unit(torch.stack(projected).detach())
        neighbours, similarity = nearest(embeddings, self.queue.entries)
        self.queue.push(embeddings[0])
        loss = neighbour_nce(neighbours, predicted, self.temperature, batch.get(PAIR_WEIGHTS))
        return Output(loss, {"neighbour_similarity": similarity.mean()}, embeddings)

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        self.queue.advance()

"""MoCo v3 (Chen, Xie & He 2021): a momentum encoder's embeddings of the batch are the keys, without a queue."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrep.errors import TrainingError

from .base import (
    PAIR_WEIGHTS,
    Objective,
    Output,
    Setup,
    cross_entropy,
    full_precision,
    require_positive,
    require_views,
    unit,
)
from .heads import Target, mlp, momentum_at, require_momentum, require_schedule
from .pairs import gather, rank_and_size


def key_contrast(queries: Tensor, keys: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """2 τ times the cross-entropy of each query's similarities with all keys of all ranks, its own sample's being right:

        -2 τ log( exp(q_i · k_i / τ) / Σ_j exp(q_i · k_j / τ) ),

    the mean over this rank's queries (Chen et al. 2021, algorithm 1; the factor is that of the authors' code).

    Args:
        queries: Shape ``(B, D)``, of one view.
        keys: Shape ``(B, D)``, of another view; constants to the gradient.
        weights: Shape ``(B,)``, see ``mean_over_pairs``.
    """
    with full_precision(queries):
        q, k = unit(queries), gather(unit(keys).detach())
        wanted = torch.arange(len(q), device=q.device) + len(q) * rank_and_size()[0]
        return 2 * temperature * cross_entropy(q @ k.T / temperature, wanted, weights)


class MoCoV3(Objective):
    """Encoder, projector and predictor give queries; a moving average of encoder and projector gives keys.

    Loss of two views: ctr(q₁, k₂) + ctr(q₂, k₁); of more, twice the mean over all ordered pairs of views. With weights of
    pairs it is GenView's quality-driven loss on MoCo v3 (Li et al. 2024).

    For vision transformers the projector has three layers and both heads end in a batch norm without affine parameters, and the
    patch projection stays at its random initialisation (``freeze_patches``; section 4.2). For ResNets the projector has two
    layers, and the predictor has no last batch norm. No linear layer has a bias.

    The moving average's momentum rises to 1 (``target_schedule="cosine"``). The authors move it before it is used, with the
    weights that the last update left and the momentum of this step; here that happens after the last update.
    """

    name = "mocov3"
    num_views = 2  # at least
    negatives_in_batch = True
    weighs_pairs = True

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: float = 0.2,
        target_momentum: float = 0.99,
        target_schedule: str = "cosine",
        projector_layers: int | None = None,
        projector_width: int = 4096,
        projector_dim: int = 256,
        freeze_patches: bool | None = None,
    ) -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        self.temperature = require_positive("temperature", temperature)
        self.target_momentum = require_momentum(target_momentum)
        self.target_schedule = require_schedule(target_schedule)
        transformer = bool(getattr(setup.encoder, "takes_masks", False))
        layers = projector_layers or (3 if transformer else 2)
        hidden = [projector_width] * (layers - 1)
        self.projector = mlp(setup.width, *hidden, projector_dim, end=_plain_norm(projector_dim))
        end = _plain_norm(projector_dim) if transformer else nn.Identity()
        self.predictor = mlp(projector_dim, projector_width, projector_dim, end=end)
        if freeze_patches and not transformer:
            raise TrainingError.naming(
                "{freeze_patches}: the encoder is no vision transformer, which alone has patches"
            )
        if transformer and freeze_patches is not False:
            setup.encoder.get_submodule("patch_embed.proj").requires_grad_(False)
        self.target = Target(setup.encoder, self.projector)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        by_view = images.chunk(self.num_views)
        projected = [self.projector(encoder(view)) for view in by_view]
        queries = [self.predictor(rows) for rows in projected]
        keys = [self.target(view) for view in by_view]
        weights = batch.get(PAIR_WEIGHTS)
        pairs = [(a, b) for a in range(self.num_views) for b in range(self.num_views) if a != b]
        terms = [key_contrast(queries[a], keys[b], self.temperature, weights) for a, b in pairs]
        return Output(2 * torch.stack(terms).mean(), {}, unit(torch.stack(projected).detach()))

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        momentum = momentum_at(step + 1, total_steps, self.target_momentum, self.target_schedule)
        self.target.follow(encoder, self.projector, momentum)


def _plain_norm(width: int) -> nn.Module:
    return nn.BatchNorm1d(width, affine=False)

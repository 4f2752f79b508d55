"""Multi-positive contrastive learning (StableRep, Tian et al. 2023): all images of one prompt attract each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import PAIR_WEIGHTS, Objective, Output, Setup, require_positive, require_views, unit
from .heads import mlp
from .simclr import nt_xent
from .supcon import sup_con

PROMPT = "prompt"


class MultiPositive(Objective):
    """The cross-entropy of StableRep (Tian et al. 2023, eq. 1-2) between who is a positive and a softmax over similarities,

        -1/|P(i)| Σ_{p in P(i)} log( exp(s_ip / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),

    P(i) the other images of i's prompt in the whole batch: the other views of its sample, and those of samples of the same
    prompt. (Khosla et al. 2020, eq. 2, has this form for classes.) With two views of each sample, and no prompt twice, it is
    SimCLR's NT-Xent. Its least value for V views is log(V - 1).

    The projector is StableRep's: ``projector_layers`` linear layers with batch norm and ReLU between them, ``projector_width``
    wide, to ``projector_dim``. It sees each view by itself (``per_view_projector``), so that batch norm takes the statistics of
    one view's images, as in the authors' code.
    """

    name = "multi-positive"
    num_views = 2  # at least
    negatives_in_batch = True
    weighs_pairs = True

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: float = 0.1,
        projector_layers: int = 3,
        projector_width: int = 4096,
        projector_dim: int = 256,
        per_view_projector: bool = True,
    ) -> None:
        super().__init__()
        self.num_views = require_views(self.name, setup.num_views)
        self.temperature = require_positive("temperature", temperature)
        self.per_view = per_view_projector
        self.projector = mlp(setup.width, *[projector_width] * (projector_layers - 1), projector_dim)
        if PROMPT in setup.fields:
            self.fields = (PROMPT,)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        features = encoder(images)
        parts = features.chunk(self.num_views) if self.per_view else (features,)
        views = unit(torch.cat([self.projector(part) for part in parts])).unflatten(0, (self.num_views, -1))
        weights = batch.get(PAIR_WEIGHTS)
        if self.fields:
            value = sup_con(views, batch[PROMPT], self.temperature, weights)
        else:
            value = nt_xent(views, self.temperature, weights)
        return Output(value, {}, views.detach())

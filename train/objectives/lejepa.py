"""LeJEPA (Balestriero & LeCun 2025): a sample's views are drawn together, and all embeddings towards a normal law."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.seeding import derive

from .base import (
    LOCAL_CROPS,
    PAIR_WEIGHTS,
    Objective,
    Output,
    Setup,
    full,
    full_precision,
    mean_over_pairs,
    require_views,
    unit,
)
from .heads import mlp
from .pairs import gather, rank_and_size

KNOTS, LAST_KNOT = 17, 3.0  # of the integral over t, from 0 on (section 4.2.3 and MINIMAL.md)


def epps_pulley(values: Tensor) -> Tensor:
    """The statistic of Epps & Pulley (1983) of each column against the standard normal law, N the rows of all ranks:

        N ∫ |1/N Σ_n exp(i t x_n) - exp(-t²/2)|² exp(-t²/2) dt

    over -3 to 3 by the trapezoidal rule (Balestriero & LeCun 2025, section 4.2.3). Columns are not standardised.

    Shape: ``(…, N, S) -> (…, S)``.
    """
    t = torch.linspace(0, LAST_KNOT, KNOTS, dtype=values.dtype, device=values.device)
    law = (-t.square() / 2).exp()
    step = LAST_KNOT / (KNOTS - 1)
    weights = law * torch.full_like(t, 2 * step).index_fill_(0, torch.tensor([0, KNOTS - 1], device=t.device), step)
    angles = values.unsqueeze(-1) * t  # (…, N, S, T)
    parts = torch.stack([angles.cos().mean(dim=-3), angles.sin().mean(dim=-3)])
    real, imaginary = gather(parts[None]).mean(dim=0)  # of all ranks: each has as many rows
    distance = (real - law).square() + imaginary.square()
    return distance @ weights * (values.shape[-2] * rank_and_size()[1])


def sigreg(embeddings: Tensor, directions: Tensor) -> Tensor:
    """Sketched isotropic Gaussian regularisation: the mean of ``epps_pulley`` over directions, and over views.

    Args:
        embeddings: Shape ``(…, N, D)``: of this rank.
        directions: Shape ``(D, S)``, of any length; the same on all ranks.
    """
    return epps_pulley(embeddings @ F.normalize(directions, dim=0).to(embeddings)).mean()


def to_centres(embeddings: Tensor, views: int, weights: Tensor | None = None) -> Tensor:
    """The mean squared difference between all crops' embeddings and the mean of their sample's global views.

    The gradient flows through the mean too (Balestriero & LeCun 2025, eq. 8 and algorithm 2).

    Args:
        embeddings: Shape ``(C, B, D)``, the V global views first.
        weights: Shape ``(B,)``, see ``mean_over_pairs``.
    """
    centres = embeddings[:views].mean(dim=0)
    return mean_over_pairs((embeddings - centres).square().mean(dim=(0, 2)), weights)


class LeJEPA(Objective):
    """(1 - λ) times the distance of all crops to the mean of their sample's global views, plus λ times ``sigreg``.

    λ is ``sigreg_weight``. The statistic is of each view by itself, and of the samples of all ranks. Its directions, of which
    there are ``slices``, are drawn anew in each step, from (seed, step). The defaults are those of the authors' MINIMAL.md; the
    paper has λ .05 and 1,024 slices for ImageNet.
    """

    name = "lejepa"
    num_views = 2  # at least
    negatives_in_batch = True
    weighs_pairs = True
    takes_local_crops = True

    def __init__(
        self,
        setup: Setup,
        *,
        sigreg_weight: float = 0.02,
        slices: int = 256,
        projector_layers: int = 3,
        projector_width: int = 2048,
        projector_dim: int = 16,
    ) -> None:
        super().__init__()
        if not 0 < sigreg_weight < 1:
            raise TrainingError.naming("{sigreg_weight} {}: wanted a number between 0 and 1", sigreg_weight)
        if slices < 1:
            raise TrainingError.naming("{slices} {}: wanted at least 1", slices)
        self.num_views, self.local_views = require_views(self.name, setup.num_views), setup.local_views
        self.sigreg_weight, self.slices, self.seed = sigreg_weight, slices, setup.seed
        self.projector = mlp(setup.width, *[projector_width] * (projector_layers - 1), projector_dim)

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        views, samples = self.num_views, len(images) // self.num_views
        features = [encoder(images), *([encoder(batch[LOCAL_CROPS])] if self.local_views else [])]
        rows = full(self.projector(torch.cat(features))).unflatten(0, (-1, samples))
        with full_precision(rows):
            together = to_centres(rows, views, batch.get(PAIR_WEIGHTS))
            normal = sigreg(rows, self.directions(step, rows.shape[-1]))
        value = (1 - self.sigreg_weight) * together + self.sigreg_weight * normal
        metrics = {"invariance": together.detach(), "sigreg": normal.detach()}
        return Output(value, metrics, unit(rows[:views].detach()))

    def directions(self, step: int, dim: int) -> Tensor:
        """Those of a step, on the CPU. Shape: ``-> (dim, slices)``."""
        generator = torch.Generator().manual_seed(derive("slices", self.seed, step))
        return torch.randn(dim, self.slices, generator=generator)

"""How well a discriminator tells images apart that it has not seen, and what its favourites are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..views.filter_network import Scorer
from .filtering_data import Material

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Log-odds of being real, of real and of generated images that were not trained on; N of each."""

    real: NDArray[np.float64]  # (N,)
    generated: NDArray[np.float64]  # (N,), number i is of held-out latent i

    def to_json(self) -> dict[str, Any]:
        """Accuracy, area under the ROC curve, and the distribution of the scores in [0, 1], 1 = real.

        ``kept`` and ``rejected`` are the upper and the lower half of the generated images.
        """
        ranked = np.sort(self.generated)
        half = len(ranked) // 2
        return {
            "images": len(self.real),
            "accuracy": float(((self.real > 0).mean() + (self.generated < 0).mean()) / 2),
            "auc": auc(self.real, self.generated),
            "score_real": _distribution(self.real),
            "score_generated": _distribution(self.generated),
            "score_kept": _distribution(ranked[half:]),
            "score_rejected": _distribution(ranked[:half]),
        }


@torch.no_grad()
def score_held_out(scorer: Scorer, material: Material, batch_size: int) -> HeldOut:
    """Score the images of both kinds that were held out."""
    count = len(material.held_out)
    real, generated = [], []
    for start in range(0, count, batch_size):
        numbers = np.arange(start, min(start + batch_size, count), dtype=np.int64)
        real.append(scorer(material.held_out_real(numbers)))
        generated.append(scorer(material.generated(numbers, held_out=True)))
    return HeldOut(real=torch.cat(real).double().cpu().numpy(), generated=torch.cat(generated).double().cpu().numpy())


def auc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """Probability that one of ``higher`` exceeds one of ``lower``; a tie counts half."""
    ranked = np.sort(lower)
    below, up_to = np.searchsorted(ranked, higher, side="left"), np.searchsorted(ranked, higher, side="right")
    return float((below + up_to).sum() / (2 * len(higher) * len(lower)))


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in [0, 1]."""
    scores: NDArray[np.float64] = torch.from_numpy(log_odds).sigmoid().numpy()
    return scores


def _distribution(log_odds: NDArray[np.float64]) -> dict[str, float]:
    scores = sigmoid(log_odds)
    quantiles = {f"q{round(100 * q):02d}": float(np.quantile(scores, q)) for q in QUANTILES}
    return {"mean": float(scores.mean()), "std": float(scores.std()), **quantiles}

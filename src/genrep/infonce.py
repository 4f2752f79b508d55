"""InfoNCE as SimCLR states it: the normalised temperature-scaled cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(anchor: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, eq. 1) with both views as anchors: the mean over the 2B rows of

        -log( exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),

    s the inner products, j the other view of i's pair; the negatives are the 2B - 2 images of the other pairs.

    The code of GenRep and COP-Gen multiplies this by τ / 0.07 (1.43 at τ = 0.1): values that the papers report, and the
    step that their learning rate takes, are larger by that factor. Here it is left out.

    Args:
        anchor: Shape ``(B, D)``, rows of unit length.
        positive: Shape ``(B, D)``, rows of unit length; row i is the pair of row i of ``anchor``.

    Returns:
        A scalar, computed in float32 whatever autocast says. Chance level is ``log(2B - 1)``.
    """
    pairs = len(anchor)
    with torch.autocast(anchor.device.type, enabled=False):
        z = torch.cat([anchor, positive]).float()
        logits = z @ z.T / temperature
        logits.fill_diagonal_(float("-inf"))
        partner = torch.arange(2 * pairs, device=z.device).roll(pairs)
        loss: Tensor = F.cross_entropy(logits, partner)
        return loss


def relative_std(embeddings: Tensor) -> Tensor:
    """How far embeddings are from collapse: their standard deviation per dimension, averaged, times √D.

    Shape: ``(B, D) -> ()``. 1 for rows spread evenly over the unit sphere, 0 if all are equal (Chen & He 2021, fig. 2).
    """
    embeddings = embeddings.detach().float()
    spread: Tensor = embeddings.std(dim=0).mean() * embeddings.shape[1] ** 0.5
    return spread

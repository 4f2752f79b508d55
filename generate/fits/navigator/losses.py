"""The supervised contrastive loss, for class-conditional generators."""

from __future__ import annotations

import torch
from torch import Tensor


def sup_con(anchor: Tensor, positive: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SupCon with the sum outside the logarithm (Khosla et al. 2020, eq. 2): the mean over the 2B images i of

        -1 / |P(i)| Σ_{p in P(i)} log( exp(s_ip / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),

    s the inner products, P(i) all other images of i's class: its pair, and both images of the pairs of that class.
    It equals ``info_nce`` where no two pairs share a class. As there, the papers' factor τ / 0.07 is left out.

    Args:
        anchor: Shape ``(B, D)``, rows of unit length.
        positive: Shape ``(B, D)``, rows of unit length; row i is the pair of row i of ``anchor``.
        labels: Shape ``(B,)``, the classes of the pairs.

    Returns:
        A scalar, computed in float32 whatever autocast says.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        z = torch.cat([anchor, positive]).float()
        logits = z @ z.T / temperature
        logits.fill_diagonal_(float("-inf"))
        both = labels.repeat(2)
        same = both[:, None] == both
        same.fill_diagonal_(False)
        log_p = torch.where(same, logits.log_softmax(dim=1), 0.0)
        loss: Tensor = -(log_p.sum(dim=1) / same.sum(dim=1)).mean()
        return loss

"""InfoNCE against a plain loop transcribed from SimCLR, eq. 1, and a case done by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.infonce import info_nce, relative_std


def by_loops(anchor: Tensor, positive: Tensor, temperature: float) -> float:
    """Both views are anchors; the mask leaves out an image itself, nothing else."""
    z = [*anchor.tolist(), *positive.tolist()]
    pairs, total = len(anchor), 0.0
    for i in range(2 * pairs):
        j = i + pairs if i < pairs else i - pairs
        scores = {}
        for k in range(2 * pairs):
            if k != i:
                scores[k] = math.exp(sum(a * b for a, b in zip(z[i], z[k])) / temperature)
        total -= math.log(scores[j] / sum(scores.values()))
    return total / (2 * pairs)


@pytest.mark.parametrize("pairs", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_equals_the_loop(pairs: int, temperature: float) -> None:
    torch.manual_seed(pairs)
    anchor, positive = F.normalize(torch.randn(2, pairs, 8), dim=2).unbind()
    wanted = by_loops(anchor.double(), positive.double(), temperature)
    assert float(info_nce(anchor, positive, temperature)) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_two_pairs_by_hand() -> None:
    """Pairs along two axes: each image has similarity 1 with its partner and 0 with both others."""
    axes = torch.eye(2)
    assert float(info_nce(axes, axes, 1.0)) == pytest.approx(math.log(1 + 2 / math.e))
    # Swapped partners: similarity 0 with the partner and one other, 1 with the remaining one.
    assert float(info_nce(axes, axes.flip(0), 1.0)) == pytest.approx(math.log(2 + math.e))


def test_chance_level() -> None:
    same = torch.ones(8, 4) / 2
    assert float(info_nce(same, same, 0.1)) == pytest.approx(math.log(15))


def test_gradient_reaches_both_views_and_autocast_does_not_touch_it() -> None:
    torch.manual_seed(0)
    anchor, positive = (F.normalize(torch.randn(4, 8), dim=1).requires_grad_() for _ in range(2))
    plain = info_nce(anchor, positive, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(info_nce(anchor, positive, 0.1).detach()) == float(plain.detach())
    plain.backward()
    for view in (anchor, positive):
        assert view.grad is not None and view.grad.abs().sum() > 0


def test_relative_std() -> None:
    torch.manual_seed(0)
    spread = F.normalize(torch.randn(4096, 64), dim=1)
    assert float(relative_std(spread)) == pytest.approx(1, abs=0.02)
    assert float(relative_std(spread[:1].expand(10, -1))) == pytest.approx(0, abs=1e-6)

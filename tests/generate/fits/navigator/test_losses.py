"""SupCon against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from genrep.generate.fits.navigator import sup_con
from genrep.infonce import info_nce


def embeddings(pairs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(2, pairs, 8, generator=generator), dim=2).unbind()


def by_loops(anchor, positive, labels, temperature):
    z = [*anchor.tolist(), *positive.tolist()]
    y = [*labels.tolist(), *labels.tolist()]
    total = 0.0
    for i in range(len(z)):
        scores = {k: sum(a * b for a, b in zip(z[i], z[k])) / temperature for k in range(len(z)) if k != i}
        bottom = sum(math.exp(score) for score in scores.values())
        positives = [k for k in scores if y[k] == y[i]]
        total -= sum(math.log(math.exp(scores[k]) / bottom) for k in positives) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1], [7, 7, 7, 7, 7]])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_equals_the_loop(labels, temperature):
    anchor, positive = embeddings(5)
    labels = torch.tensor(labels)
    wanted = by_loops(anchor, positive, labels, temperature)
    assert float(sup_con(anchor, positive, labels, temperature)) == pytest.approx(wanted, rel=1e-5)


def test_is_infonce_where_no_class_is_shared():
    anchor, positive = embeddings(6)
    ours = sup_con(anchor, positive, torch.arange(6), 0.1)
    assert torch.allclose(ours, info_nce(anchor, positive, 0.1), atol=1e-6)


def test_its_gradient_is_finite_and_pulls_a_class_together():
    anchor, positive = (x.clone().requires_grad_() for x in embeddings(4))
    labels = torch.tensor([0, 0, 1, 1])
    loss = sup_con(anchor, positive, labels, 0.5)
    loss.backward()
    assert anchor.grad.isfinite().all()
    with torch.no_grad():
        closer = F.normalize(anchor - 0.05 * anchor.grad, dim=1)
        assert sup_con(closer, positive, labels, 0.5) < loss

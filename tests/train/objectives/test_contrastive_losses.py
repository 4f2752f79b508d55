"""SimCLR, DCL, DCLW and SupCon against double loops transcribed from the papers' equations, and cases done by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.errors import TrainingError
from genrep.infonce import info_nce
from genrep.train.objectives import build_objective
from genrep.train.objectives.dcl import decoupled, negative_von_mises_fisher
from genrep.train.objectives.simclr import nt_xent
from genrep.train.objectives.supcon import sup_con

Rows = list[list[list[float]]]  # [view][sample][component]
CASES = [(2, 2, 0.1), (2, 5, 0.5), (3, 4, 0.1)]  # views, samples, temperature


def inner(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def images(rows: Rows) -> list[tuple[int, int]]:
    return [(v, i) for v in range(len(rows)) for i in range(len(rows[0]))]


def simclr_loop(rows: Rows, tau: float) -> float:
    """Chen et al. 2020, eq. 1."""
    terms = []
    for v, i in images(rows):
        below = sum(math.exp(inner(rows[v][i], rows[u][k]) / tau) for u, k in images(rows) if (u, k) != (v, i))
        for u in range(len(rows)):
            if u != v:
                terms.append(-math.log(math.exp(inner(rows[v][i], rows[u][i]) / tau) / below))
    return sum(terms) / len(terms)


def dcl_loop(rows: Rows, tau: float, weight: Callable[[int, int, int], float]) -> float:
    """Yeh et al. 2022, eq. 6 (and DCLW with its weight): the sum below runs over the other samples only."""
    terms = []
    for v, i in images(rows):
        below = sum(math.exp(inner(rows[v][i], rows[u][k]) / tau) for u, k in images(rows) if k != i)
        for u in range(len(rows)):
            if u != v:
                terms.append(-weight(v, u, i) * inner(rows[v][i], rows[u][i]) / tau + math.log(below))
    return sum(terms) / len(terms)


def dclw_weight(rows: Rows, sigma: float) -> Callable[[int, int, int], float]:
    def weight(v: int, u: int, i: int) -> float:
        close = [math.exp(inner(rows[v][k], rows[u][k]) / sigma) for k in range(len(rows[0]))]
        return 2 - close[i] / (sum(close) / len(close))

    return weight


def supcon_loop(rows: Rows, labels: list[int], tau: float) -> float:
    """Khosla et al. 2020, eq. 2; label -1 belongs to no class."""
    total = 0.0
    for v, i in images(rows):
        below = sum(math.exp(inner(rows[v][i], rows[u][k]) / tau) for u, k in images(rows) if (u, k) != (v, i))
        positives = [
            (u, k)
            for u, k in images(rows)
            if (u, k) != (v, i) and (k == i or (labels[k] == labels[i] and labels[i] != -1))
        ]
        total -= sum(math.log(math.exp(inner(rows[v][i], rows[u][k]) / tau) / below) for u, k in positives) / len(
            positives
        )
    return total / len(images(rows))


@pytest.mark.parametrize(("views", "samples", "tau"), CASES)
def test_simclr_equals_the_loop(random_views: Any, views: int, samples: int, tau: float) -> None:
    case = random_views(views, samples, 6, seed=samples)
    assert float(nt_xent(case.tensor, tau).detach()) == pytest.approx(simclr_loop(case.rows, tau), rel=1e-12)


@pytest.mark.parametrize(("views", "samples", "tau"), CASES)
def test_dcl_equals_the_loop(random_views: Any, views: int, samples: int, tau: float) -> None:
    case = random_views(views, samples, 6, seed=samples)
    wanted = dcl_loop(case.rows, tau, lambda v, u, i: 1.0)
    assert float(decoupled(case.tensor, tau).detach()) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("views", "samples", "tau"), CASES)
def test_dclw_equals_the_loop(random_views: Any, views: int, samples: int, tau: float) -> None:
    case = random_views(views, samples, 6, seed=samples)
    wanted = dcl_loop(case.rows, tau, dclw_weight(case.rows, 0.5))
    assert float(decoupled(case.tensor, tau, 0.5).detach()) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    "labels",
    [[0, 0, 1, 1, 2], [4, 4, 4, 4, 4], [0, 1, 2, 3, 4], [-1, -1, 2, 2, -1]],
    ids=["classes", "one class", "singletons", "unlabelled"],
)
@pytest.mark.parametrize("views", [2, 3])
def test_supcon_equals_the_loop(random_views: Any, labels: list[int], views: int) -> None:
    case = random_views(views, len(labels), 6, seed=3)
    wanted = supcon_loop(case.rows, labels, 0.2)
    assert float(sup_con(case.tensor, torch.tensor(labels), 0.2).detach()) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, -1, -1, -1]])
def test_supcon_without_classmates_is_simclr(random_views: Any, labels: list[int]) -> None:
    case = random_views(2, 4, 6, seed=0)
    torch.testing.assert_close(sup_con(case.tensor, torch.tensor(labels), 0.1), nt_xent(case.tensor, 0.1))


def test_two_pairs_by_hand() -> None:
    """Samples along two axes: an image has similarity 1 with its partner and 0 with both images of the other sample."""
    axes = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    assert float(nt_xent(axes, 1.0)) == pytest.approx(math.log(math.e + 2) - 1)
    assert float(decoupled(axes, 1.0)) == pytest.approx(math.log(2) - 1)
    assert float(decoupled(axes, 1.0, 0.5)) == pytest.approx(math.log(2) - 1)  # equally close pairs have weight 1
    # With both samples in one class the positives' similarities are 1, 0, 0.
    assert float(sup_con(axes, torch.tensor([5, 5]), 1.0)) == pytest.approx(math.log(math.e + 2) - 1 / 3)


def test_dcl_takes_one_logarithm_over_the_negatives_of_both_views() -> None:
    """A sum of two logarithms, one per view, would be 0 here instead of log 2."""
    orthogonal = torch.eye(4, dtype=torch.float64).view(2, 2, 4)
    assert float(decoupled(orthogonal, 0.1)) == pytest.approx(math.log(2))


def test_far_pairs_weigh_more_and_weights_have_mean_one(random_views: Any) -> None:
    views = random_views(2, 6, 4, seed=2).tensor.detach()
    weights = negative_von_mises_fisher(views, 0.5)[0, 1]
    similar = (views[0] * views[1]).sum(dim=1)
    assert torch.equal(weights.argsort(), similar.argsort(descending=True))
    assert float(weights.mean()) == pytest.approx(1)


def test_the_weights_of_dclw_are_constants_to_the_gradient(random_views: Any) -> None:
    """The gradient is that of the loop with its weights held fixed."""
    case = random_views(2, 3, 4, seed=1)
    decoupled(case.tensor, 0.3, 0.5).backward()
    weights, rows = dclw_weight(case.rows, 0.5), case.rows
    fixed = {(v, u, i): weights(v, u, i) for v in range(2) for u in range(2) for i in range(3)}
    for v, i, d in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        before = rows[v][i][d]
        sides = []
        for move in (1e-5, -1e-5):
            rows[v][i][d] = before + move
            sides.append(dcl_loop(rows, 0.3, lambda *key: fixed[key]))
        rows[v][i][d] = before
        assert float(case.tensor.grad[v, i, d]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("loss", [nt_xent, decoupled, lambda x, t: sup_con(x, torch.tensor([0, 0, 1]), t)])
def test_gradients_are_the_differences_of_the_loss(random_views: Any, loss: Callable[[Tensor, float], Tensor]) -> None:
    case = random_views(2, 3, 4, seed=4)
    assert torch.autograd.gradcheck(lambda x: loss(x, 0.3), case.tensor)


@pytest.mark.parametrize("name", ["simclr", "dcl", "dclw", "supcon"])
def test_the_order_of_samples_and_views_does_not_matter(random_views: Any, name: str) -> None:
    labels = torch.tensor([0, 0, 1, 2, 1])
    order = torch.tensor([3, 0, 4, 2, 1])
    views = random_views(2, 5, 6, seed=9).tensor.detach()
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "simclr": lambda x, y: nt_xent(x, 0.1),
        "dcl": lambda x, y: decoupled(x, 0.1),
        "dclw": lambda x, y: decoupled(x, 0.1, 0.5),
        "supcon": lambda x, y: sup_con(x, y, 0.1),
    }
    wanted = losses[name](views, labels)
    torch.testing.assert_close(losses[name](views[:, order], labels[order]), wanted)
    torch.testing.assert_close(losses[name](views.flip(0), labels), wanted)


def test_simclr_is_the_shared_info_nce(random_views: Any) -> None:
    views = random_views(2, 7, 8, seed=1).tensor.detach().float()
    torch.testing.assert_close(nt_xent(views, 0.1), info_nce(views[0], views[1], 0.1))


def test_one_sample_alone(random_views: Any) -> None:
    """SimCLR and SupCon have nothing to tell apart; DCL has no negative and says so."""
    case = random_views(2, 1, 4, seed=0)
    for loss in (nt_xent(case.tensor, 0.1), sup_con(case.tensor, torch.tensor([3]), 0.1)):
        assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
        loss.backward()
    assert torch.isfinite(case.tensor.grad).all()
    with pytest.raises(TrainingError, match=r"^batch_size 1: dcl takes its negatives"):
        decoupled(case.tensor, 0.1)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_stay_finite_in_float32(temperature: float) -> None:
    """exp(1 / τ) overflows at τ = 0.001; a logarithm of sums of exponentials does not."""
    rows = F.normalize(torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0)), dim=2).requires_grad_()
    for loss in (nt_xent(rows, temperature), decoupled(rows, temperature, 0.5)):
        loss.backward()
        assert torch.isfinite(loss)
    assert torch.isfinite(rows.grad).all()


def test_collapsed_embeddings_are_at_chance_level() -> None:
    same = torch.ones(2, 8, 4) / 2
    assert float(nt_xent(same, 0.1)) == pytest.approx(math.log(15), rel=1e-6)
    assert float(decoupled(same, 0.1)) == pytest.approx(math.log(14), rel=1e-6)


def multi_positive_loop(rows: Rows, prompts: list[int], tau: float) -> float:
    """StableRep (Tian et al. 2023), eqs. 1-2: q is the softmax over all other images, p is even over those of the prompt."""
    total = 0.0
    for v, i in images(rows):
        others = [(u, k) for u, k in images(rows) if (u, k) != (v, i)]
        below = sum(math.exp(inner(rows[v][i], rows[u][k]) / tau) for u, k in others)
        positives = [(u, k) for u, k in others if prompts[k] == prompts[i]]
        for u, k in positives:
            total -= math.log(math.exp(inner(rows[v][i], rows[u][k]) / tau) / below) / len(positives)
    return total / len(images(rows))


@pytest.mark.parametrize("prompts", [[0, 1, 2, 3], [5, 5, 2, 2], [1, 1, 1, 4]])
@pytest.mark.parametrize("views", [2, 3, 5])
def test_multi_positive_equals_the_loop(random_views: Any, setup: Any, views: int, prompts: list[int]) -> None:
    case = random_views(views, 4, 16, seed=views, normal=False)
    objective = build_objective(
        "multi-positive", setup(num_views=views, fields=frozenset(["prompt"])), projector_layers=1, projector_dim=16
    )
    with torch.no_grad():
        objective.projector[0].weight.copy_(torch.eye(16))
        objective.projector[0].bias.zero_()
    rows = case.tensor.detach().float().requires_grad_()
    batch = {"prompt": torch.tensor(prompts)}
    output = objective.loss(torch.nn.Identity(), rows.flatten(0, 1), batch, 0)
    normal = F.normalize(case.tensor.detach(), dim=2).tolist()
    assert float(output.loss.detach()) == pytest.approx(multi_positive_loop(normal, prompts, 0.1), rel=1e-5)
    output.loss.backward()
    assert torch.isfinite(rows.grad).all() and rows.grad.abs().min() > 0


def test_with_two_views_multi_positive_is_nt_xent(setup: Any) -> None:
    """Value and gradient, whether prompts are known and unlike, or not known."""
    found = []
    for fields in (frozenset[str](), frozenset(["prompt"])):
        objective = build_objective("multi-positive", setup(fields=fields), projector_layers=1, projector_dim=16)
        rows = torch.randn(12, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        objective.loss(torch.nn.Identity(), rows, {"prompt": torch.arange(6)}, 0).loss.backward()
        found.append(rows.grad)
        again = rows.detach().clone().requires_grad_()
        nt_xent(F.normalize(objective.projector(again), dim=1).unflatten(0, (2, 6)), 0.1).backward()
        torch.testing.assert_close(rows.grad, again.grad)
    torch.testing.assert_close(*found)


def test_each_view_has_its_own_batch_statistics_in_the_projector(setup: Any) -> None:
    rows = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    rows[5:] = 3 * rows[5:] + 1  # another mean and scale in the second view
    each, together = (
        build_objective("multi-positive", setup(), projector_width=8, projector_dim=4, per_view_projector=per_view)
        for per_view in (True, False)
    )
    joined = [one.loss(torch.nn.Identity(), rows, {}, 0).embeddings.flatten(0, 1) for one in (each, together)]
    torch.testing.assert_close(joined[1], F.normalize(together.projector(rows), dim=1))
    by_hand = torch.cat([each.projector(part) for part in rows.chunk(2)])
    torch.testing.assert_close(joined[0], F.normalize(by_hand, dim=1))
    assert not torch.allclose(*joined)

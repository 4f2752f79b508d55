"""Weights of pairs: the mean of weighted losses against plain loops from the equation, and what no weights leave as it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.runs.processes import Processes
from genrep.train.engine.pair_weights import pair_weights
from genrep.train.objectives import OBJECTIVES, Setup, Step, build_objective, weighs_pairs
from genrep.train.objectives.base import PAIR_WEIGHTS
from genrep.train.objectives.dcl import decoupled
from genrep.train.objectives.negative_feature_transform import MixingDraws, transformed_nce
from genrep.train.objectives.nnclr import neighbour_nce
from genrep.train.objectives.simclr import nt_xent
from genrep.train.objectives.simsiam import negative_cosine
from genrep.train.objectives.supcon import sup_con

Rows = list[list[list[float]]]  # [view][sample][component]
WEIGHTS = [0.5, 2.0, 0.0, 1.5, 0.25]
WEIGHED = [name for name in OBJECTIVES if weighs_pairs(name)]


def inner(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def unit(row: list[float]) -> list[float]:
    return [x / math.sqrt(inner(row, row)) for x in row]


def images(rows: Rows) -> list[tuple[int, int]]:
    return [(v, i) for v in range(len(rows)) for i in range(len(rows[0]))]


def weighted_mean(terms: dict[tuple[int, int], float], samples: int) -> float:
    """1/V Σ_v 1/n Σ_i w_i ℓ_vi with w_i = n a_i / Σ_j a_j (GenView's equation for each view)."""
    total = sum(WEIGHTS)
    weighted = [samples * WEIGHTS[i] / total * term for (_, i), term in terms.items()]
    return sum(weighted) / len(weighted)


def contrast(rows: Rows, tau: float, positives: Callable[[int, int], list[tuple[int, int]]], own: bool) -> float:
    """The term of each image is the mean over its positives; ``own``: its sample's other views are in the denominator."""
    terms = {}
    for v, i in images(rows):
        rest = [(u, k) for u, k in images(rows) if (u, k) != (v, i) and (own or k != i)]
        below = math.log(sum(math.exp(inner(rows[v][i], rows[u][k]) / tau) for u, k in rest))
        partners = positives(v, i)
        terms[v, i] = sum(below - inner(rows[v][i], rows[u][k]) / tau for u, k in partners) / len(partners)
    return weighted_mean(terms, len(rows[0]))


def normal(samples: int = 5) -> Tensor:
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    return weights * samples / weights.sum()


@pytest.mark.parametrize("views", [2, 3])
def test_contrastive_losses_equal_the_loop(random_views: Any, views: int) -> None:
    case, labels = random_views(views, 5, 6, seed=1), [0, 0, 1, -1, 1]

    def others(v: int, i: int) -> list[tuple[int, int]]:
        return [(u, i) for u in range(views) if u != v]

    def of_class(v: int, i: int) -> list[tuple[int, int]]:
        return [
            (u, k)
            for u, k in images(case.rows)
            if (u, k) != (v, i) and (k == i or (labels[k] == labels[i] and labels[i] != -1))
        ]

    found = {
        "simclr": nt_xent(case.tensor, 0.2, normal()),
        "dcl": decoupled(case.tensor, 0.2, weights=normal()),
        "supcon": sup_con(case.tensor, torch.tensor(labels), 0.2, normal()),
    }
    wanted = {
        "simclr": contrast(case.rows, 0.2, others, own=True),
        "dcl": contrast(case.rows, 0.2, others, own=False),
        "supcon": contrast(case.rows, 0.2, of_class, own=True),
    }
    for name, value in found.items():
        assert float(value.detach()) == pytest.approx(wanted[name], rel=1e-12), name


def test_dclw_has_both_weights(random_views: Any) -> None:
    rows = (case := random_views(2, 5, 6, seed=2)).rows
    close = [math.exp(inner(rows[0][k], rows[1][k]) / 0.5) for k in range(5)]
    terms = {}
    for v, i in images(rows):
        below = sum(math.exp(inner(rows[v][i], rows[u][k]) / 0.2) for u, k in images(rows) if k != i)
        own = 2 - close[i] / (sum(close) / 5)
        terms[v, i] = math.log(below) - own * inner(rows[v][i], rows[1 - v][i]) / 0.2
    found = decoupled(case.tensor, 0.2, 0.5, normal())
    assert float(found.detach()) == pytest.approx(weighted_mean(terms, 5), rel=1e-12)


def test_predictive_losses_equal_the_loop(random_views: Any) -> None:
    predictions, targets = random_views(2, 5, 6, seed=3, normal=False), random_views(2, 5, 6, seed=4, normal=False)
    terms = {
        (v, i): -inner(unit(predictions.rows[v][i]), unit(targets.rows[1 - v][i])) for v, i in images(targets.rows)
    }
    found = negative_cosine(predictions.tensor, targets.tensor, normal())
    assert float(found.detach()) == pytest.approx(weighted_mean(terms, 5), rel=1e-12)


def test_neighbours_and_queues_equal_the_loop(random_views: Any) -> None:
    near, guess = random_views(2, 5, 6, seed=5), random_views(2, 5, 6, seed=6)
    terms = {}
    for v, i in images(near.rows):
        scores = [inner(near.rows[v][i], guess.rows[1 - v][k]) / 0.2 for k in range(5)]
        terms[v, i] = math.log(sum(map(math.exp, scores))) - scores[i]
    found = neighbour_nce(near.tensor, guess.tensor, 0.2, normal())
    assert float(found.detach()) == pytest.approx(weighted_mean(terms, 5), rel=1e-12)

    queue = random_views(1, 4, 6, seed=7)
    mixing = MixingDraws(1.0, 1.0, torch.arange(4))  # which leaves all rows as they are
    terms = {}
    for i in range(5):
        scores = [inner(near.rows[0][i], row) / 0.2 for row in (guess.rows[0][i], *queue.rows[0])]
        terms[0, i] = math.log(sum(map(math.exp, scores))) - scores[0]
    found = transformed_nce(near.tensor[0], guess.tensor[0], queue.tensor[0], mixing, 0.2, normal())
    assert float(found.detach()) == pytest.approx(weighted_mean(terms, 5), rel=1e-12)


def step_of(name: str, setup: Callable[..., Setup], encoder: nn.Module) -> Step:
    options = {"queue_size": 16} if name in ("nnclr", "negative-feature-transform") else {}
    options = {"prototypes": 32} if name in ("dino", "ibot", "synclr") else options
    return Step(encoder, build_objective(name, setup(encoder=encoder), **options))


# Losses of the commit before weights, of ``images(2 or 1, 5)`` and ``batch(5)`` below. Gradients, as the root of their squares.
BEFORE = {
    "simclr": (2.7959446907043457, 5.369582146886936),
    "dcl": (2.673283576965332, 6.007097687982203),
    "dclw": (2.842085361480713, 6.09719575208321),
    "supcon": (2.5938169956207275, 3.943506924393614),
    "simsiam": (0.009697380475699902, 4.232078365262114),
    "byol": (4.145451545715332, 10.897012457230998),
    "nnclr": (1.500401258468628, 9.779215820114015),
    "negative-feature-transform": (1.3489091396331787, 3.4494947448865756),
    "inverter": (1.6311208009719849, 1.851325595481389),
    "classifier": (1.0091793537139893, 1.429662846209319),
    "autoencoder": (1.7932177782058716, 1.865093896170242),
}


@pytest.mark.parametrize("name", BEFORE)
def test_without_weights_losses_and_gradients_are_what_they_were(
    setup: Callable[..., Setup], images: Any, batch: Any, tiny_encoder: nn.Module, name: str
) -> None:
    step = step_of(name, setup, tiny_encoder)
    output = step(images(step.objective.num_views, 5), batch(5), 0)
    output.loss.backward()
    squares = sum(float(p.grad.double().square().sum()) for p in step.parameters() if p.grad is not None)
    assert (float(output.loss.detach()), math.sqrt(squares)) == pytest.approx(BEFORE[name], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", WEIGHED)
def test_equal_weights_are_none_and_others_are_the_sum_of_each_pairs_part(
    setup: Callable[..., Setup], images: Any, batch: Any, encoder_of: Callable[[str], nn.Module], name: str
) -> None:
    """The loss is linear in the weights: the parts of one pair alone, weighted, add up to it, in value and gradient."""
    step = step_of(name, setup, encoder_of(name))
    pictures, fields = images(2, 5), batch(5)

    def loss(weights: Tensor | None) -> Tensor:
        step.zero_grad()
        given = fields if weights is None else {**fields, PAIR_WEIGHTS: weights}
        value = step(pictures, given, 0).loss
        value.backward()
        return torch.cat([value.detach()[None], *(p.grad.flatten() for p in step.parameters() if p.grad is not None)])

    torch.testing.assert_close(loss(torch.ones(5)), loss(None), rtol=1e-4, atol=1e-5)
    alone = torch.stack([loss(5.0 * torch.eye(5)[i]) for i in range(5)])
    mixed = (normal().float()[:, None] / 5 * alone).sum(dim=0)
    torch.testing.assert_close(loss(normal()), mixed, rtol=1e-4, atol=1e-5)
    assert float((alone[:, 0] - alone[0, 0]).abs().max()) > 1e-3


def given(weights: list[float], field: str = "weight") -> dict[str, Tensor]:
    return {field: torch.tensor(weights), "index": torch.arange(100, 100 + len(weights))}


ALONE = Processes(device=torch.device("cpu"))


def test_weights_have_mean_one_whatever_their_scale() -> None:
    for scale in (1e-20, 1.0, 1e20):
        found = pair_weights(given([scale, 3 * scale]), "weight", ALONE)
        torch.testing.assert_close(found, torch.tensor([0.5, 1.5]))
    one = {"weight": torch.tensor([[1.0], [3.0]]), "index": torch.arange(2)}  # of positives, of which there is one
    assert pair_weights(one, "weight", ALONE).tolist() == [0.5, 1.5]


def test_softmax_of_qualities_is_genviews_weight() -> None:
    """Li et al. 2024: n times the softmax of q over the batch, from a field of exp(q)."""
    quality = torch.tensor([0.3, -0.2, 0.9, 0.0])
    found = pair_weights(given(quality.exp().tolist()), "weight", ALONE)
    torch.testing.assert_close(found, 4 * quality.softmax(dim=0))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0, -0.5], "weight_field weight: pair 101 has -0.5, wanted a finite number, 0 at least"),
        ([float("nan"), 1.0], "pair 100 has nan"),
        ([1.0, float("inf")], "pair 101 has inf"),
        ([0.0, 0.0], "0 for all pairs of a batch, pair 100 among them; wanted more than 0 for some"),
    ],
)
def test_weights_that_are_none_are_refused_with_their_pair(weights: list[float], words: str) -> None:
    with pytest.raises(TrainingError) as caught:
        pair_weights(given(weights), "weight", ALONE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_objectives_that_look_at_the_anchor_alone_have_no_pair_to_weigh() -> None:
    assert sorted(OBJECTIVES.keys() - set(WEIGHED)) == ["autoencoder", "classifier", "inverter"]

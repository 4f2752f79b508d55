"""SimSiam, BYOL, NNCLR and the feature transformation against plain loops, and where their gradients stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.train.objectives import Setup, build_objective
from genrep.train.objectives.heads import Queue, Target, momentum_at
from genrep.train.objectives.negative_feature_transform import MixingDraws, draw_mixing, transformed_nce
from genrep.train.objectives.nnclr import nearest, neighbour_nce
from genrep.train.objectives.simsiam import negative_cosine

MakeSetup = Callable[..., Setup]


def inner(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def cosine(a: list[float], b: list[float]) -> float:
    return inner(a, b) / math.sqrt(inner(a, a) * inner(b, b))


def simsiam_loop(p: list[list[list[float]]], z: list[list[list[float]]]) -> float:
    """Chen & He 2021, eqs. 1-2, for any number of views."""
    pairs = [(v, u) for v in range(len(p)) for u in range(len(p)) if u != v]
    terms = [-cosine(p[v][i], z[u][i]) for v, u in pairs for i in range(len(p[0]))]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("views", [2, 3])
def test_simsiam_equals_the_loop(random_views: Any, views: int) -> None:
    p, z = (random_views(views, 4, 6, seed=seed, normal=False) for seed in (0, 1))
    assert float(negative_cosine(p.tensor, z.tensor).detach()) == pytest.approx(simsiam_loop(p.rows, z.rows), rel=1e-12)


def test_two_samples_of_simsiam_by_hand() -> None:
    p = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])  # view 0 and view 1 of one sample
    z = torch.tensor([[[0.0, 3.0]], [[1.0, 1.0]]])
    assert float(negative_cosine(p, z)) == pytest.approx(-(math.sqrt(0.5) + 1) / 2)


def test_no_gradient_reaches_the_targets(random_views: Any) -> None:
    p, z = (random_views(2, 4, 6, seed=seed, normal=False).tensor for seed in (0, 1))
    negative_cosine(p, z).backward()
    assert z.grad is None
    assert p.grad.abs().sum() > 0


def test_nnclr_equals_the_loop(random_views: Any) -> None:
    """Dwibedi et al. 2021, algorithm 1: L(NN(z1), p2) / 2 + L(NN(z2), p1) / 2."""
    z, p, queue = random_views(2, 4, 6, 0), random_views(2, 4, 6, 1), random_views(1, 9, 6, 2)
    total = 0.0
    for v, u in [(0, 1), (1, 0)]:
        for i in range(4):
            neighbour = max(queue.rows[0], key=lambda row: inner(z.rows[v][i], row))
            scores = [math.exp(inner(neighbour, p.rows[u][k]) / 0.2) for k in range(4)]
            total -= math.log(scores[i] / sum(scores)) / 8
    neighbours, similarity = nearest(z.tensor, queue.tensor.detach()[0])
    loss = neighbour_nce(neighbours, p.tensor, 0.2)
    assert float(loss.detach()) == pytest.approx(total, rel=1e-12)
    assert float(similarity[0, 0]) == pytest.approx(max(inner(z.rows[0][0], row) for row in queue.rows[0]))
    loss.backward()
    assert z.tensor.grad is None
    assert p.tensor.grad.abs().sum() > 0


def test_one_sample_of_nnclr_has_loss_zero(random_views: Any) -> None:
    p = random_views(2, 1, 6, 1)
    assert float(neighbour_nce(p.tensor.detach(), p.tensor, 0.1).detach()) == 0


def test_feature_transform_equals_the_loop(random_views: Any) -> None:
    """Zhu et al. 2021: extrapolated positives, interpolated negatives."""
    q, k, queue = random_views(1, 3, 6, 0), random_views(1, 3, 6, 1), random_views(1, 5, 6, 2)
    mixing = MixingDraws(positive=1.4, negative=0.3, order=torch.tensor([2, 0, 4, 1, 3]))
    total = 0.0
    for i in range(3):
        far = [1.4 * a - 0.4 * b for a, b in zip(q.rows[0][i], k.rows[0][i])]
        similar = inner(q.rows[0][i], k.rows[0][i])
        positive = math.exp((similar + 2 * 1.4 * (1 - 1.4) * (1 - similar)) / 0.2)
        negatives = 0.0
        for j, other in enumerate([2, 0, 4, 1, 3]):
            mixed = [0.3 * a + 0.7 * b for a, b in zip(queue.rows[0][j], queue.rows[0][other])]
            negatives += math.exp(inner(far, mixed) / 0.2)
        total -= math.log(positive / (positive + negatives)) / 3
    loss = transformed_nce(q.tensor[0], k.tensor[0], queue.tensor.detach()[0], mixing, 0.2)
    assert float(loss.detach()) == pytest.approx(total, rel=1e-12)
    loss.backward()
    assert k.tensor.grad is None


def test_mixing_is_a_function_of_seed_and_step() -> None:
    draws = [draw_mixing(seed, step, 8) for seed in (0, 1) for step in range(50)]
    assert all(1 < draw.positive < 2 and 0 < draw.negative < 1 for draw in draws)
    assert len({draw.positive for draw in draws}) == 100
    assert sorted(draws[0].order.tolist()) == list(range(8))
    again = draw_mixing(1, 49, 8)
    assert (again.positive, again.order.tolist()) == (draws[-1].positive, draws[-1].order.tolist())
    state = torch.random.get_rng_state()
    draw_mixing(0, 0, 8)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_queue_replaces_the_oldest_rows() -> None:
    queue = Queue(5, 1)
    for first in (0, 3, 6):
        queue.push(torch.arange(first, first + 3).view(3, 1).float())
        queue.advance()
    assert queue.entries.flatten().tolist() == [5, 6, 7, 8, 4]
    assert int(queue.position) == 4
    queue.advance()  # nothing was pushed
    assert int(queue.position) == 4


def test_more_rows_than_the_queue_holds_leave_the_last_ones() -> None:
    queue = Queue(3, 1)
    queue.push(torch.arange(8).view(8, 1).float())
    queue.advance()
    assert sorted(queue.entries.flatten().tolist()) == [5, 6, 7]
    queue.push(torch.tensor([[9.0]]))
    queue.advance()
    assert sorted(queue.entries.flatten().tolist()) == [6, 7, 9]


def test_the_queue_waits_for_the_update_and_ignores_evaluation() -> None:
    queue = Queue(4, 1)
    before = queue.entries.clone()
    queue.push(torch.zeros(2, 1))
    queue.push(torch.ones(1, 1))  # a second part of one batch
    assert torch.equal(queue.entries, before)
    queue.advance()
    assert queue.entries[:3].flatten().tolist() == [0, 0, 1]
    queue.eval().push(torch.ones(4, 1))
    queue.advance()
    assert int(queue.position) == 3


def test_random_entries_have_unit_length_and_survive_a_checkpoint(setup: MakeSetup) -> None:
    ours = build_objective("nnclr", setup(), queue_size=7)
    torch.testing.assert_close(ours.queue.entries.norm(dim=1), torch.ones(7))
    other = build_objective("nnclr", setup(seed=6), queue_size=7)
    assert not torch.equal(ours.queue.entries, other.queue.entries)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(ours.queue.entries, other.queue.entries)


def test_the_target_is_an_exponential_average_of_parameters() -> None:
    online, head = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    target = Target(online, head)
    pairs = list(zip(target.networks.parameters(), [*online.parameters(), *head.parameters()]))
    assert all(torch.equal(ours, theirs) and not ours.requires_grad for ours, theirs in pairs)
    start = [ours.clone() for ours, _ in pairs]
    with torch.no_grad():
        for _, theirs in pairs:
            theirs.add_(1)
    target.follow(online, head, 0.75)
    target.follow(online, head, 0.75)
    for before, (ours, _) in zip(start, pairs):
        torch.testing.assert_close(ours, before + 1 - 0.75**2)


@pytest.mark.parametrize(
    ("step", "schedule", "wanted"),
    [(0, "constant", 0.996), (70, "constant", 0.996), (0, "cosine", 0.996), (50, "cosine", 0.998), (100, "cosine", 1)],
)
def test_momentum(step: int, schedule: str, wanted: float) -> None:
    assert momentum_at(step, 100, 0.996, schedule) == pytest.approx(wanted)


def test_byol_is_the_sum_of_both_directions(setup: MakeSetup, images: Any, tiny_encoder: nn.Module) -> None:
    byol = build_objective("byol", setup())
    pictures = images(2, 5)
    output = byol.loss(tiny_encoder, pictures, {}, 0)
    total, halves = 0.0, pictures.chunk(2)
    with torch.no_grad():
        for own, other in (halves, halves[::-1]):
            prediction = byol.predictor(byol.projector(tiny_encoder(own))).tolist()
            target = byol.projector(tiny_encoder(other)).tolist()  # at first the target is the online network
            total += sum(2 - 2 * cosine(p, t) for p, t in zip(prediction, target)) / 5
    assert float(output.loss.detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("name", "momentum"), [("byol", 0.996), ("negative-feature-transform", 0.999)])
def test_only_the_update_moves_the_target(
    setup: MakeSetup, images: Any, tiny_encoder: nn.Module, name: str, momentum: float
) -> None:
    options = {"queue_size": 8} if name != "byol" else {}
    objective = build_objective(name, setup(), **options)
    before = [parameter.clone() for parameter in objective.target.parameters()]
    objective.loss(tiny_encoder, images(2, 4), {}, 0).loss.backward()
    assert all(parameter.grad is None for parameter in objective.target.parameters())
    assert all(parameter.grad is not None for parameter in tiny_encoder.parameters())
    with torch.no_grad():
        for parameter in tiny_encoder.parameters():
            parameter.add_(1)
    assert torch.equal(next(objective.target.parameters()), before[0])
    objective.after_step(tiny_encoder, 0, 10)
    torch.testing.assert_close(next(objective.target.parameters()), before[0] + 1 - momentum)
    assert torch.equal(list(objective.target.parameters())[-1], before[-1])  # the projector stood still


def test_nnclr_enqueues_the_first_view_after_the_update(setup: MakeSetup, images: Any, tiny_encoder: nn.Module) -> None:
    nnclr = build_objective("nnclr", setup(), queue_size=6)
    before = nnclr.queue.entries.clone()
    output = nnclr.loss(tiny_encoder, images(2, 4), {}, 0)
    assert torch.equal(nnclr.queue.entries, before)
    nnclr.after_step(tiny_encoder, 0, 10)
    torch.testing.assert_close(nnclr.queue.entries[:4], output.embeddings[0])
    assert torch.equal(nnclr.queue.entries[4:], before[4:])


def test_the_feature_transform_takes_two_views(setup: MakeSetup) -> None:
    with pytest.raises(TrainingError, match="negative-feature-transform: 3 views of each sample; wanted 2"):
        build_objective("negative-feature-transform", setup(num_views=3))


def test_simsiam_stops_at_the_other_view(setup: MakeSetup, images: Any, tiny_encoder: nn.Module) -> None:
    """The encoder's gradient is that of a loss whose targets are numbers."""
    simsiam = build_objective("simsiam", setup())
    pictures = images(2, 4)
    simsiam.loss(tiny_encoder, pictures, {}, 0).loss.backward()
    gradient: Tensor = tiny_encoder[1].weight.grad.clone()
    tiny_encoder.zero_grad()
    with torch.no_grad():
        numbers = [simsiam.projector(tiny_encoder(view)) for view in pictures.chunk(2)]
    loss = torch.zeros(())
    for own, other in ((0, 1), (1, 0)):
        p = simsiam.predictor(simsiam.projector(tiny_encoder(pictures.chunk(2)[own])))
        loss = loss - nn.functional.cosine_similarity(p, numbers[other]).mean() / 2
    loss.backward()
    torch.testing.assert_close(gradient, tiny_encoder[1].weight.grad)

"""Distillation over prototypes and masks of patches, against plain loops from the equations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_transformer import TinyTransformer
from torch import Tensor, nn

from genrep.train.objectives import Setup, build_objective
from genrep.train.objectives.base import LOCAL_CROPS
from genrep.train.objectives.dino import between_crops
from genrep.train.objectives.distillation import information, sinkhorn
from genrep.train.objectives.heads import Target
from genrep.train.objectives.ibot import of_masked_patches
from genrep.train.objectives.masks import MaskDraws, MaskOptions
from genrep.train.objectives.synclr import momentum_sup_con

WEIGHTS = [0.5, 2.0, 0.0, 1.5]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [value / sum(powers) for value in powers]


def crossed(target: list[float], row: list[float], temperature: float) -> float:
    return -sum(p * math.log(q) for p, q in zip(target, softmax(row, temperature)))


@pytest.mark.parametrize(("views", "crops"), [(2, 2), (2, 6), (3, 9)])
def test_crops_predict_the_other_views_targets(views: int, crops: int) -> None:
    """Caron et al. 2021, algorithm 1 and eq. 3."""
    student, targets = normal(crops, 4, 5), normal(views, 4, 5, seed=1).softmax(dim=2)
    terms = [
        [
            crossed(targets[a, i].tolist(), student[b, i].tolist(), 0.1)
            for a in range(views)
            for b in range(crops)
            if a != b
        ]
        for i in range(4)
    ]
    means = [sum(own) / len(own) for own in terms]
    assert float(between_crops(student, targets, 0.1)) == pytest.approx(sum(means) / 4)
    weighted = sum(weight * mean for weight, mean in zip(WEIGHTS, means)) / 4
    assert float(between_crops(student, targets, 0.1, torch.tensor(WEIGHTS))) == pytest.approx(weighted)


def test_sinkhorn_scales_prototypes_then_rows() -> None:
    scores = normal(6, 4, seed=2)
    shares = [[math.exp(value / 0.5) for value in row] for row in scores.tolist()]
    for _ in range(3):
        totals = [sum(row[k] for row in shares) for k in range(4)]
        shares = [[value / total for value, total in zip(row, totals)] for row in shares]
        shares = [[value / sum(row) for value in row] for row in shares]
    torch.testing.assert_close(sinkhorn(scores, 0.5), torch.tensor(shares, dtype=torch.float64))
    assert sinkhorn(torch.empty(0, 4), 0.5).shape == (0, 4)
    huge = sinkhorn(1e4 * normal(6, 4, seed=3).float(), 0.04)
    torch.testing.assert_close(huge.sum(dim=1), torch.ones(6))


def test_masked_patches_are_averaged_in_their_image() -> None:
    """Zhou et al. 2022, eq. 2; an image without a mask counts."""
    mask = torch.tensor([[True, False, True], [False] * 3, [False, False, True], [True] * 3])
    scores, targets = normal(4, 3, 5), normal(4, 3, 5, seed=1).softmax(dim=2)
    means = []
    for i in range(4):
        own = [crossed(targets[i, p].tolist(), scores[i, p].tolist(), 0.1) for p in range(3) if mask[i, p]]
        means.append(sum(own) / max(len(own), 1))
    found = of_masked_patches(scores[mask], targets[mask], mask, 0.1)
    assert float(found) == pytest.approx(sum(means) / 4)
    weighted = sum(weight * mean for weight, mean in zip(WEIGHTS, means)) / 4
    assert float(of_masked_patches(scores[mask], targets[mask], mask, 0.1, torch.tensor(WEIGHTS))) == pytest.approx(
        weighted
    )


@pytest.mark.parametrize(("views", "local"), [(2, 0), (2, 2), (4, 1)])
def test_contrast_with_a_momentum_encoder(views: int, local: int) -> None:
    """All of a prompt are positives; a global view's own image is in neither sum."""
    crops, labels = views * (1 + local), [0, 1, 0, 2]
    queries, keys = (nn.functional.normalize(normal(n, 4, 6, seed=n), dim=2) for n in (crops, views))
    columns = [(v, i) for v in range(views) for i in range(4)]

    def term(crop: int, i: int) -> float:
        scores = {(v, j): float(queries[crop, i] @ keys[v, j]) / 0.2 for v, j in columns if (v, j) != (crop, i)}
        below = math.log(sum(map(math.exp, scores.values())))
        own = [value - below for (_, j), value in scores.items() if labels[j] == labels[i]]
        return -sum(own) / len(own)

    def total(weights: list[float]) -> float:
        parts = [range(views), range(views, crops)]
        means = [[weights[i] * term(crop, i) for crop in part for i in range(4)] for part in parts if part]
        return sum(sum(mean) / len(mean) for mean in means)

    given = (queries, keys, torch.tensor(labels), 0.2)
    assert float(momentum_sup_con(*given)) == pytest.approx(total([1.0] * 4))
    assert float(momentum_sup_con(*given, torch.tensor(WEIGHTS))) == pytest.approx(total(WEIGHTS))


def test_information_is_none_in_both_collapses() -> None:
    assert float(information(torch.full((5, 8), 1 / 8))) == pytest.approx(0, abs=1e-6)
    assert float(information(torch.eye(8)[[3] * 5])) == pytest.approx(0, abs=1e-6)
    assert float(information(torch.eye(8)[:5])) == pytest.approx(math.log(5))


@pytest.mark.parametrize("kind", ["uniform", "one prototype"])
@pytest.mark.parametrize("name", ["dino", "ibot", "synclr"])
def test_a_collapsed_teacher_is_told(name: str, kind: str, images: Any) -> None:
    encoder = TinyTransformer(16)
    objective: Any = build_objective(name, Setup(encoder=encoder, width=16, seed=0), prototypes=32, centring="centre")
    batch = {"index": torch.arange(12)}

    def line() -> dict[str, float]:
        output = objective.loss(encoder, images(2, 12), batch, 0)
        return {key: float(value) for key, value in output.metrics.items()}

    found = line()
    assert objective.collapsed({**found, "teacher_information": 0.5}) is None
    scores = torch.zeros(32) if kind == "uniform" else 100.0 * torch.eye(32)[7]
    teacher = objective.target.networks[1]
    head = teacher[1] if name == "synclr" else teacher
    head.prototypes.register_forward_hook(lambda module, given, made: torch.zeros_like(made) + scores)
    assert "the teacher's targets have collapsed" in objective.collapsed(line())


def draws(shape: str = "block", probability: float = 1.0, ratio: tuple[float, float] = (0.1, 0.5)) -> MaskDraws:
    return MaskDraws(3, MaskOptions(mask_probability=probability, mask_ratio=ratio, mask_shape=shape))


@pytest.mark.parametrize("shape", ["block", "random"])
def test_masks_depend_on_their_sample_and_not_on_the_batch(shape: str) -> None:
    index = torch.tensor([7, 3, 1_000_003, 0])
    whole = draws(shape).draw(5, index, 2, (7, 7)).view(2, 4, 49)
    for k in range(4):
        alone = draws(shape).draw(5, index[k : k + 1], 2, (7, 7)).view(2, 1, 49)
        assert torch.equal(alone[:, 0], whole[:, k])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(draws(shape).draw(6, index, 2, (7, 7)).view(2, 4, 49), whole)


def test_random_masks_have_exactly_their_part() -> None:
    mask = draws("random", 0.5, (0.5, 0.5)).draw(0, torch.arange(2000), 1, (7, 7))
    counts = Counter(mask.sum(dim=1).tolist())
    assert set(counts) == {0, 24}  # of 49
    assert counts[24] / 2000 == pytest.approx(0.5, abs=0.05)
    assert mask[mask.any(dim=1)].float().mean(dim=0).sub(24 / 49).abs().max() < 0.08


def test_blocks_are_rectangles_up_to_their_part() -> None:
    grid = (14, 14)
    mask = draws("block", 0.5, (0.1, 0.5)).draw(0, torch.arange(600), 1, grid)
    parts = mask.float().mean(dim=1)
    assert float(parts.max()) <= 0.5
    masked = parts[parts > 0]
    assert len(masked) / 600 == pytest.approx(0.5, abs=0.07)
    assert float(masked.mean()) == pytest.approx(0.3, abs=0.03)  # little is left out of .1 to .5
    pictures = mask[parts > 0].view(-1, *grid)
    squares = pictures[:, :-1, :-1] & pictures[:, 1:, :-1] & pictures[:, :-1, 1:] & pictures[:, 1:, 1:]
    chance = float((masked**4).mean())
    assert float(squares.float().mean()) > 4 * chance  # of four neighbours, were patches independent


def test_small_grids_can_be_masked() -> None:
    for grid in [(1, 1), (2, 2), (4, 4), (3, 5)]:
        mask = draws().draw(0, torch.arange(50), 2, grid)
        assert mask.shape == (100, grid[0] * grid[1]) and not mask.all(dim=1).any()


def test_a_moving_average_drops_no_path() -> None:
    from genrep.encoders import build_encoder

    encoder = build_encoder("vit_tiny_patch16_224:depth=2,width=64", "patch", 0, size=32, drop_path=0.9)
    target = Target(encoder, nn.Identity())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(target(images), target(images))
    assert not torch.equal(encoder(images), encoder(images))


def test_prototypes_have_no_gradient_in_the_first_epoch(setup: Callable[..., Setup], images: Any) -> None:
    given = setup(steps_per_epoch=3)
    objective = build_objective("dino", given, prototypes=16)
    for step in range(5):
        objective.zero_grad()
        objective.loss(given.encoder, images(2, 4), {}, step).loss.backward()
        objective.after_backward(given.encoder, step)
        directions = objective.get_parameter("head.prototypes.parametrizations.weight.original1")
        assert (directions.grad is None) == (step < 3)
        assert objective.get_parameter("head.mlp.0.weight").grad is not None


def test_the_teacher_is_measured_and_local_crops_take_part(setup: Callable[..., Setup], images: Any) -> None:
    given = setup(local_views=2)
    objective = build_objective("dino", given, prototypes=16)
    evaluated = objective.evaluated(given.encoder)
    assert evaluated is not given.encoder
    assert torch.equal(evaluated(images(2, 4)), given.encoder(images(2, 4)))
    losses = [
        float(objective.loss(given.encoder, images(2, 4), {LOCAL_CROPS: images(4, 4) * scale}, 0).loss.detach())
        for scale in (1.0, 0.5)
    ]
    assert losses[0] != losses[1]

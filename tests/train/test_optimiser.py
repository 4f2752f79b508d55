"""LARS against its equations, parameter groups against the papers, rates of groups that keep the peak."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genrep.encoders import build_encoder
from genrep.encoders.layers import layers_above
from genrep.train.engine.optimiser import LARS, TRUST, build_optimiser, clip_gradients, half_cosine, set_rate
from genrep.train.objectives import Setup, build_objective


def test_lars_is_the_plain_loop() -> None:
    """You et al. 2017, algorithm 1, for three updates of a matrix and of a vector without adaptation."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)]
    gradients = [[torch.randn(p.shape, generator=generator) for p in start] for _ in range(3)]
    lr, momentum, decay = 0.7, 0.9, 0.01
    wanted = []
    for k, parameter in enumerate(start):
        w, v = parameter.clone(), torch.zeros_like(parameter)
        for gradient in gradients:
            g = gradient[k] + (decay if k == 0 else 0.0) * w
            ratio = TRUST * w.norm() / g.norm() if k == 0 else 1.0
            v = momentum * v + ratio * g
            w = w - lr * v
        wanted.append(w)
    parameters = [nn.Parameter(p.clone()) for p in start]
    groups = [
        {"params": parameters[:1], "weight_decay": decay, "adapt": True},
        {"params": parameters[1:], "weight_decay": 0.0, "adapt": False},
    ]
    optimiser = LARS(groups, lr=lr, momentum=momentum)
    for gradient in gradients:
        for parameter, values in zip(parameters, gradient):
            parameter.grad = values.clone()
        optimiser.step()
    for parameter, values in zip(parameters, wanted):
        assert torch.allclose(parameter, values, rtol=1e-5, atol=1e-7)


def test_lars_takes_the_plain_rate_where_a_norm_is_zero() -> None:
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([zero, still], lr=0.5, momentum=0.0).step()
    assert zero.tolist() == [[-0.5, -0.5]] * 2 and still.tolist() == [[1.0, 1.0]] * 2


def groups_of(name: str, objective: str = "simsiam") -> list[dict[str, object]]:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8))
    built = build_objective(objective, Setup(encoder=encoder, width=8, seed=0))
    optimiser = build_optimiser(name, encoder, built, lr=0.1, weight_decay=0.5, momentum=0.9)
    set_rate(optimiser, 0.025, 0.1)
    return optimiser.param_groups


def test_sgd_decays_everything_and_the_predictor_keeps_its_rate() -> None:
    found = groups_of("sgd")
    assert {(group["weight_decay"], group["lr"]) for group in found} == {(0.5, 0.025), (0.5, 0.1)}


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_vectors_are_left_without_decay(name: str) -> None:
    for group in groups_of(name):
        dimensions = {p.ndim for p in group["params"]}  # type: ignore[attr-defined]
        assert dimensions == ({1} if group["weight_decay"] == 0 else {2})
        if name == "lars":
            assert group["adapt"] == (dimensions == {2})


def test_rates_fall_with_the_layers_below_as_mae_has_them() -> None:
    """``util/lr_decay.py`` of MAE, by hand: the embedding is layer 0, block i is i + 1, the last norm is the highest."""
    encoder = build_encoder(
        "vit_tiny_patch16_224:width=16,depth=3,heads=2", "imagenet", 0, size=16, model={"patch_size": 8}
    )
    wanted = {
        "patch_embed.proj.weight": 4,
        "cls_token": 4,
        "pos_embed": 4,
        "blocks.0.mlp.fc1.bias": 3,
        "blocks.2.norm1.weight": 1,
    }
    found = layers_above(encoder)
    assert {name: found[name] for name in wanted} == wanted and found["norm.weight"] == 0
    built = build_objective("simclr", Setup(encoder=encoder, width=16, seed=0))
    optimiser = build_optimiser(
        "adamw", encoder, built, lr=0.1, weight_decay=0.5, momentum=0.9, beta2=0.98, layer_decay=0.65
    )
    set_rate(optimiser, 0.02, 0.1)
    rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in encoder.named_parameters():
        assert rate[id(parameter)] == pytest.approx(0.02 * 0.65 ** found[name]), name
    assert {rate[id(parameter)] for parameter in built.parameters()} == {0.02}
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.98)}


def test_weight_decay_moves_only_where_there_is_some() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8))
    built = build_objective("simclr", Setup(encoder=encoder, width=8, seed=0))
    optimiser = build_optimiser("adamw", encoder, built, lr=0.1, weight_decay=0.04, momentum=0.9)
    set_rate(optimiser, 0.02, 0.1, half_cosine(0.04, 0.4, 3 / 4))
    assert sorted({group["weight_decay"] for group in optimiser.param_groups}) == [0, pytest.approx(0.34727922)]


@pytest.mark.parametrize("each", [True, False])
def test_gradients_are_shortened_together_or_each_by_itself(each: bool) -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    gradients = [torch.tensor([3.0, 0.0, 4.0]), torch.full((2, 2), 0.05)]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.clone()
    clip_gradients(parameters, 0.5, each=each)
    norm = sum(float(g.square().sum()) for g in gradients) ** 0.5
    for parameter, gradient in zip(parameters, gradients):
        factor = min(1.0, 0.5 / (float(gradient.norm()) + 1e-6)) if each else 0.5 / (norm + 1e-6)
        torch.testing.assert_close(parameter.grad, gradient * factor)
    assert parameters[2].grad is None

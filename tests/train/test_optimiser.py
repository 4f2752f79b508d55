"""LARS against its equations, parameter groups against the papers, rates of groups that keep the peak."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genrep.train.engine.optimiser import LARS, TRUST, build_optimiser, set_rate
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

"""LeJEPA against outputs of its authors' own code (tests/goldens/losses), and against plain loops from the equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genrep.train.objectives import Setup, build_objective
from genrep.train.objectives.base import LOCAL_CROPS
from genrep.train.objectives.lejepa import epps_pulley, sigreg, to_centres

GOLDENS = Path(__file__).parents[2] / "goldens/losses"


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(GOLDENS / f"{name}.pt", weights_only=True)
    return found


def close(found: Tensor | None, wanted: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.detach(), wanted, atol=1e-5 * max(1.0, float(wanted.abs().max())), rtol=1e-5)


@pytest.mark.parametrize("case", ["n64_k5", "batched_n30"])
def test_the_statistic_is_the_authors(case: str) -> None:
    found = golden(f"lejepa_epps_pulley/{case}")
    x = found["in/x"].clone().requires_grad_()
    statistic = epps_pulley(x)
    close(statistic, found["out/statistic"])
    statistic.sum().backward()
    close(x.grad, found["grad/x_of_sum"])


def test_the_statistic_of_slices_is_the_authors() -> None:
    found = golden("lejepa_sigreg/mean_3steps")
    for step in range(3):
        x = found[f"in/x_{step}"].clone().requires_grad_()
        value = sigreg(x, found[f"in/directions_{step}"])
        close(value, found[f"out/statistic_{step}"])
        value.backward()
        close(x.grad, found[f"grad/x_{step}"])


@pytest.mark.parametrize(("case", "weight"), [("minimal_v4", 0.02), ("minimal_v2", 0.05)])
def test_the_whole_loss_is_the_authors(case: str, weight: float) -> None:
    found = golden(f"lejepa_sigreg/{case}")
    rows = found["in/proj"].clone().requires_grad_()
    together, normal = to_centres(rows, len(rows)), sigreg(rows, found["in/directions_unnormalised"])
    close(together, found["loss/invariance"])
    close(normal, found["loss/sigreg"])
    value = (1 - weight) * together + weight * normal
    close(value, found["loss/lejepa"])
    value.backward()
    close(rows.grad, found["grad/proj"])


def test_the_statistic_is_the_integral() -> None:
    """N ∫ |φ_N(t) - exp(-t²/2)|² exp(-t²/2) dt over -3 to 3, by the trapezoidal rule of a plain loop."""
    values = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()

    def integrand(t: float) -> float:
        real = sum(math.cos(t * x) for x in values) / 9 - math.exp(-t * t / 2)
        imaginary = sum(math.sin(t * x) for x in values) / 9
        return (real**2 + imaginary**2) * math.exp(-t * t / 2)

    step = 3 / 16
    knots = [k * step for k in range(-16, 17)]
    total = sum(integrand(t) * step for t in knots) - (integrand(-3) + integrand(3)) * step / 2
    found = epps_pulley(torch.tensor(values, dtype=torch.float64)[:, None])
    assert float(found) == pytest.approx(9 * total)


def test_crops_are_drawn_to_the_mean_of_global_views() -> None:
    rows = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = [0.5, 2.5, 0.0]
    means = []
    for i in range(3):
        centre = [sum(float(rows[v, i, d]) for v in range(2)) / 2 for d in range(4)]
        own = [(float(rows[c, i, d]) - centre[d]) ** 2 for c in range(5) for d in range(4)]
        means.append(sum(own) / len(own))
    assert float(to_centres(rows, 2)) == pytest.approx(sum(means) / 3)
    weighted = sum(weight * mean for weight, mean in zip(weights, means)) / 3
    assert float(to_centres(rows, 2, torch.tensor(weights))) == pytest.approx(weighted)


def test_directions_change_with_the_step_and_local_crops_take_part(setup: Callable[..., Setup], images: Any) -> None:
    given = setup(local_views=1)
    objective: Any = build_objective("lejepa", given, projector_width=12, projector_dim=8, slices=7)
    assert torch.equal(objective.directions(3, 8), objective.directions(3, 8))
    assert not torch.equal(objective.directions(3, 8), objective.directions(4, 8))
    losses = {
        float(objective.loss(given.encoder, images(2, 4), {LOCAL_CROPS: images(2, 4) * scale}, step).loss.detach())
        for scale in (1.0, 0.5)
        for step in (0, 1)
    }
    assert len(losses) == 4


def test_a_normal_law_has_the_least_statistic() -> None:
    generator = torch.Generator().manual_seed(2)
    normal = torch.randn(4000, 8, generator=generator)
    directions = torch.randn(8, 16, generator=generator)
    least = float(sigreg(normal, directions))
    for other in (torch.zeros_like(normal), 2 * normal, normal + 1, normal * torch.tensor([1.0] * 4 + [0.0] * 4)):
        assert float(sigreg(other, directions)) > 20 * least

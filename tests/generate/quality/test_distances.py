"""Distances of features: known values, plain loops, and which argument is real."""

import pytest
import torch

from genrep.generate.quality.distances import compare, density_and_coverage, frechet_distance, inside_fraction


def test_the_frechet_distance_of_known_gaussians():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    b = a * torch.tensor([2.0, 1.0], dtype=torch.float64) + torch.tensor([3.0, 0.0], dtype=torch.float64)
    # |mu|^2 = 9; tr(C + C' - 2 sqrt(C C')) = (1 + 4 - 2 * 2) + 0 = 1
    assert frechet_distance(a, b) == pytest.approx(10.0, abs=0.05)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)


@pytest.fixture
def modes():
    """Two modes of real points, and points that are all in one of them."""
    generator = torch.Generator().manual_seed(0)
    real = torch.cat([torch.randn(300, 2, generator=generator), torch.randn(300, 2, generator=generator) + 50])
    return real.double(), (torch.randn(600, 2, generator=generator) * 0.5).double()


def test_precision_and_recall_tell_which_argument_is_real(modes):
    real, collapsed = modes
    result = compare(real, collapsed)
    assert result["precision"] > 0.9
    assert result["recall"] < 0.55
    assert inside_fraction(real, real) == 1.0


def test_density_and_coverage_are_those_of_plain_loops():
    """Naeem et al. 2020, equations 3 and 4."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(40, 3, generator=generator).double()
    fake = torch.randn(1100, 3, generator=generator).double()[1070:]  # 30 of them
    for k in (1, 5):
        radii = []
        for i in range(40):
            others = sorted(float((real[i] - real[j]).norm()) for j in range(40) if j != i)
            radii.append(others[k - 1])
        density, covered = 0, 0
        for i in range(40):
            inside = [float((fake[j] - real[i]).norm()) < radii[i] for j in range(30)]
            density += sum(inside)
            covered += any(inside)
        found = density_and_coverage(real, fake, k)
        assert found == pytest.approx((density / (k * 30), covered / 40), abs=1e-12)


def test_density_and_coverage_of_more_points_than_a_chunk():
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 2, generator=generator).double() for n in (1200, 2100))
    radii = torch.cdist(real, real).sort(dim=1).values[:, 5]
    inside = torch.cdist(fake, real) < radii
    expected = float(inside.sum()) / (5 * 2100), float(inside.any(dim=0).double().mean())
    assert density_and_coverage(real, fake) == pytest.approx(expected)


def test_a_lost_mode_costs_coverage_and_an_outlier_no_density(modes):
    real, collapsed = modes
    result = compare(real, collapsed)
    assert result["coverage"] < 0.55 and result["density"] > 0.9
    # One real outlier makes its ball of precision vast; a point there raises precision by far more than density.
    outlier = torch.full((1, 2), 1e3, dtype=torch.float64)
    far = torch.full((100, 2), 500.0, dtype=torch.float64)
    with_outlier = compare(torch.cat([real, outlier]), far)
    assert with_outlier["precision"] == 1.0 and with_outlier["density"] == pytest.approx(0.2)

"""Distances of features: known values, those of prdc, clean-fid and vendi-score, plain loops, and which argument is real."""

import numpy as np
import pytest
import torch

import genrep.distances
from genrep.distances import (
    compare,
    density_and_coverage,
    frechet_distance,
    inside_fraction,
    moments,
    nearest,
    vendi_score,
)

# prdc 0.2 by k, clean-fid 0.1.35's frechet_distance and vendi-score 0.0.3 on the features of ``seeded``.
PRDC = {
    3: {"precision": 0.94, "recall": 0.3433333333333333, "density": 2.0283333333333333, "coverage": 0.7633333333333333},
    5: {"precision": 0.975, "recall": 0.45, "density": 1.961, "coverage": 0.8966666666666666},
}
CLEAN_FID = 2.759896120695096
VENDI = {"real": 15.668016513674408, "fake": 14.45054443039068}


@pytest.fixture(params=["one block", "many blocks"])
def seeded(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(genrep.distances, "ROWS", 37)
        monkeypatch.setattr(genrep.distances, "COLUMNS", 64)
    draw = np.random.RandomState(0)
    real, fake = draw.standard_normal((300, 16)), draw.standard_normal((200, 16)) * 0.8 + 0.3
    return torch.from_numpy(real), torch.from_numpy(fake)


@pytest.mark.parametrize("k", PRDC)
def test_the_four_of_neighbourhoods_are_those_of_prdc(seeded, k):
    real, fake = seeded
    density, coverage = density_and_coverage(real, fake, k)
    found = {"precision": inside_fraction(real, fake, k), "recall": inside_fraction(fake, real, k)}
    assert {**found, "density": density, "coverage": coverage} == pytest.approx(PRDC[k], abs=1e-12)


def test_the_frechet_distance_is_that_of_clean_fid_and_the_vendi_score_that_of_vendi_score(seeded):
    real, fake = seeded
    assert frechet_distance(real, fake) == pytest.approx(CLEAN_FID, rel=1e-9)
    assert {"real": vendi_score(real), "fake": vendi_score(fake)} == pytest.approx(VENDI, rel=1e-9)


def test_moments_far_from_zero_lose_nothing(seeded):
    far = seeded[0] + 1e6
    mean, covariance = moments(far)
    np.testing.assert_allclose(mean, far.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(far.numpy(), rowvar=False), atol=1e-8)


def test_the_nearest_rows_are_those_of_a_full_sort(seeded):
    real, fake = seeded
    distances, rows = nearest(fake, real, 4)
    wanted = torch.cdist(fake, real).sort(dim=1)
    torch.testing.assert_close(distances, wanted.values[:, :4])
    assert torch.equal(rows, wanted.indices[:, :4])
    own = torch.cdist(real, real).fill_diagonal_(torch.inf).min(dim=1)
    found, at = nearest(real, real, same=True)
    torch.testing.assert_close(found[:, 0], own.values)
    assert torch.equal(at[:, 0], own.indices)
    with pytest.raises(ValueError, match="301 neighbours: wanted at most 300"):
        nearest(fake, real, 301)
    with pytest.raises(ValueError, match="300 neighbours: wanted at most 299"):
        nearest(real, real, 300, same=True)


def test_the_vendi_score_counts_directions():
    assert vendi_score(torch.tensor([[1.0, 0.0], [3.0, 0.0]])) == pytest.approx(1.0)
    assert vendi_score(torch.tensor([[1.0, 0.0], [0.0, 3.0]])) == pytest.approx(2.0)


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

"""Distances of two sets of features.

Fréchet distance (Heusel et al. 2017), improved precision and recall (Kynkäänniemi et al. 2019, k = 3), density and coverage
(Naeem et al. 2020, k = 5). The last two count neighbourhoods of real images only, which outliers among generated ones cannot
widen.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 3  # of precision and recall
DENSITY_NEIGHBOURS = 5  # of density and coverage


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance of Gaussians fitted to two sets of features. Shapes: ``(N, D), (M, D)``."""
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    # tr sqrt(A B) through the symmetric sqrt(A) B sqrt(A), whose eigenvalues are those of A B.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    trace = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float(difference.square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace)


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th neighbour among the others. Shape: ``(N, D) -> (N,)``."""
    chunks = [torch.cdist(chunk, points).kthvalue(k + 1, dim=1).values for chunk in points.split(1000)]
    return torch.cat(chunks)


def inside_fraction(manifold: Tensor, points: Tensor) -> float:
    """Fraction of ``points`` inside some neighbourhood ball of ``manifold``. Shapes: ``(N, D), (M, D)``."""
    radii = _radii(manifold, NEIGHBOURS)
    inside = [(torch.cdist(chunk, manifold) <= radii).any(dim=1) for chunk in points.split(1000)]
    return float(torch.cat(inside).double().mean())


def density_and_coverage(real: Tensor, other: Tensor, k: int = DENSITY_NEIGHBOURS) -> tuple[float, float]:
    """In how many balls of ``real`` a point of ``other`` lies, over k; and the fraction of the balls that hold such a point.

    A ball reaches from a real point to its k-th neighbour among the real ones. Shapes: ``(N, D), (M, D)``; N > k.
    """
    radii = _radii(real, k)
    count, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for chunk in other.split(1000):
        inside = torch.cdist(chunk, real) < radii
        count += int(inside.sum())
        covered |= inside.any(dim=0)
    return count / (k * len(other)), float(covered.double().mean())


def compare(real: Tensor, other: Tensor) -> dict[str, float]:
    """All five; precision is of ``other`` inside real's manifold, recall of real inside ``other``'s."""
    density, coverage = density_and_coverage(real, other)
    return {
        "frechet": frechet_distance(real, other),
        "precision": inside_fraction(real, other),
        "recall": inside_fraction(other, real),
        "density": density,
        "coverage": coverage,
    }

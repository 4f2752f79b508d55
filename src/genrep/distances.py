"""Distances of two sets of features, and the spread of one.

Fréchet distance (Heusel et al. 2017), improved precision and recall (Kynkäänniemi et al. 2019, k = 3), density and coverage
(Naeem et al. 2020, k = 5), Vendi score (Friedman and Dieng 2023, of cosine similarities). Density and coverage count
neighbourhoods of real images only, which outliers among generated ones cannot widen.

Everything is computed in float64, block by block: beside the features themselves, memory does not grow with the square of their
number. Features may be memory-mapped.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 3  # of precision and recall
DENSITY_NEIGHBOURS = 5  # of density and coverage
ROWS, COLUMNS = 1024, 8192  # of a block: 64 MB of distances


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance, in two passes. Shape: ``(N, D) -> (D,), (D, D)`` float64; N > 1."""
    mean = sum((part.double().sum(0) for part in features.split(COLUMNS)), torch.zeros((), dtype=torch.float64))
    mean = mean / len(features)
    products = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in features.split(COLUMNS):
        centred = part.double() - mean
        products += centred.T @ centred
    return mean, products / (len(features) - 1)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance of Gaussians fitted to two sets of features. Shapes: ``(N, D), (M, D)``."""
    mean_a, cov_a = moments(a)
    mean_b, cov_b = moments(b)
    # tr sqrt(A B) through the symmetric sqrt(A) B sqrt(A), whose eigenvalues are those of A B.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    trace = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace)


def vendi_score(features: Tensor) -> float:
    """The effective number of different images among them: 1 if all are alike, at most D.

    It is the exponential of the entropy of the eigenvalues of the cosine similarities over N. These are those of a matrix of D
    rows. A feature of length 0 counts as similar to none. Shape: ``(N, D)``.
    """
    products = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in features.split(COLUMNS):
        unit = torch.nn.functional.normalize(part.double(), dim=1, eps=torch.finfo(torch.float64).tiny)
        products += unit.T @ unit
    values = torch.linalg.eigvalsh(products / len(features)).clamp_min(0)
    return float((-torch.special.xlogy(values, values).sum()).exp())


def nearest(queries: Tensor, keys: Tensor, k: int = 1, *, same: bool = False) -> tuple[Tensor, Tensor]:
    """Euclidean distances in rising order to the ``k`` nearest rows of ``keys``, and these rows; exact.

    Shapes: ``(N, D), (M, D) -> (N, k)`` float64 and int64.

    Args:
        same: the two are one set, and a row is no neighbour of its own.

    Raises:
        ValueError: there are fewer than ``k`` neighbours.
    """
    if k > len(keys) - same:
        raise ValueError(f"{k} neighbours: wanted at most {len(keys) - same}")
    distances, rows = [], []
    for start in range(0, len(queries), ROWS):
        part = queries[start : start + ROWS].double()
        best, found = part.new_empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.int64)
        for first in range(0, len(keys), COLUMNS):
            block = torch.cdist(part, keys[first : first + COLUMNS].double())
            if same:
                _hide_diagonal(block, start - first)
            near, at = block.topk(min(k, block.shape[1]), dim=1, largest=False)
            best, found = torch.cat([best, near], dim=1), torch.cat([found, at + first], dim=1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            found = found.gather(1, order)
        distances.append(best)
        rows.append(found)
    return torch.cat(distances), torch.cat(rows)


def _hide_diagonal(block: Tensor, shift: int) -> None:
    """Put the distances of row i to column i + shift out of reach."""
    rows = torch.arange(len(block))
    columns = rows + shift
    inside = (columns >= 0) & (columns < block.shape[1])
    block[rows[inside], columns[inside]] = torch.inf


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th neighbour among the others. Shape: ``(N, D) -> (N,)``."""
    return nearest(points, points, k, same=True)[0][:, -1]


def inside_fraction(manifold: Tensor, points: Tensor, k: int = NEIGHBOURS) -> float:
    """Fraction of ``points`` inside some neighbourhood ball of ``manifold``. Shapes: ``(N, D), (M, D)``; N > k."""
    radii = _radii(manifold, k)
    count = 0
    for part in points.split(ROWS):
        inside = torch.zeros(len(part), dtype=torch.bool)
        for first in range(0, len(manifold), COLUMNS):
            block = torch.cdist(part.double(), manifold[first : first + COLUMNS].double())
            inside |= (block <= radii[first : first + COLUMNS]).any(dim=1)
        count += int(inside.sum())
    return count / len(points)


def density_and_coverage(real: Tensor, other: Tensor, k: int = DENSITY_NEIGHBOURS) -> tuple[float, float]:
    """In how many balls of ``real`` a point of ``other`` lies, over k; and the fraction of the balls that hold such a point.

    A ball reaches from a real point to its k-th neighbour among the real ones. Shapes: ``(N, D), (M, D)``; N > k.
    """
    radii = _radii(real, k)
    count, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for part in other.split(ROWS):
        for first in range(0, len(real), COLUMNS):
            inside = torch.cdist(part.double(), real[first : first + COLUMNS].double()) < radii[first : first + COLUMNS]
            count += int(inside.sum())
            covered[first : first + COLUMNS] |= inside.any(dim=0)
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

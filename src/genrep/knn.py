"""Weighted k-nearest neighbours on features: a signal of a representation that needs no training.

Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4, eq. 8: the
k most similar training images vote for their classes, each with weight exp(cosine similarity / temperature).

DINOv2's rule (Oquab et al. 2023, dinov2/eval/knn.py), which is DINOv3's too: the weights are a softmax over the neighbours of
the largest k, taken once, and each k adds up its nearest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders import KNN_NEIGHBOURS, KNN_TEMPERATURE
from .errors import WeightsError

QUERIES = 256  # test images at a time; the last chunk is filled up, since other shapes may add up in another order
KEYS = 65_536  # training images at a time: a chunk's similarities take 64 MB
TOP5_CLASSES = 6  # with fewer, five guesses say nothing


@dataclass(frozen=True, kw_only=True)
class KnnScore:
    """In percent of the test images."""

    top1: float
    top5: float | None  # None: fewer than six classes; a class that no neighbour has is never among the five


def knn_top1(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    num_classes: int,
    k: int = KNN_NEIGHBOURS,
    temperature: float = KNN_TEMPERATURE,
) -> float:
    """Top-1 accuracy in percent (see ``knn_score``)."""
    return knn_score(
        train_features,
        train_labels,
        test_features,
        test_labels,
        num_classes=num_classes,
        k=k,
        temperature=temperature,
    ).top1


def knn_score(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    num_classes: int,
    k: int = KNN_NEIGHBOURS,
    temperature: float = KNN_TEMPERATURE,
) -> KnnScore:
    """Accuracy of the weighted vote of the ``k`` nearest training images.

    Features need not have unit length. The work is done where the training features are; the test images may be elsewhere.
    Among equal similarities the earlier training image is nearer, among equal votes the lower class wins.

    Shape: ``(N, D)``, ``(N,)`` with values in [0, num_classes), ``(M, D)``, ``(M,)``.

    Raises:
        ValueError: ``k`` is above N, there are no test images, or a setting is out of its range.
        WeightsError: features that are not finite.
    """
    ranked, voted = knn_classes(
        train_features, train_labels, test_features, num_classes=num_classes, k=k, temperature=temperature
    )
    return _score((ranked == test_labels.to(ranked.device)[:, None]) & voted, num_classes)


@torch.no_grad()
def knn_classes(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    num_classes: int,
    k: int = KNN_NEIGHBOURS,
    temperature: float = KNN_TEMPERATURE,
) -> tuple[Tensor, Tensor]:
    """The classes with the most votes (at most five), and whether any neighbour voted for them.

    Shape: ``(N, D)``, ``(N,)``, ``(M, D)`` -> ``(M, min(5, num_classes))`` int64 and bool.
    """
    ranked, voted = [], []
    for similarity, classes in _neighbours(train_features, train_labels, test_features, k, temperature):
        best, found = _ranked(_votes(similarity, classes, num_classes, temperature))
        ranked.append(best)
        voted.append(found)
    return torch.cat(ranked), torch.cat(voted)


def knn_scores(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    num_classes: int,
    ks: Sequence[int],
    temperature: float = KNN_TEMPERATURE,
) -> dict[int, KnnScore]:
    """Accuracies by DINOv2's rule for several numbers of neighbours, which are found once (see ``knn_class_scores``).

    Shape and exceptions: as ``knn_score``.
    """
    right: dict[int, list[Tensor]] = {k: [] for k in ks}
    start = 0
    for chunk in knn_class_scores(
        train_features, train_labels, test_features, num_classes=num_classes, ks=ks, temperature=temperature
    ):
        for k, scores in chunk.items():
            ranked, voted = _ranked(scores)
            wanted = test_labels[start : start + len(scores)].to(ranked.device)
            right[k].append((ranked == wanted[:, None]) & voted)
        start += len(scores)
    return {k: _score(torch.cat(found), num_classes) for k, found in right.items()}


@torch.no_grad()
def knn_class_scores(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    *,
    num_classes: int,
    ks: Sequence[int],
    temperature: float = KNN_TEMPERATURE,
) -> Iterator[dict[int, Tensor]]:
    """Each class's score by DINOv2's rule for every k, a chunk of test images at a time.

    Those of the largest k add up to 1, those of a smaller one to less.

    Shape: of each, ``(<= QUERIES, num_classes)`` float64.
    """
    for similarity, classes in _neighbours(train_features, train_labels, test_features, max(ks), temperature):
        weights = (similarity.double() / temperature).softmax(dim=1)
        scores = weights.new_zeros(len(weights), num_classes)
        found = {}
        first = 0
        for k in sorted(ks):
            _count(scores, weights[:, first:k], classes[:, first:k])
            found[k], first = scores.clone(), k
        yield {k: found[k] for k in ks}


def _neighbours(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, k: int, temperature: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Similarities in falling order and classes of the k nearest training images, a chunk of test images at a time."""
    if not 0 < k <= len(train_features):
        raise ValueError(f"k {k}: wanted 1 to {len(train_features)}, the number of training images")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature {temperature}: wanted a positive number")
    if len(test_features) == 0:
        raise ValueError("no test images: wanted at least one")
    device = train_features.device
    keys, labels = _unit(train_features), train_labels.to(device)
    for start in range(0, len(test_features), QUERIES):
        queries = _unit(test_features[start : start + QUERIES].to(device))
        count = len(queries)
        nearest, rows = _nearest(F.pad(queries, (0, 0, 0, QUERIES - count)), keys, k)
        yield nearest[:count], labels[rows[:count]]


def _ranked(votes: Tensor) -> tuple[Tensor, Tensor]:
    """The at most five classes with the most votes, of equal ones the lower first, and whether they have any."""
    best, classes = votes.sort(dim=1, descending=True, stable=True)
    return classes[:, :5], best[:, :5] > 0


def _score(right: Tensor, num_classes: int) -> KnnScore:
    """Of which guesses are right. Shape: ``(M, <= 5)`` bool."""
    top1 = right[:, 0].double().mean()
    top5 = right.any(dim=1).double().mean() if num_classes >= TOP5_CLASSES else None
    return KnnScore(
        top1=round(100 * float(top1), 6),
        top5=None if top5 is None else round(100 * float(top5), 6),
    )


def _unit(features: Tensor) -> Tensor:
    unit = F.normalize(features.float(), dim=1)
    if not bool(unit.isfinite().all()):
        raise WeightsError("features are not finite: the encoder has diverged")
    return unit


def _nearest(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest similarities in falling order, and their rows. Shape: ``(Q, D), (N, D) -> (Q, k), (Q, k)``."""
    best = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(keys), KEYS):
        best = torch.cat([best, best_of_block(queries @ keys[start : start + KEYS].T, start, k)], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return _similarity(best), rows_of(best)


def best_of_block(similarity: Tensor, start: int, k: int) -> Tensor:
    """The k best of a block of training rows that begins at row ``start``: integers that sort as (similarity, earlier row).

    Those of several blocks together have the best of all as their largest.

    Shape: ``(Q, n) -> (Q, min(k, n))`` int64.
    """
    count = similarity.shape[1]
    values, rows = similarity.topk(min(k + 1, count), dim=1)
    best = _ordered(values[:, :k], start + rows[:, :k])
    tied = (values[:, k - 1 : -1] == values[:, k:]).any(dim=1)  # topk then took any of the equal ones
    if bool(tied.any()):
        rows = torch.arange(start, start + count, device=similarity.device)
        best[tied] = _ordered(similarity[tied], rows).topk(k, dim=1).values
    return best


def rows_of(best: Tensor) -> Tensor:
    """The rows that integers of ``best_of_block`` mean. Shape: any."""
    return 0xFFFFFFFF - (best & 0xFFFFFFFF)


def _ordered(similarity: Tensor, rows: Tensor) -> Tensor:
    """Integers that sort as (similarity, earlier row): no two are equal.

    A float's bits sort as its magnitude; those of negative ones are turned round.
    """
    bits = (similarity + 0.0).contiguous().view(torch.int32)  # -0 becomes 0
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (bits.to(torch.int64) << 32) + (0xFFFFFFFF - rows)


def _similarity(ordered: Tensor) -> Tensor:
    bits = (ordered >> 32).to(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).view(torch.float32)


def _votes(similarity: Tensor, classes: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Each class's sum of weights, relative to the nearest neighbour's. Shape: ``(Q, k), (Q, k) -> (Q, C)`` float64."""
    similarity = similarity.double()
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(weights), num_classes)
    _count(votes, weights, classes)
    return votes


def _count(votes: Tensor, weights: Tensor, classes: Tensor) -> None:
    """Add the neighbours' weights to ``votes``.

    One neighbour of every query after the other: a scatter on a GPU would add in no fixed order.
    """
    rows = torch.arange(len(weights), device=weights.device)
    for j in range(weights.shape[1]):
        votes[rows, classes[:, j]] += weights[:, j]

"""How good classifiers of fixed features are: the accuracies of several at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genrep.errors import Phrase, TrainingError

TOP5_CLASSES = 6  # with fewer, five guesses are all or all but none
TEST_BATCH = 8192
MOST_LOGITS = 1 << 26  # of all heads, held at a time


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features with labels. Shape: ``(N, D)`` float32, ``(N,)`` int64."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Features:
        """The features on the device if they fit in half of its free memory; else unchanged."""
        if device.type == "cuda" and self.features.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        return Features(features=self.features.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Score:
    """The scores of one classifier, in percent."""

    top1: float
    top5: float | None  # None: fewer than six classes
    mean_per_class: float  # the mean of the classes' top-1

    def value(self, metric: str) -> float:
        """The one that the protocol reports."""
        return self.mean_per_class if metric == "mean per class" else self.top1


class Tally:
    """Counts right answers batch by batch.

    >>> tally = Tally(classes=2, heads=1)
    >>> tally.add(torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]]), torch.tensor([1, 0]))
    >>> tally.scores()[0].top1
    50.0
    """

    def __init__(self, classes: int, heads: int) -> None:
        self.classes, self.heads = classes, heads
        self._right = torch.zeros(heads, classes, dtype=torch.int64)
        self._right5 = torch.zeros(heads, dtype=torch.int64)
        self._counts = torch.zeros(classes, dtype=torch.int64)
        self._finite = torch.ones(heads, dtype=torch.bool)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Shape: ``(B, heads, classes)``, ``(B,)`` on one device."""
        if self._counts.device != labels.device:
            moved = (t.to(labels.device) for t in (self._right, self._right5, self._counts, self._finite))
            self._right, self._right5, self._counts, self._finite = moved
        self._finite &= logits.isfinite().all(dim=2).all(dim=0)
        self._counts += torch.bincount(labels, minlength=self.classes)
        right = logits.argmax(dim=2) == labels[:, None]
        self._right.index_add_(1, labels, right.T.to(torch.int64))
        if self.classes >= TOP5_CLASSES:
            best = logits.topk(5, dim=2).indices == labels[:, None, None]
            self._right5 += best.any(dim=2).sum(dim=0)

    def scores(self, advice: Sequence[Phrase] = (), *, lenient: bool = False) -> list[Score]:
        """The scores of each classifier. Classes without an image do not count.

        Args:
            lenient: a classifier whose outputs are not finite has none right, in place of an error.

        Raises:
            TrainingError: the outputs of a classifier are not finite, so its predictions are meaningless. Says the way out.
        """
        for g, finite in enumerate(self._finite.tolist()):
            if not finite and lenient:
                self._right[g] = self._right5[g] = 0
            elif not finite:
                text = "; ".join(["the classifier's outputs are not finite", *("{}" for _ in advice[g : g + 1])])
                raise TrainingError.naming(text, *advice[g : g + 1])
        there = self._counts > 0
        total = int(self._counts.sum())
        per_class = (self._right[:, there].double() / self._counts[there]).mean(dim=1).tolist()
        top1, top5 = self._right.sum(dim=1).tolist(), self._right5.tolist()
        return [
            Score(
                top1=round(100 * top1[g] / total, 6),
                top5=round(100 * top5[g] / total, 6) if self.classes >= TOP5_CLASSES else None,
                mean_per_class=round(100 * per_class[g], 6),
            )
            for g in range(self.heads)
        ]


def evaluate_heads(
    logits: Callable[[Tensor], Tensor],
    test: Features,
    heads: int,
    classes: int,
    device: torch.device,
    advice: Sequence[Phrase] = (),
    *,
    lenient: bool = False,
) -> list[Score]:
    """Scores of classifiers whose logits have the shape ``(B, heads, classes)``; the rest as of ``Tally.scores``."""
    tally = Tally(classes, heads)
    batch = max(1, min(TEST_BATCH, MOST_LOGITS // (heads * classes)))
    for features, labels in zip(test.features.split(batch), test.labels.split(batch)):
        tally.add(logits(features.to(device)), labels.to(device))
    return tally.scores(advice, lenient=lenient)

"""Which class every pixel is and was taken for: an exact matrix of counts, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.errors import DataError

from .layout import VOID, Mask


class Confusion:
    """Counts of pixels by true class (rows) and predicted class (columns). The last column is for pixels called void.

    Images are added one at a time, so that the memory does not grow with their number. Pixels that are truly void do not count.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes + 1), dtype=np.int64)

    def add(self, truth: Mask, predicted: Mask) -> None:
        """Count the pixels of an image. Shape: any, the same of both."""
        rows, columns = self.counts.shape
        counted = truth != VOID
        places = truth[counted].astype(np.int64) * columns + np.minimum(predicted[counted], rows)
        self.counts += np.bincount(places, minlength=rows * columns).reshape(rows, columns)

    @property
    def unions(self) -> NDArray[np.int64]:
        """Pixels that are of a class, or were taken for it. Shape: ``(classes,)``."""
        hits, size = np.diag(self.counts), len(self.counts)
        found: NDArray[np.int64] = self.counts.sum(axis=1) + self.counts[:, :size].sum(axis=0) - hits
        return found

    def mean_iou(self, *, void_counts: bool = False) -> float:
        """Mean intersection over union in percent, over the classes that are there or were predicted.

        Args:
            void_counts: void is one more class, of IoU 0, if any pixel was called void (CAPI's code).

        Raises:
            DataError: no pixel has a class.
        """
        unions = self.unions
        there = unions > 0
        if not there.any():
            raise DataError("the test masks are void everywhere; wanted pixels of a class")
        extra = int(void_counts and bool(self.counts[:, -1].any()))
        ratios = np.diag(self.counts)[there] / unions[there]
        return round(100 * float(ratios.sum()) / (int(there.sum()) + extra), 6)

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Everything that an entry tells, in percent. A class that neither is there nor was predicted has no IoU."""
        hits, totals, unions = np.diag(self.counts), self.counts.sum(axis=1), self.unions
        mean = self.mean_iou()
        recalls = hits[totals > 0] / totals[totals > 0]
        return {
            "mIoU": mean,
            "pixel_accuracy": round(100 * float(hits.sum() / totals.sum()), 6) if totals.sum() else None,
            "mean_class_accuracy": round(100 * float(recalls.mean()), 6) if len(recalls) else None,
            "IoU_per_class": {
                name: round(100 * float(hit / union), 4)
                for name, hit, union in zip(names, hits.tolist(), unions.tolist())
                if union
            },
        }

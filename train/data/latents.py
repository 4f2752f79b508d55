"""Latents that a dataset does not store, made again from its recipe for the pairs of a batch.

They are made by the threads that read ahead, so that a training waits for them as little as for images.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from genrep.datasets_manifest import Manifest
from genrep.datasets_manifest.recomputed import BATCH_VALUES, Recomputed
from genrep.errors import DatasetError

from .fields import Destination, Rows


class Latents:
    """The latents of a dataset that no shard holds, by index. Safe to use from several threads."""

    def __init__(self, where: Path, manifest: Manifest) -> None:
        self.where = where
        self._recomputed = Recomputed(manifest)
        self.names = set(self._recomputed.names)
        self._sizes = {field["name"]: prod(field["shape"]) for field in self._recomputed.fields}

    def make(self, indices: Rows, places: Rows, slots: Sequence[Destination]) -> None:
        """Fill row ``places[i]`` of each slot with the latent of pair ``indices[i]``.

        Raises DatasetError where the recipe does not give them back here.
        """
        whole = [slot for slot in slots if slot.choice is None]
        self._fill(indices, places, whole)
        for slot in slots:
            if slot.choice is not None:
                for k, name in enumerate(slot.names):
                    rows = np.flatnonzero(slot.choice == k)
                    self._fill(indices[rows], places[rows], [slot._replace(names=(name,))])

    def _fill(self, indices: Rows, places: Rows, slots: Sequence[Destination]) -> None:
        """All slots by one computation, since positives come from anchors; some pairs at a time, to bound its memory."""
        names = [slot.names[0] for slot in slots]
        if not names:
            return
        rows = max(BATCH_VALUES // sum(self._sizes[name] for name in names), 1)
        for first in range(0, len(indices), rows):
            part = slice(first, first + rows)
            try:
                found = self._recomputed.many(indices[part], names)
            except DatasetError as error:
                raise DatasetError(f"{self.where}: {error}") from error
            for slot, name in zip(slots, names):
                slot.out[places[part]] = found[name]

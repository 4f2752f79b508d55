"""Latents that no shard holds, made again from the manifest's recipe and the pairs' indices.

They are made in batches by ``genrep.across.latents``, which needs the ``generate`` folder of genrep, and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep import across
from genrep.errors import DatasetError, GenRepError

from . import layout
from .manifest import Manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_VALUES = 1 << 22  # of all latents that are made at once: 16 MiB


def latents_again(manifest: Manifest, indices: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """The latents that are not stored of these pairs, by field: little-endian float32 ``(len(indices), *shape)``.

    Raises DatasetError, one line: the generator's part of genrep is not installed, the recipe cannot be followed, or does not
    make latents of the field table's shapes.
    """
    fields = layout.not_stored(manifest.fields)
    names = [field["name"] for field in fields]
    try:
        found = across.latents(manifest.to_json(), np.array(indices, dtype=np.int64), names)
    except ImportError as error:
        raise DatasetError(
            f"its latents are not stored, and making them again needs {error.name or error}; install genrep with "
            "its generators"
        ) from None
    except GenRepError as error:
        raise DatasetError(f"its latents are not stored, and cannot be made again here: {error}") from None
    for field in fields:
        shape, wanted = np.shape(found[field["name"]]), (len(indices), *field["shape"])
        if shape != wanted:
            raise DatasetError(f"its recipe makes {field['name']} of shape {shape[1:]}, the manifest says {wanted[1:]}")
    return {name: np.ascontiguousarray(found[name], "<f4") for name in names}


class Recomputed:
    """Latents that are not stored, of pairs that are asked for in order: made some pairs at a time."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.fields = layout.not_stored(manifest.fields)
        values = sum(int(np.prod(field["shape"])) for field in self.fields)
        self.batch = max(BATCH_VALUES // max(values, 1), 1)
        self._first, self._last = 0, 0
        self._made: dict[str, Any] = {}

    def of(self, index: int, end: int) -> dict[str, NDArray[np.float32]]:
        """Those of pair ``index``, by field; ``end`` is one past the last pair that will be asked for."""
        if not self.fields:
            return {}
        if not self._first <= index < self._last:
            self._first, self._last = index, min(index + self.batch, end)
            self._made = latents_again(self.manifest, range(self._first, self._last))
        return {name: values[index - self._first] for name, values in self._made.items()}

"""Latents that no shard holds, made again from the manifest's recipe and the pairs' indices.

They are made in batches by ``genrep.across.latents``, which needs the ``generate`` folder of genrep, and no weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep import across
from genrep.errors import DatasetError, GenRepError
from genrep.untrusted import CONTENT_FAULTS, one_line, shown

from . import layout
from .manifest import Manifest
from .schema import MAX_LATENT_VALUES

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_VALUES = 1 << 22  # of all latents that are made at once: 16 MiB


LEAST_TRUNCATION = 0.05  # standard deviations: numbers are redrawn until they are within, which takes for ever below


def _recipe_fault(manifest: Manifest) -> str | None:
    """Why a recipe, which may be a stranger's, would take more memory or time than its latents are worth; None if not."""
    latent = manifest.recipe.get("latent")
    shape = latent.get("shape") if isinstance(latent, dict) else None
    if isinstance(shape, list) and not (
        all(type(size) is int and size > 0 for size in shape) and math.prod(shape) <= MAX_LATENT_VALUES
    ):
        return f"recipe: latent: shape is {shown(shape)}, wanted sizes of a product <= {MAX_LATENT_VALUES}"
    for value in _truncations([latent, manifest.recipe.get("views")]):
        if value is not None and not (type(value) in (int, float) and value >= LEAST_TRUNCATION):
            return f"recipe: truncation is {shown(value)}, wanted a number >= {LEAST_TRUNCATION}"
    return None


def _truncations(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (item for key, item in value.items() if key == "truncation")
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _truncations(item)


class Recomputed:
    """The latents of a dataset that no shard holds."""

    def __init__(self, manifest: Manifest) -> None:
        self.fields = layout.not_stored(manifest.fields)
        self.names = [field["name"] for field in self.fields]
        # All of the manifest's JSON but its shards, which may be many.
        self._manifest = {**vars(manifest), "shards": []} if self.fields else {}
        self._fault = _recipe_fault(manifest) if self.fields else None
        values = sum(math.prod(field["shape"]) for field in self.fields)
        self.batch = max(BATCH_VALUES // max(values, 1), 1)
        self._made: tuple[int, int, dict[str, Any]] = (0, 0, {})  # of which pairs: first, and one past the last

    def many(
        self, indices: Sequence[int] | NDArray[np.int64], only: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Those of these pairs, by field: little-endian float32 ``(len(indices), *shape)``.

        ``only`` are the names of those wanted; None: all.

        Raises DatasetError, one line: the generator's part of genrep is not installed, the recipe cannot be followed, or does
        not make latents of the field table's shapes.
        """
        names = [name for name in self.names if only is None or name in only]
        if not names:
            return {}
        if self._fault:
            raise DatasetError(f"its latents are not stored, and are not made again here: {self._fault}")
        try:
            found = across.latents(self._manifest, np.array(indices, dtype=np.int64), names)
        except ImportError as error:
            raise DatasetError(
                f"its latents are not stored, and making them again needs {error.name or error}; install genrep with its "
                "generators"
            ) from None
        except GenRepError as error:
            raise DatasetError(f"its latents are not stored, and cannot be made again here: {error}") from None
        except CONTENT_FAULTS as fault:  # of a stranger's recipe, whose numbers may be any
            raise DatasetError(
                f"its latents are not stored, and its recipe makes none: {one_line(str(fault)) or type(fault).__name__}"
            ) from None
        for field in (field for field in self.fields if field["name"] in names):
            shape, wanted = np.shape(found[field["name"]]), (len(indices), *field["shape"])
            if shape != wanted:
                raise DatasetError(
                    f"its recipe makes {field['name']} of shape {shape[1:]}, the manifest says {wanted[1:]}"
                )
        return {name: np.ascontiguousarray(found[name], "<f4") for name in names}

    def one(self, index: int) -> dict[str, NDArray[np.float32]]:
        """Those of one pair, by field."""
        return {name: values[0] for name, values in self.many([index]).items()}

    def next(self, index: int, end: int) -> dict[str, NDArray[np.float32]]:
        """Those of a pair, by field, where pairs are asked for in order up to ``end`` - 1: made many at a time.

        Not for several threads.
        """
        first, last, made = self._made
        if self.names and not first <= index < last:
            first, last = index, min(index + self.batch, end)
            made = self.many(range(first, last))
            self._made = (first, last, made)
        return {name: values[index - first] for name, values in made.items()}

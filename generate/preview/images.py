"""Images of latents, as a dataset has them before their encoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genrep.errors import GeneratorError

from ..generators.base import Generator
from ..generators.probe import check_images, largest_values, require_sane
from ..pixels import to_uint8
from ..plans.resolve import class_names
from ..recipes.classes import select_classes
from ..recipes.conditions import class_count, make_conditions
from ..recipes.recipe import Recipe
from ..views import View
from ..views.base import synthesize_views

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BATCH = 16  # images in a forward pass


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """A generator with the conditions of pairs 0, 1, ... of a dataset."""

    recipe: Recipe
    generator: Generator
    device: torch.device
    y: NDArray[np.int64] | None  # (A,), what the generator gets besides the latents
    names: tuple[str, ...]  # (A,), of the pairs

    @classmethod
    def open(
        cls, recipe: Recipe, generator: Generator, device: torch.device, *, classes: str, count: int
    ) -> ImageSource:
        """Raises RecipeError if the generator has no such classes, or needs instance features and has none."""
        selection = select_classes(classes, class_count(generator))
        conditions = make_conditions(selection.numbers, generator)
        indices = np.arange(count, dtype=np.int64)
        labels, known = conditions.label(indices), class_names(recipe, selection, class_count(generator))
        names = []
        for i, label in enumerate(labels.tolist()):
            kind = known[label] if label >= 0 else ""
            names.append(f"{i}: class {kind}" if kind.isdecimal() else f"{i}: {kind}" if kind else f"pair {i}")
        return cls(recipe=recipe, generator=generator, device=device, y=conditions.y(indices), names=tuple(names))

    def images(
        self, anchors: NDArray[np.float32], view: View | None = None, z: NDArray[np.float32] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Pixels ``(h, w, 3)`` of the anchors, or with ``view`` of their positives ``z``, one after the other.

        Raises:
            GeneratorError: the generator raised, or gave no images in range; names the pair.
        """
        for start in range(0, len(anchors), BATCH):
            rows = slice(start, start + BATCH)
            found = self._batch(anchors[rows], view, None if z is None else z[rows], rows)
            yield from found.cpu().numpy()

    @torch.no_grad()
    def _batch(
        self, anchors: NDArray[np.float32], view: View | None, z: NDArray[np.float32] | None, rows: slice
    ) -> Tensor:
        where = f"generator {self.recipe.name}: pairs from {rows.start}"
        latents = self._to(anchors)
        y = None if self.y is None else self._to(self.y[rows])
        try:
            if view is None or z is None:
                found: object = self.generator.synthesize(latents, y)
            else:
                found = synthesize_views(self.generator, view, latents, self._to(z), y)
        except GeneratorError:
            raise
        except Exception as error:
            raise GeneratorError(f"{where}: raised {type(error).__name__}: {error}") from error
        images = check_images(found, latents, self.generator, where)
        require_sane(largest_values(images), lambda row: f"generator {self.recipe.name}: pair {rows.start + row}")
        return to_uint8(images, self.recipe.uint8, self.recipe.crop, self.recipe.resize)

    def _to(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

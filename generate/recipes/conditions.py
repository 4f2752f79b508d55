"""What a generator is told besides the latent: nothing, a class, or a row of instance features; balanced over the pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError

from ..generators.base import Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Pair i is made with choice ``i mod n`` of ``n``: every class (or row) equally often, to within one."""

    choices: NDArray[np.int64]  # (n,), what ``synthesize`` gets as y; n = 0: unconditional
    labels: NDArray[np.int64]  # (n,), what is stored as the label
    by_row: bool = False  # the choices are rows of instance features

    def y(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """What the generator gets with these pairs. Shape: ``(B,) -> (B,)``; None if it is unconditional."""
        return self.choices[indices % len(self.choices)] if len(self.choices) else None

    def label(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of the pairs, -1 = none. Shape: ``(B,) -> (B,)``."""
        if not len(self.choices):
            return np.full(len(indices), -1, dtype=np.int64)
        return self.labels[indices % len(self.choices)]


def class_count(generator: Generator) -> int:
    """Number of classes that labels can name; for a generator conditioned on instances, those of its rows."""
    instances: Any = getattr(generator, "instances", None)
    if instances is None:
        return generator.num_classes
    return 0 if instances.labels is None else int(instances.labels.max()) + 1


def make_conditions(classes: tuple[int, ...], generator: Generator) -> Conditions:
    """The conditions of a plan with these classes.

    Raises:
        RecipeError: no row of the instance features is of these classes, or the generator needs features and has none.
    """
    instances: Any = getattr(generator, "instances", None)
    if instances is None:
        if getattr(generator, "needs_instances", False):
            raise RecipeError("--features: this generator is conditioned on instance features, give a file of them")
        numbers = np.asarray(classes, dtype=np.int64)
        return Conditions(choices=numbers, labels=numbers)
    rows = np.arange(len(instances.features), dtype=np.int64)
    if instances.labels is None:
        return Conditions(choices=rows, labels=np.full(len(rows), -1, dtype=np.int64), by_row=True)
    labels = instances.labels.cpu().numpy().astype(np.int64)
    rows = rows[np.isin(labels, np.asarray(classes, dtype=np.int64))]
    if not len(rows):
        raise RecipeError("--classes: no row of the instance features is of these classes")
    return Conditions(choices=rows, labels=labels[rows], by_row=True)

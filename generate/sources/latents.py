"""Latents of a dataset's pairs from its recipe alone, for datasets that store none: no generator is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import RecipeError

from ..generators.base import LatentSpec
from ..plans.resolve import determined, recipes_faults
from ..views import view_from_json
from ..views.base import Draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANCHOR = "z_anchor"


def latents(
    manifest: dict[str, Any], indices: NDArray[np.int64], names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """See ``genrep.across.latents``."""
    recipe, indices = manifest["recipe"], np.asarray(indices, dtype=np.int64)
    shapes = {field["name"]: tuple(field["shape"]) for field in manifest["fields"] if field["kind"] == "float32"}
    with recipes_faults():
        views = view_from_json(recipe["views"], "the manifest's views", strangers=True)
        if not determined(views, filtered="filter" in recipe):
            raise RecipeError("its latents follow from files that it does not hold: a learned view's or a filter's")
        latent = LatentSpec.from_json(recipe["latent"])
        seed = int(recipe["seed"])
        anchors = latent.sample(seed, indices)
        found = {}
        for name in names:
            rows = anchors if name == ANCHOR else views.transform(anchors, latent, _draw(seed, indices, name))
            found[name] = rows.reshape(len(indices), *shapes[name])
    return found


def _draw(seed: int, indices: NDArray[np.int64], name: str) -> Draw:
    _, _, number = name.removeprefix("z_").partition("_")
    return Draw(seed=seed, indices=indices, k=int(number or 0))

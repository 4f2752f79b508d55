"""From a pretrained image generator to a dataset of anchor/positive pairs.

``load_generator`` and ``build_dataset`` are the library behind ``genrep-generate``. Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrep.imports import lazy

if TYPE_CHECKING:
    from .build import BuildConfig, BuildReport, build_dataset
    from .generators.base import Generator, LatentSpec
    from .weights.load import load_generator

__all__ = ["BuildConfig", "BuildReport", "Generator", "LatentSpec", "build_dataset", "load_generator"]

__getattr__ = lazy(
    __name__,
    {
        "BuildConfig": "plans.config",
        "BuildReport": "build.run",
        "Generator": "generators.base",
        "LatentSpec": "generators.base",
        "build_dataset": "build.dataset",
        "load_generator": "weights.load",
    },
)

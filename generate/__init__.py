"""From a pretrained image generator to a dataset of anchor/positive pairs.

``load_generator`` and ``build_dataset`` are the library behind ``genrep-generate``. Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import BuildConfig, BuildReport, build_dataset
    from .generators.base import Generator, LatentSpec
    from .weights.load import load_generator

__all__ = ["BuildConfig", "BuildReport", "Generator", "LatentSpec", "build_dataset", "load_generator"]

_HOMES = {
    "BuildConfig": "genrep.generate.build",
    "BuildReport": "genrep.generate.build",
    "Generator": "genrep.generate.generators.base",
    "LatentSpec": "genrep.generate.generators.base",
    "build_dataset": "genrep.generate.build",
    "load_generator": "genrep.generate.weights.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

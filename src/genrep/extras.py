"""The optional packages: which of them an extra of ours brings, and which are not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata

DISTRIBUTION = "genrep"
FOR_USERS = {  # what lacks without it
    "evaluate": "voc07, detection, some datasets of torchvision",
    "diffusion": "pipelines of diffusers as generators",
    "plots": "curves of trainings and plots of reports",
    "tensorboard": "TensorBoard's event files beside metrics.jsonl",
    "cloud": "push and pull of s3:// and gs://",
    "hub": "push and pull of hf://",
    "sign": "signatures of datasets",
    "parquet": "export to Parquet",
    "energy": "energy and CO2 of figure 3",
    "ffcv": "FFCV's own Loader on these shards",
}


@cache
def requirements() -> dict[str, tuple[str, ...]]:
    """The packages that each extra adds. The key ``""`` has the base packages."""
    found: dict[str, list[str]] = {}
    try:
        texts = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:  # run from its source, which is on the path and was not installed
        texts = ()
    for text in texts:
        name = re.match(r"[A-Za-z0-9._-]+", text)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)""", text)
        if name is not None:
            found.setdefault(extra.group(1) if extra else "", []).append(name.group())
    return {extra: tuple(names) for extra, names in found.items()}


def missing(extra: str) -> Iterator[str]:
    """The packages of an extra that are not installed."""
    for name in requirements().get(extra, ()):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name


def install(extra: str) -> str:
    """The command that brings an extra into this environment, wherever genrep came from.

    It names the packages. ``pip install 'genrep[plots]'`` would ask an index for genrep, which a checkout did not come from.
    """
    names = requirements().get(extra)
    return f"pip install {' '.join(names)}" if names else f"install genrep with its extra {extra!r}"

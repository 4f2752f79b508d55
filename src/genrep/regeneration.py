"""Pairs made again from a manifest's recipe, for packages that know no generator.

What makes them is looked up when it is first called: nothing imports genrep.generate because of this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAKER = "genrep.generate.build.regeneration"


@dataclass(frozen=True, kw_only=True)
class RegenerationConfig:
    """What a manifest does not tell, or what shall be otherwise; None leaves it to the manifest, or to the machine."""

    gen: str | None = (
        None  # recipe's name, TOML file or package.module:factory (which is never run on a manifest's word)
    )
    weights: str | None = None  # file, folder or URL
    features: str | None = None  # file of instance features (IC-GAN)
    views: str | None = None  # as --views of genrep-generate: names the file of a learned view
    filter: str | None = None  # as --filter
    device: str = "auto"  # the kind that each shard was made on, if it is here
    batch_size: int | None = None  # that of each shard's record
    processes: int | None = None


def build_shards(manifest: dict[str, Any], numbers: Sequence[int], out: Path, config: RegenerationConfig) -> None:
    """Build these shards of a manifest (its JSON, checked) with their records in the folder ``out``; shards that are done
    there stay. No manifest is written.

    Raises:
        GenRepError: the recipe cannot be followed here (says what differs or lacks), or the generator failed.
    """
    import_module(MAKER).build_shards(manifest, numbers, out, config)


def stored_pairs(
    manifest: dict[str, Any], indices: Sequence[int], config: RegenerationConfig
) -> Iterator[tuple[int, dict[str, NDArray[np.uint8]]]]:
    """The bytes that a shard would hold of these pairs, in any order: index, and by field's name (images, latents, label)
    uint8 of shape ``(size,)``; images are encoded, numbers little-endian.

    Raises GenRepError as ``build_shards``.
    """
    found: Iterator[tuple[int, dict[str, NDArray[np.uint8]]]] = import_module(MAKER).stored_pairs(
        manifest, indices, config
    )
    return found

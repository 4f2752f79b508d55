"""A few pairs of a dataset made again and compared with what its shards hold."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.across import RegenerationConfig, stored_pairs
from genrep.errors import DatasetError
from genrep.seeding import derive
from genrep.settings import config

from .. import layout
from ..contents import decode_jpeg
from ..manifest import Shard, read_manifest
from ..shard_checks import open_shard
from ..verify import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..beton import Beton

MEAN_LEVELS = 2.0  # by which an image that was made again may differ on average: rounding, and what JPEG makes of it


@config
class SampleConfig:
    """Which pairs are compared, and how they are made."""

    folder: Path
    count: int
    seed: int | None = None  # None: drawn, so that nobody can have prepared for it
    making: RegenerationConfig = field(default_factory=RegenerationConfig)


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What came of it."""

    seed: int
    indices: list[int]
    identical_images: int  # byte for byte
    images: int
    largest: int  # levels (of 255) by which a value differs
    problems: list[Problem]

    def __str__(self) -> str:
        equal = f"{self.identical_images} of {self.images} images are the same bytes"
        rest = f", the others within {self.largest} levels" if self.identical_images < self.images else ""
        return f"{len(self.indices)} pairs (--sample-seed {self.seed}): latents and labels are the same, {equal}{rest}"

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {name: value for name, value in vars(self).items() if name != "problems"}


def compare_sample(config: SampleConfig) -> SampleReport:
    """Make ``count`` pairs again. Latents and labels must be equal bit for bit, images bytes or within MEAN_LEVELS on average.

    Shards that are missing are not asked for. Raises GenRepError: they cannot be made here, or a shard cannot be read.
    """
    manifest = read_manifest(config.folder)
    seed = secrets.randbits(32) if config.seed is None else config.seed
    present = [shard for shard in manifest.shards if (config.folder / shard.name).exists()]
    indices = _draw(present, config.count, seed)
    made = dict(stored_pairs(manifest.to_json(), indices, config.making))
    problems: list[Problem] = []
    identical, images, largest = 0, 0, 0
    for shard in present:
        inside = [i for i in indices if 0 <= i - shard.first_index < shard.count]
        if not inside:
            continue
        with open_shard(config.folder, manifest, shard) as beton:
            for i in inside:
                for row in manifest.fields:
                    if row["name"] not in made[i]:
                        continue
                    levels, reason = _compare(beton, row, i - shard.first_index, made[i][row["name"]])
                    if row["kind"] == "image":
                        images, identical = images + 1, identical + (levels == 0)
                        largest = max(largest, levels)
                    if reason:
                        problems.append(Problem(shard=shard.name, reason=f"pair {i} made again: {reason}"))
    return SampleReport(
        seed=seed, indices=indices, identical_images=identical, images=images, largest=largest, problems=problems
    )


def _draw(shards: list[Shard], count: int, seed: int) -> list[int]:
    """``count`` indices of the pairs of these shards, ascending."""
    if not shards:
        raise DatasetError("no shard is here to take pairs from")
    ends = np.cumsum([shard.count for shard in shards])
    chosen: set[int] = set()
    draws = 0
    while len(chosen) < min(count, int(ends[-1])):
        place = derive("sample", seed, draws) % int(ends[-1])
        k = int(np.searchsorted(ends, place, side="right"))
        chosen.add(shards[k].first_index + shards[k].count - (int(ends[k]) - place))
        draws += 1
    return sorted(chosen)


def _compare(beton: Beton, field: dict[str, Any], i: int, made: NDArray[np.uint8]) -> tuple[int, str]:
    """Largest difference in levels, and what is wrong (empty: nothing)."""
    name = field["name"]
    if field["kind"] == "int":
        same = int(beton.samples[name][i]) == int(made.view("<i8")[0])
        return 0, "" if same else f"{name} differs"
    stored = beton.read(i, name)
    if np.array_equal(stored, made):
        return 0, ""
    if field["kind"] == "float32":
        return 0, f"{name} differs"
    levels = np.abs(_pixels(stored, field).astype(np.int16) - _pixels(made, field))
    largest, mean = max(1, int(levels.max())), float(levels.mean())
    return largest, "" if mean <= MEAN_LEVELS else f"{name} differs by {mean:.1f} levels on average, {largest} at most"


def _pixels(stored: NDArray[np.uint8], field: dict[str, Any]) -> NDArray[np.uint8]:
    if not layout.is_jpeg(field):
        return stored
    try:
        return decode_jpeg(stored, field["shape"]).reshape(-1)  # pairs that are made again have one size
    except ValueError as reason:
        raise DatasetError(f"{field['name']} {reason}") from None

"""What the formats have in common: a dataset is cut into units, each of which is written whole, in any order of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..manifest import Manifest
from .samples import Sample

UNIT_BYTES = 256 << 20  # of a tar or parquet file, about


class Format(ABC):
    """A format's writer for one dataset. A unit is ``per_unit`` samples, the last may be fewer."""

    state_name = "export.json"  # in the folder: what it is of

    def __init__(self, manifest: Manifest, out: Path, per_unit: int | None) -> None:
        self.manifest, self.out = manifest, out
        self.per_unit = per_unit or self.default_per_unit()
        self.units = -(-manifest.num_pairs // self.per_unit)
        self.digits = max(len(str(manifest.num_pairs - 1)), 5)

    def default_per_unit(self) -> int:
        """As many samples as take about UNIT_BYTES in the shards."""
        return max(UNIT_BYTES * self.manifest.num_pairs // self.manifest.num_bytes, 1)

    def range(self, unit: int) -> tuple[int, int]:
        """The samples of a unit: first, and one past the last."""
        return unit * self.per_unit, min((unit + 1) * self.per_unit, self.manifest.num_pairs)

    def key(self, index: int) -> str:
        """A sample's number with leading zeros, so that names sort."""
        return f"{index:0{self.digits}d}"

    @abstractmethod
    def is_done(self, unit: int) -> bool:
        """Whether the unit was written whole."""

    @abstractmethod
    def write(self, unit: int, samples: Iterator[Sample]) -> None:
        """Write the unit. Raises OSError that names a file, DatasetError of ``samples``."""

    def finish(self, samples: Iterator[Sample]) -> None:  # noqa: B027
        """Write what stands beside the units, of all samples without their images."""

    def file_count(self) -> int:
        """Files that hold the samples."""
        return self.units


def facts(manifest: Manifest, integers: dict[str, int]) -> dict[str, Any]:
    """A sample's row of metadata: index, label, class, row."""
    label = integers["label"]
    named = {"class": manifest.classes[label]} if 0 <= label < len(manifest.classes) else {}
    return {"index": integers["index"], **integers, **named}

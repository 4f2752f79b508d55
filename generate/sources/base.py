"""Sources: anything that gives the samples of an index range, batch by batch. Shards are made from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genrep.datasets_manifest.layout import in_beton
from genrep.errors import GeneratorError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OutOfMemoryError(GeneratorError):
    """The device cannot hold a batch of this size."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive samples, ready to be written."""

    indices: NDArray[np.int64]  # (B,)
    labels: NDArray[np.int64]  # (B,), -1 = none
    images: list[Any]  # per view: (B, H, W, 3), the anchors first; or B images of any size
    latents: list[NDArray[np.float32]]  # per view that has them: (B, *shape), or (B, G, d) on groups of W layers
    values: dict[str, NDArray[Any]] = field(default_factory=dict)  # (B,) each: further fields, such as row or strength

    def columns(self, table: list[dict[str, Any]]) -> list[Any]:
        """The batch in the order of a field table, without the fields of which no shard holds a value."""
        names = {kind: [row["name"] for row in table if row["kind"] == kind] for kind in ("image", "float32")}
        by_name: dict[str, Any] = {
            **dict(zip(names["image"], self.images)),
            **dict(zip(names["float32"], self.latents)),
            "label": self.labels,
            "index": self.indices,
            **self.values,
        }
        return [by_name[row["name"]] for row in in_beton(table)]


class Source(Protocol):
    """Gives the samples of any index range, always the same ones."""

    @property
    def batch_size(self) -> int:
        """Samples per batch, except the last."""
        ...

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """The samples ``first`` .. ``first + count - 1``, in order."""
        ...

    def halve_batch(self) -> None:
        """Go on with half the batch size."""
        ...


class PendingBatch(Protocol):
    """A batch in progress on the device."""

    def result(self) -> Batch:
        """Wait for the batch and check its values."""
        ...


class LaunchSource(Source, Protocol):
    """A source whose batches can be begun one by one, of several ranges in turns."""

    def ranges(self, first: int, count: int) -> Iterator[NDArray[np.int64]]:
        """Indices of the batches that a range is made in; only the last may be shorter."""
        ...

    def launch(self, indices: NDArray[np.int64]) -> PendingBatch:
        """Start the batch of these pairs on the device."""
        ...

    def set_batch_size(self, size: int) -> None:
        """Make batches of this size from now on; batches in progress stay as they are."""
        ...


class OpenSource(Protocol):
    """Opens a source in the process that calls it; travels to worker processes."""

    def __call__(self) -> Source:
        """Open the source."""
        ...


def one_ahead(launched: Iterable[PendingBatch]) -> Iterator[Batch]:
    """The batches, in order; the next is under way on the device while the caller has the last one."""
    before: PendingBatch | None = None
    for following in launched:
        if before is not None:
            yield before.result()
        before = following
    if before is not None:
        yield before.result()

"""One or several sets of images as one table of samples: no copy, no merge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest import MANIFEST_NAME, dataset_folder
from genrep.errors import DatasetError

from .folder_images import FolderImages, is_image_folder
from .shards import Field, Rows, Shards, Slot

Data = str | Path | Sequence[str | Path]
Size = int | tuple[int, int]
POSITIVES = ("stored", "random", "all", "anchor")
PAIRED = {"positive": "anchor", "z_positive": "z_anchor"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """A tensor of a batch."""

    name: str
    field: Field  # of one sample
    slots: tuple[
        tuple[tuple[str, ...], ...], ...
    ] = ()  # for each set: fields to choose from, once or for each positive
    stacked: bool = False  # it holds all positives: shape (B, K, …)


class Sets:
    """The samples of all sets one after another; row r is the r-th of those that are here.

    ``index`` counts on from set to set by their whole lengths, so that a sample keeps its index when shards of a partial
    set are missing. ``label`` is a position in ``classes``, the sets' class names together, each once. A set that stores no
    positives, among others that do, gives its anchors as positives: two pixel views of one image.

    Raises DatasetError in one line for sets whose images differ in size.
    """

    def __init__(self, parts: Sequence[Shards | FolderImages]) -> None:
        self.parts = list(parts)
        first = self.parts[0]
        for part in self.parts[1:]:
            if part.shape != first.shape:
                raise DatasetError(f"{part.where}: images of {_size(part)}, those of {first.where} are {_size(first)}")
        self.shape = first.shape
        self.starts = np.cumsum([0, *map(len, self.parts)]).astype(np.int64)
        self.num_positives = max(part.num_positives for part in self.parts)
        self.classes, self._labels = _together([part.classes for part in self.parts])
        self._index_starts = np.cumsum([0, *(part.span for part in self.parts)]).astype(np.int64)
        self.bounds = np.concatenate([part.bounds[:-1] + at for part, at in zip(self.parts, self.starts)])
        self.bounds = np.append(self.bounds, self.starts[-1])
        self.shard_bytes = np.concatenate([part.shard_bytes for part in self.parts])
        self._shards = [(part, k) for part in self.parts for k in range(len(part.shard_bytes))]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def identity(self) -> str:
        """Of the content: a dataset's id, or the ids of several joined by ``+``."""
        return "+".join(part.identity for part in self.parts)

    @property
    def fields(self) -> dict[str, Field]:
        """The fields that every set has, or has a stand-in for."""
        first = max(self.parts, key=lambda part: part.num_positives)
        return {
            name: field
            for name, field in first.fields.items()
            if all(_stored(part, name) is not None for part in self.parts)
        }

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that samples have, -1 (none) aside, ascending; empty if a set has none."""
        if "label" not in self.fields:
            return ()
        found = [self._labels[k][part.integers("label", np.arange(len(part)))] for k, part in enumerate(self.parts)]
        return tuple(label for label in np.unique(np.concatenate(found)).tolist() if label >= 0)

    def outputs(self, names: Sequence[str] | None, positive: str | None) -> list[Output]:
        """What a batch holds: the named fields, or all. See ``PairLoader`` for ``positive``.

        Raises DatasetError for a field that a set has not, and for latents whose shapes differ.
        """
        known = self.fields
        if names is None:
            names = [name for name in known if positive is None or _is_read(name, positive)]
        return [self._output(name, positive) for name in names]

    def _output(self, name: str, positive: str | None) -> Output:
        known = self.fields
        if name not in known:
            lacking = next((part for part in self.parts if _stored(part, name) is None), self.parts[0])
            raise DatasetError(f"{lacking.where}: has no field {name!r}; it has {', '.join(lacking.fields)}")
        if positive == "anchor" and name in PAIRED:
            raise ValueError(f"positive='anchor': the field {name!r} is not read")
        field = known[name]
        for part in self.parts:
            found = part.fields[str(_stored(part, name))]
            if found.shape != field.shape:
                raise DatasetError(f"{part.where}: {name} of shape {found.shape}, another set has {field.shape}")
        if field.dtype == np.int64:
            return Output(name=name, field=field)
        slots = tuple(self._slots(part, name, positive) for part in self.parts)
        stacked = positive == "all" and name in PAIRED
        if stacked:
            field = Field(shape=(self.num_positives, *field.shape), dtype=field.dtype)
        return Output(name=name, field=field, slots=slots, stacked=stacked)

    def _slots(self, part: Shards | FolderImages, name: str, positive: str | None) -> tuple[tuple[str, ...], ...]:
        """The stored fields of one output, in one set."""
        if name not in PAIRED or positive not in ("random", "all"):
            return ((str(_stored(part, name)),),)
        stored = (
            (name, *(f"{name}_{k}" for k in range(1, part.num_positives))) if part.num_positives else (PAIRED[name],)
        )
        if positive == "random":
            return (stored,)
        if part.num_positives not in (0, self.num_positives):
            raise DatasetError(
                f"{part.where}: {part.num_positives} positives an anchor, another set has {self.num_positives}; "
                "positive='all' wants as many in each"
            )
        return tuple((one,) for one in (stored if part.num_positives else stored * self.num_positives))

    def owners(self, rows: Rows) -> list[tuple[int, Rows]]:
        """The sets that hold these rows, and which of the rows each holds."""
        if len(self.parts) == 1:
            return [(0, np.arange(len(rows)))]
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        return [(k, np.flatnonzero(owner == k)) for k in np.unique(owner).tolist()]

    def indices(self, rows: Rows) -> NDArray[np.int64]:
        """The samples' indices. Shape ``(len(rows),)``."""
        result = np.empty(len(rows), dtype=np.int64)
        for k, places in self.owners(rows):
            result[places] = self.parts[k].indices(rows[places] - self.starts[k]) + self._index_starts[k]
        return result

    def read(
        self,
        rows: Rows,
        outputs: Sequence[Output],
        arrays: Sequence[NDArray[Any]],
        uniform: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Fill the outputs' arrays, of shape ``(len(rows), *output.field.shape)``; all but ``index``, which the caller knows.

        ``uniform``, in [0, 1) for each row, chooses where an output has a choice.
        """
        for k, places in self.owners(rows):
            part, local = self.parts[k], rows[places] - self.starts[k]
            slots = []
            for output, array in zip(outputs, arrays):
                if output.name == "label":
                    array[places] = self._labels[k][part.integers("label", local)]
                elif not output.slots:
                    array[places] = part.integers(output.name, local) if output.name != "index" else array[places]
                else:
                    for j, names in enumerate(output.slots[k]):
                        slots.append(_slot(names, array[:, j] if output.stacked else array, uniform, places))
            if slots:
                part.read(local, places, slots)

    def will_need(self, shard: int) -> None:
        """Read a shard (counted over all sets) into memory."""
        part, k = self._shards[shard]
        part.will_need(k)

    def done_with(self, shard: int) -> None:
        """Let go of a shard."""
        part, k = self._shards[shard]
        part.done_with(k)


def open_sets(data: Data | Sets, *, partial: bool = False, size: Size | None = None) -> Sets:
    """Open datasets and image folders as one.

    Args:
        data: one path or several: finished datasets, or folders of images.
        partial: take datasets of which shards are missing.
        size: height and width, or both in one, that an image folder's images are cropped and resized to. None: the size of the
            datasets beside it, or of its own images, which then must have one size.

    Raises:
        DatasetError: a set is unfinished or damaged, or the sets' images differ in size.
        DataError: an image folder is empty, or an image cannot be read.
    """
    if isinstance(data, Sets):
        return data
    folders = [dataset_folder(one) for one in ([data] if isinstance(data, (str, Path)) else data)]
    if not folders:
        raise ValueError("data: no path given")
    finished = {
        k: Shards(folder, partial=partial) for k, folder in enumerate(folders) if not _is_folder_of_images(folder)
    }
    wanted = (size, size) if isinstance(size, int) else size
    shape = wanted or next(((part.shape[0], part.shape[1]) for part in finished.values()), None)
    sets = Sets([finished[k] if k in finished else FolderImages(folder, shape) for k, folder in enumerate(folders)])
    if wanted is not None and sets.shape[:2] != wanted:
        raise DatasetError(f"{sets.parts[0].where}: images of {_size(sets.parts[0])}, wanted {wanted[0]} x {wanted[1]}")
    return sets


def _is_folder_of_images(folder: Path) -> bool:
    return not (folder / MANIFEST_NAME).exists() and is_image_folder(folder)


def _stored(part: Shards | FolderImages, name: str) -> str | None:
    """The field that a set gives for ``name``, None if it has none."""
    if name in part.fields:
        return name
    stand_in = PAIRED.get(name)
    return stand_in if stand_in in part.fields and not part.num_positives else None


def _is_read(name: str, positive: str) -> bool:
    """Whether a batch of all fields holds this one."""
    stem = name.rstrip("0123456789").rstrip("_")
    return stem not in PAIRED or (positive != "anchor" and name == stem)


def _slot(names: tuple[str, ...], out: NDArray[Any], uniform: NDArray[np.floating[Any]] | None, places: Rows) -> Slot:
    if len(names) == 1:
        return Slot(names, out)
    assert uniform is not None
    return Slot(names, out, (uniform[places] * len(names)).astype(np.int64))


def _together(classes: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """All sets' class names, and for each set the new label of each of its labels; -1, in the last place, stays.

    A name that a set has twice (ImageNet's two cranes) stays two classes.
    """
    numbers: dict[tuple[str, int], int] = {}
    maps = []
    for names in classes:
        seen: Counter[str] = Counter()
        labels = []
        for name in names:
            labels.append(numbers.setdefault((name, seen[name]), len(numbers)))
            seen[name] += 1
        maps.append(np.array([*labels, -1], dtype=np.int64))
    return tuple(name for name, _ in numbers), maps


def _size(part: Shards | FolderImages) -> str:
    return f"{part.shape[0]} x {part.shape[1]}"

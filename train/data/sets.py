"""One or several sets of images as one table of samples: no copy, no merge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest import MANIFEST_NAME, dataset_folder
from genrep.errors import DatasetError, ManifestError

from .fields import VARYING, Destination, Field, Rows
from .folder_images import FolderImages, is_image_folder
from .outputs import (
    PAIRED,
    BatchTensor,
    Crops,
    Cuts,
    CutSlot,
    cut_output,
    families,
    is_read,
    local_output,
    read_cuts,
    slot_of,
)
from .shards import Shards

Data = str | Path | Sequence[str | Path]
Size = int | tuple[int, int]
POSITIVES = ("stored", "random", "all", "anchor")


class Sets:
    """The samples of all sets one after another; row r is the r-th of those that are here.

    ``index`` counts on from set to set by their whole lengths, so that a sample keeps its index when shards of a partial
    set are missing. ``label`` is a position in ``classes``, the sets' class names together, each once. A set that stores no
    positives, among others that do, gives its anchors as positives: two pixel views of one image. ``shape`` is that of all
    images, VARYING if they have several: then only cuts of them can be read (``crops``).
    """

    def __init__(self, parts: Sequence[Shards | FolderImages]) -> None:
        self.parts = list(parts)
        first = self.parts[0]
        self.shape = first.shape if all(part.shape == first.shape for part in self.parts) else VARYING
        self.starts = np.cumsum([0, *map(len, self.parts)]).astype(np.int64)
        self.num_positives = max(part.num_positives for part in self.parts)
        self.classes, self._labels = _together([part.classes for part in self.parts])
        self._index_starts = np.cumsum([0, *(part.span for part in self.parts)]).astype(np.int64)
        self.bounds = np.concatenate([part.bounds[:-1] + at for part, at in zip(self.parts, self.starts)])
        self.bounds = np.append(self.bounds, self.starts[-1])
        self.shard_bytes = np.concatenate([part.shard_bytes for part in self.parts])
        self._shards = [(part, k) for part in self.parts for k in range(len(part.shard_bytes))]
        self._families = [families(part.fields, part.num_positives) for part in self.parts]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def require_one_shape(self) -> None:
        """Raises DatasetError, which names two sets or the one, if images have several sizes."""
        first = self.parts[0]
        for part in self.parts:
            if part.shape == VARYING:
                raise DatasetError(f"{part.where}: images of several sizes: give a size, or crops")
            if part.shape != first.shape:
                raise DatasetError(f"{part.where}: images of {_size(part)}, those of {first.where} are {_size(first)}")

    @property
    def shorter_side(self) -> int:
        """The lower median of the images' shorter sides, in pixels."""
        if self.shape != VARYING:
            return min(self.shape[:2])
        sides = np.concatenate([part.shorter_sides() for part in self.parts])
        return int(np.partition(sides, middle := (len(sides) - 1) // 2)[middle])

    @property
    def identity(self) -> str:
        """The identity of the content: a dataset's id, or the ids of several joined by ``+``."""
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
    def of_positives(self) -> dict[str, tuple[str, ...]]:
        """The fields that each positive has one of (``outputs.families``), of the set with the most positives first."""
        order = sorted(range(len(self.parts)), key=lambda k: self.parts[k].num_positives)
        return {first: family for k in order for first, family in self._families[k].items()}

    @property
    def floats(self) -> tuple[str, ...]:
        """The fields of one number with a fraction: what views drew, and ``weight``."""
        return tuple(name for name, field in self.fields.items() if _is_number(field) and field.dtype == np.float32)

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that samples have, -1 (none) aside, ascending; empty if a set has none."""
        if "label" not in self.fields:
            return ()
        found = [self._labels[k][part.numbers("label", np.arange(len(part)))] for k, part in enumerate(self.parts)]
        return tuple(label for label in np.unique(np.concatenate(found)).tolist() if label >= 0)

    def outputs(
        self, names: Sequence[str] | None, positive: str | None, crops: Crops | None = None
    ) -> list[BatchTensor]:
        """The outputs of a batch: the named fields, or all. See ``PairLoader`` for ``positive`` and ``crops``.

        Raises DatasetError for a field that a set lacks, and for latents whose shapes differ.
        """
        if crops is None:
            self.require_one_shape()
        known = self.fields
        if names is None:
            names = [name for name in known if positive is None or is_read(name, positive, self.of_positives)]
        outputs = [self._output(name, positive) for name in names]
        if crops is None:
            return outputs
        outputs = [cut_output(output, positive, crops) for output in outputs]
        if crops.local is not None:
            outputs += [local_output(output, crops.local) for output in outputs if output.views]
        return outputs

    def _output(self, name: str, positive: str | None) -> BatchTensor:
        known = self.fields
        if name not in known:
            lacking = next((part for part in self.parts if _stored(part, name) is None), self.parts[0])
            raise DatasetError(f"{lacking.where}: has no field {name!r}; it has {', '.join(lacking.fields)}")
        if positive == "anchor" and name in self.of_positives:
            raise ValueError(f"positive='anchor': the field {name!r} is not read")
        field = known[name]
        for part in self.parts:
            found = part.fields[str(_stored(part, name))]
            if found.shape != field.shape and found.dtype != np.uint8:
                raise DatasetError(f"{part.where}: {name} of shape {found.shape}, another set has {field.shape}")
        number = _is_number(field)
        slots = tuple(self._slots(k, name, positive) for k in range(len(self.parts)))
        stacked = positive == "all" and name in self.of_positives
        if stacked:
            field = Field(shape=(self.num_positives, *field.shape), dtype=field.dtype)
        return BatchTensor(name=name, field=field, slots=slots, stacked=stacked, number=number)

    def _slots(self, k: int, name: str, positive: str | None) -> tuple[tuple[str, ...], ...]:
        """The stored fields of one output, in set ``k``."""
        part = self.parts[k]
        if name not in self.of_positives or positive not in ("random", "all"):
            return ((str(_stored(part, name)),),)
        stored = self._families[k].get(name, (str(_stored(part, name)),))
        if positive == "random":
            return (stored,)
        if part.num_positives not in (0, self.num_positives):
            raise DatasetError(
                f"{part.where}: {part.num_positives} positives per anchor, another set has {self.num_positives}; "
                "positive='all' requires the same number in each"
            )
        return tuple((one,) for one in (stored if len(stored) > 1 else stored * self.num_positives))

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
        outputs: Sequence[BatchTensor],
        arrays: Sequence[NDArray[Any]],
        uniform: NDArray[np.floating[Any]] | None = None,
        cuts: Cuts | None = None,
    ) -> None:
        """Fill the outputs' arrays, of shape ``(len(rows), *output.field.shape)``; all but ``index``, which the caller knows.

        ``uniform``, in [0, 1) for each row, chooses where an output has a choice. ``cuts`` says how outputs with views are cut.
        """
        for k, places in self.owners(rows):
            part, local = self.parts[k], rows[places] - self.starts[k]
            slots, cut = [], []
            for output, array in zip(outputs, arrays):
                if output.name == "index":
                    continue
                for j, names in enumerate(output.slots[k]):
                    slot = slot_of(names, array[:, j] if output.stacked else array, uniform, places)
                    if output.number:
                        values = _numbers(part, local, slot)
                        slot.out[places] = self._labels[k][values] if output.name == "label" else values
                    elif output.views:
                        assert output.law is not None
                        cut.append(CutSlot(slot=slot, view=output.views[j], law=output.law))
                    else:
                        slots.append(slot)
            if slots:
                part.read(local, places, slots)
            if cut:
                assert cuts is not None
                read_cuts(part, local, places, cut, cuts)

    def will_need(self, shard: int) -> None:
        """Read a shard (counted over all sets) into memory."""
        part, k = self._shards[shard]
        part.will_need(k)

    def done_with(self, shard: int) -> None:
        """Let go of a shard."""
        part, k = self._shards[shard]
        part.done_with(k)


def open_sets(data: Data | Sets, *, partial: bool = False, size: Size | None = None, whole: bool = False) -> Sets:
    """Open datasets and image folders as one.

    Args:
        data: one path or several: finished datasets, or folders of images.
        partial: accept datasets with missing shards.
        size: height and width, or both in one, that whole pictures (an image folder's, and those of datasets whose images
            vary) are cropped and resized to. None: the size of the datasets beside them, or their own.
        whole: without a size leave pictures as they are, whatever is beside them: their parts will be asked for (``crops``).

    Raises:
        DatasetError: a set is unfinished or damaged, or its images have one size, and another is wanted.
        DataError: an image folder is empty, or an image cannot be read.
    """
    if isinstance(data, Sets):
        return data
    folders = [dataset_folder(one) for one in ([data] if isinstance(data, (str, Path)) else data)]
    if not folders:
        raise ValueError("data: no path given")
    wanted = (size, size) if isinstance(size, int) else size
    parts: dict[int, Shards | FolderImages] = {}
    for k, folder in enumerate(folders):
        if not _is_folder_of_images(folder):
            _require_any(folder)
            parts[k] = Shards(folder, partial=partial, fitted=wanted)
    sized = (part for part in parts.values() if part.shape != VARYING)
    shape = wanted or (None if whole else next(((part.shape[0], part.shape[1]) for part in sized), None))
    for k, folder in enumerate(folders):
        if k not in parts:
            parts[k] = FolderImages(folder, shape)
        elif parts[k].shape == VARYING and shape is not None:
            parts[k] = Shards(folder, partial=partial, fitted=shape)
    sets = Sets([parts[k] for k in range(len(folders))])
    for part in sets.parts:
        if wanted is not None and part.shape[:2] != wanted:
            raise DatasetError(f"{part.where}: images of {_size(part)}, wanted {wanted[0]} x {wanted[1]}")
    return sets


def _is_folder_of_images(folder: Path) -> bool:
    return not (folder / MANIFEST_NAME).exists() and is_image_folder(folder)


def _require_any(folder: Path) -> None:
    """Raise ManifestError if a folder is missing or empty, and name both kinds that would do."""
    if not folder.exists():
        raise ManifestError(f"{folder}: no such folder; wanted a dataset, or a folder of images")
    if folder.is_dir() and not any(folder.iterdir()):
        raise ManifestError(f"{folder}: an empty folder; wanted a dataset, or a folder of images")


def _is_number(field: Field) -> bool:
    return field.shape == ()


def _numbers(part: Shards | FolderImages, rows: Rows, slot: Destination) -> NDArray[Any]:
    """The values of the slot's field, or of the chosen one of several. Shape ``(len(rows),)``."""
    values = [part.numbers(name, rows) for name in slot.names]
    return values[0] if slot.choice is None else np.stack(values)[slot.choice, np.arange(len(rows))]


def _stored(part: Shards | FolderImages, name: str) -> str | None:
    """The field that a set gives for ``name``, None if it has none."""
    if name in part.fields:
        return name
    stand_in = PAIRED.get(name)
    return stand_in if stand_in in part.fields and not part.num_positives else None


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

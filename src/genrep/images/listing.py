"""The images of a split, in the order in which they get their numbers: one rule for every command.

A folder holds its splits (``folders.split_folders``), or is one itself. A split holds a folder for each class, with images
at any depth, or bare images, without labels; never both. A test split has the classes of the training split, by folders or
by a list (``val_annotations.txt``, as Tiny-ImageNet has it).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genrep.progress import note

from ..errors import DataError
from ..untrusted import printable, read_bounded, shown
from .folders import (
    SPLITS,
    PassedOver,
    bare_images,
    beside_splits,
    contents,
    has_split,
    no_images,
    split_folders,
    split_names,
    subfolders,
    walk,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 256 << 20  # bytes of a list of labels; Tiny-ImageNet's has 335 KB for 10,000 images
Found = list[tuple[str, int]]  # names relative to the split's folder, with labels


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Image files by class, then folder and name."""

    name: str  # of the set, or of its folder
    base: Path
    classes: tuple[str, ...]  # empty for bare images
    names: list[str]  # relative to ``base``
    labels: NDArray[np.int64]  # (N,), -1 = none
    split: str  # which images these are, in words
    remarks: tuple[str, ...] = ()  # what a user should know, a line each

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """sha256 over names, sizes and times of change: has the folder changed? Raises DataError if a file is gone."""
        digest = hashlib.sha256()
        for name in self.names:
            try:
                facts = os.stat(self.base / name)
            except OSError as error:
                raise DataError(f"{printable(str(self.base / name))}: {error.strerror}") from None
            digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def tell(self) -> Listing:
        """Itself, after its remarks were printed on stderr."""
        for line in self.remarks:
            note(line)
        return self


def list_images(folder: Path, split: str, *, name: str | None = None, classes: Sequence[str] | None = None) -> Listing:
    """List a split of an image folder.

    Args:
        folder: holds the splits' folders, or is the training split itself.
        split: ``train`` or ``test``.
        name: of the set; by default the folder's.
        classes: only these, in this order. None: all; of a test split those that the training split has.

    Raises:
        DataError: there is nothing to list, or the folder can be read in two ways. Names them and the way out.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r}: wanted one of {', '.join(SPLITS)}")
    bases = split_folders(folder, split)
    train = split_folders(folder, "train")[0] if split == "test" and has_split(folder, "train") else None
    wanted = list(classes) if classes is not None else _class_folders(train)
    base = next((one for one in bases if _may_have(one, wanted)), bases[0])
    remarks = [f"{_shown(one)}: without labels; {_shown(base)} is read" for one in bases[: bases.index(base)]]
    over = PassedOver()
    found, there, source = _list(base, wanted, None if classes is not None else train, over)
    if beside := beside_splits(folder, base):
        remarks.append(f"{_shown(folder)}: {beside} beside {base.name}/ passed over")
    if over.kinds:
        remarks.append(f"{_shown(base)}: passed over {over.words()}")
    remarks += _nested(base, there, found)
    if source:
        remarks.append(f"{_shown(base)}: {len(found)} images of {len(there)} classes, labelled{source}")
    return Listing(
        name=name or folder.resolve().name,
        base=base,
        classes=tuple(there),
        names=[one for one, _ in found],
        labels=np.array([label for _, label in found], dtype=np.int64),
        split=f"its {base.name}/ folder{source}",
        remarks=tuple(remarks),
    )


def list_pair(
    folder: Path, *, name: str | None = None, classes: Sequence[str] | None = None
) -> tuple[Listing, Listing]:
    """The training and the test images of a folder, labelled, with the same classes in both.

    Raises:
        DataError: as ``list_images``, or there are no classes.
    """
    train = list_images(folder, "train", name=name, classes=classes)
    if not train.classes:
        raise DataError(f"{_shown(train.base)}: no subfolder for each class; wanted labelled images")
    return train, list_images(folder, "test", name=name, classes=classes)


def _list(base: Path, wanted: list[str], train: Path | None, over: PassedOver) -> tuple[Found, Sequence[str], str]:
    """Images with labels, classes, and what else than folders gave the labels. ``wanted``: empty = whatever there is."""
    there = subfolders(base)
    table = find_annotations(base) if wanted and not set(there) & set(wanted) else None
    bare = bare_images(base, over, but=table.name if table else "")
    if wanted and not set(there) & set(wanted):
        if table:
            return read_annotations(base, table, wanted, over), wanted, f" with {table.name}"
        raise DataError(
            f"{_shown(base)}: {contents(there, bare)}, none of the {len(wanted)} classes of {_shown(train or base)}; "
            f"wanted a folder for each; for images without labels give {_shown(base)} itself"
        )
    if bare:
        for name in there:
            if walk(base, name, over):
                raise DataError(
                    f"{_shown(base)}: {contents(there, bare)}; wanted either folders of classes or images without labels: "
                    "move one kind elsewhere"
                )
        if there:
            over.add("folders without images", there)
        return [(name, -1) for name in bare], (), ""
    if not there:
        raise no_images(base, over)
    return _by_class(base, there, wanted, train, over), wanted or there, ""


def _by_class(base: Path, there: list[str], wanted: list[str], train: Path | None, over: PassedOver) -> Found:
    if missing := sorted(set(wanted) - set(there)):
        raise DataError(
            f"{_shown(base)}: no folder of {len(missing)} of {len(wanted)} classes, e.g. {printable(missing[0])}"
        )
    if train is not None and (extra := sorted(set(there) - set(wanted or there))):
        raise DataError(f"{_shown(base / extra[0])}: a class that {_shown(train)} lacks")
    found: Found = []
    for label, class_name in enumerate(wanted or there):
        here = PassedOver()
        names = walk(base, class_name, here)
        if not names:
            raise no_images(base / class_name, here, " in this class folder")
        inner = _inner(names)
        if (splits := split_names(inner)) and (len(splits) > 1 or len(there) == len(inner) == 1):
            raise DataError(
                f"{_shown(base / class_name)}: holds {splits[0]}/, a split, not images of one class; give this folder itself"
            )
        found += [(name, label) for name in names]
        over.join(here)
    return found


def _nested(base: Path, classes: Sequence[str], found: Found) -> list[str]:
    """A hint about a set of one class whose images lie deeper: its folders may be the classes."""
    inner = _inner([name for name, _ in found]) if len(classes) == 1 else []
    if len(inner) < 2 or any(name.count("/") == 1 for name, _ in found):
        return []
    shown = ", ".join(printable(name) for name in inner[:3])
    return [f"{_shown(base)}: one class, {printable(classes[0])}, with folders in it ({shown}{', ...' * (len(inner) > 3)}); "
            f"give {_shown(base / classes[0])} if these are the classes"]  # fmt: skip


def _inner(names: list[str]) -> list[str]:
    """The folders inside a class folder that images come from, sorted."""
    return sorted({name.split("/", 2)[1] for name in names if name.count("/") > 1})


def _class_folders(train: Path | None) -> list[str]:
    """The classes of a training split; empty if it has none."""
    return [] if train is None or bare_images(train, PassedOver()) else subfolders(train)


def _may_have(base: Path, classes: list[str]) -> bool:
    return not classes or bool(set(subfolders(base)) & set(classes)) or find_annotations(base) is not None


def find_annotations(base: Path) -> Path | None:
    """The list of labels in a split's folder, if there is one."""
    for name in (f"{base.name.lower()}_annotations.txt", "val_annotations.txt"):
        if (base / name).is_file():
            return base / name
    return None


def read_annotations(base: Path, table: Path, classes: Sequence[str], over: PassedOver) -> list[tuple[str, int]]:
    """Images with their labels, sorted by label, then name. Images that the table lacks go to ``over``.

    Args:
        base: the split's folder; the images lie in its ``images/``, or in it.
        table: from ``find_annotations``.
        classes: their places are the labels.

    Raises:
        DataError: the table names a class or file that is not there, names a file twice, or gives a class no image.
    """
    names = walk(base, "images", over) if (base / "images").is_dir() else bare_images(base, PassedOver())
    places = {name.rpartition("/")[2]: name for name in names}
    numbers = {name: label for label, name in enumerate(classes)}
    where = printable(str(table))
    labels: dict[str, int] = {}
    try:
        lines = read_bounded(table, LARGEST, DataError, follow=True).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    for k, line in enumerate(lines, 1):
        if not line.strip():
            continue
        file, _, rest = line.partition("\t")
        class_name = rest.partition("\t")[0].strip()
        if class_name not in numbers:
            raise DataError(f"{where}: line {k}: class {shown(class_name)}, which is no folder of the training images")
        if file not in places:
            raise DataError(f"{where}: line {k}: no image {shown(file)} in {printable(str(base))}")
        if places[file] in labels:
            raise DataError(f"{where}: line {k}: {shown(file)} is listed twice")
        labels[places[file]] = numbers[class_name]
    if missing := sorted(set(range(len(classes))) - set(labels.values())):
        raise DataError(
            f"{where}: no image of {len(missing)} of {len(classes)} classes, e.g. {printable(classes[missing[0]])}"
        )
    if unlabelled := [name for name in names if name not in labels]:
        over.add(f"images that {table.name} lacks", unlabelled)
    return sorted(labels.items(), key=lambda item: (item[1], item[0]))


def _shown(path: Path) -> str:
    return printable(str(path))

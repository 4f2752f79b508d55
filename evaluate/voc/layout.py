"""Splits of data sets in Pascal VOC's layout: ``Annotations/*.xml``, ``ImageSets/Main/SPLIT.txt``, ``JPEGImages/*``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from genrep.errors import DataError
from genrep.files import digest_json
from genrep.images.folders import image_suffixes
from genrep.images.inventory import Inventory, inventory_of_files
from genrep.images.reading import read_rgb, read_size
from genrep.machine import cores
from genrep.progress import note
from genrep.untrusted import printable, shown

from .files import Annotated, ImageNames, ListLine, read_annotation, read_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDERS = ("Annotations", "ImageSets/Main", "JPEGImages")
NO_BOX = "dropped: without a <bndbox>"
SWAPPED = "dropped: a box with xmax < xmin or ymax < ymin (corners swapped, or x, y, width, height)"
OTHER_CLASS = "dropped: not of the classes asked for"
NO_AREA = "dropped: a box of no area"


@dataclass(frozen=True, kw_only=True)
class VocImage:
    """An image with its objects."""

    name: str  # as in the list of its split
    path: Path
    annotation: Path
    width: int
    height: int
    boxes: NDArray[np.float32]  # (K, 4): x0, y0, x1, y1 in pixels: VOC's xmin - 1, ymin - 1, xmax, ymax
    labels: NDArray[np.int64]  # (K,): numbers of classes, from 0
    difficult: NDArray[np.bool_]  # (K,)

    def annotation_digest(self, classes: Sequence[str]) -> str:
        """Hex sha256 of the image's size and objects, without its pixels."""
        objects = zip(self.labels.tolist(), self.boxes.tolist(), self.difficult.tolist())
        told = [[classes[label], *box, difficult] for label, box, difficult in objects]
        return digest_json([self.width, self.height, told])


@dataclass(frozen=True, kw_only=True)
class VocSplit:
    """The images of a split, in the order of its list (or lists), and what was left out of them."""

    name: str
    images: tuple[VocImage, ...]
    classes: tuple[str, ...]
    dropped: dict[str, list[str]]  # reason -> file of every object concerned

    @property
    def title(self) -> str:
        """Which images these are, in words."""
        return f"split {self.name}"

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def inventory(self) -> Inventory:
        """Every image with the digest of its content and that of its objects. Raises DataError if one cannot be read."""
        annotations = [image.annotation_digest(self.classes) for image in self.images]
        paths = [str(image.path) for image in self.images]
        return inventory_of_files(paths, annotations, self.classes, what=f"split {self.name}", word="annotation")

    def of_classes(self, classes: tuple[str, ...]) -> VocSplit:
        """The same images with the objects of these classes only."""
        if classes == self.classes:
            return self
        numbers = np.array([classes.index(name) if name in classes else -1 for name in self.classes], dtype=np.int64)
        dropped = {reason: [*files] for reason, files in self.dropped.items()}
        images = []
        for image in self.images:
            labels = numbers[image.labels] if len(image.labels) else image.labels
            kept = labels >= 0
            dropped.setdefault(OTHER_CLASS, []).extend([printable(image.annotation.name)] * int((~kept).sum()))
            images.append(replace(image, boxes=image.boxes[kept], labels=labels[kept], difficult=image.difficult[kept]))
        dropped = {reason: files for reason, files in dropped.items() if files}
        return VocSplit(name=self.name, images=tuple(images), classes=classes, dropped=dropped)

    def remarks(self) -> list[str]:
        """A line for each kind of thing that was dropped or changed."""
        return [
            f"{self.name}: {len(files)} {'object' if len(files) == 1 else 'objects'} {reason}, e.g. in {files[0]}"
            for reason, files in self.dropped.items()
        ]


@dataclass(frozen=True)
class _Raw:
    name: str
    path: Path
    image: Path
    size: tuple[int, int]
    objects: list[Annotated]
    boxless: int


def check_root(root: Path) -> None:
    """Raises DataError if the folder is not in VOC's layout, naming a subfolder that is."""
    if not root.is_dir():
        raise DataError.naming("{data} {}: no such folder", root)
    missing = [name for name in FOLDERS if not (root / name).is_dir()]
    if not missing:
        return
    inside = sorted(path.parent for path in root.glob("*/Annotations"))
    inside += sorted(path.parent for path in root.glob("VOCdevkit/*/Annotations"))
    hint = f"; {inside[0]} may be meant" if inside else ""
    raise DataError.naming(
        "{data} {}: has no {}; wanted a folder in Pascal VOC's layout{}", root, " and no ".join(missing), hint
    )


def read_split(
    roots: Sequence[Path], split: str, classes: Sequence[str] | None = None, *, empty: bool = False
) -> VocSplit:
    """Read a split (``train``, ``val``, ``trainval``, ``test``, …) of one folder, or of several one after the other (VOC07+12).

    Objects without a box, boxes of no area or with swapped corners and those that lie outside their image are dropped, boxes
    that reach out of it are cut, objects of classes that ``classes`` does not name are dropped: ``VocSplit.dropped`` tells
    which.

    Args:
        classes: names in the order of their numbers; None takes those that occur, sorted.
        empty: take classes that have no object in the split.

    Raises:
        DataError: a folder, list, annotation or image is missing or unreadable, a list names an image twice, or a class
            has no object in the split.
    """
    raws = []
    for root in roots:
        check_root(root)
        images = ImageNames(root / "JPEGImages")
        raws += [_read(root, one, images) for one in read_list(root, split)]
    if classes is None:
        classes = sorted({item.name for raw in raws for item in raw.objects})
    numbers = {name: number for number, name in enumerate(classes)}
    dropped: dict[str, list[str]] = {}
    found = VocSplit(
        name=split,
        images=tuple(_image(raw, numbers, dropped) for raw in raws),
        classes=tuple(classes),
        dropped=dropped,
    )
    counts = np.bincount(np.concatenate([image.labels for image in found.images]), minlength=len(classes))
    lacking = [shown(name) for name, count in zip(classes, counts) if not count]
    if not classes or not counts.any() or (lacking and not empty):
        named = f"no object of class {', '.join(lacking[:20])}" if lacking else "no object"
        why = "; ".join(found.remarks())
        raise DataError(
            f"{printable(str(roots[0]))}, split {split}: {named}; wanted at least one of each class{f' ({why})' if why else ''}"
        )
    return found


def _read(root: Path, listed: ListLine, images: ImageNames) -> _Raw:
    size, objects, boxless = read_annotation(listed.annotation)
    image = images.find(listed)
    if image is None:
        raise DataError(
            f"{printable(str(root / 'JPEGImages' / listed.name))}: no such image ({', '.join(image_suffixes())}), "
            "but its split lists it"
        )
    return _Raw(listed.name, listed.annotation, image, size or _measure(image), objects, boxless)


def _image(raw: _Raw, numbers: dict[str, int], dropped: dict[str, list[str]]) -> VocImage:
    width, height = raw.size
    boxes: list[tuple[float, float, float, float]] = []
    kept: list[Annotated] = []

    def drop(reason: str) -> None:
        dropped.setdefault(reason, []).append(printable(raw.path.name))

    for _ in range(raw.boxless):
        drop(NO_BOX)
    for item in raw.objects:
        xmin, ymin, xmax, ymax = item.box
        box = (max(xmin - 1, 0.0), max(ymin - 1, 0.0), min(xmax, float(width)), min(ymax, float(height)))
        if item.name not in numbers:
            drop(OTHER_CLASS)
        elif xmax < xmin or ymax < ymin:
            drop(SWAPPED)
        elif xmax == xmin or ymax == ymin:
            drop(NO_AREA)
        elif box[2] <= box[0] or box[3] <= box[1]:
            drop("dropped: a box outside its image")
        else:
            if xmin < 0 or ymin < 0 or xmax > width or ymax > height:
                drop("cut: a box that reaches out of its image")
            boxes.append(box)
            kept.append(item)
    return VocImage(
        name=raw.name,
        path=raw.image,
        annotation=raw.path,
        width=width,
        height=height,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array([numbers[item.name] for item in kept], dtype=np.int64),
        difficult=np.array([item.difficult for item in kept], dtype=np.bool_),
    )


def read_pixels(image: VocImage) -> Any:
    """The image as a PIL image in RGB. Raises DataError if it is damaged, or not of the size that its annotation tells."""
    pixels = read_rgb(image.path)
    if pixels.size != (image.width, image.height):
        raise DataError(
            f"{printable(str(image.path))}: is {pixels.width}x{pixels.height}, but its annotation says "
            f"{image.width}x{image.height}"
        )
    return pixels


def _measure(path: Path) -> tuple[int, int]:
    height, width = read_size(path)
    return width, height


MEASURABLE = "measurable"  # in the place of the classes' names
MOST_TOLD = 30  # classes that a message names


def measured_classes(
    data: Path, classes: Sequence[str], reasons: Mapping[str, str], *, measurable: bool, silent: bool = False
) -> tuple[str, ...]:
    """The classes that are measured, in order.

    Args:
        reasons: why a class cannot be measured.
        measurable: leave those out, and say so on stderr (unless ``silent``).

    Raises:
        DataError: a class cannot be measured and ``measurable`` was not asked for, or none can; it names them with the reasons.
    """
    if not reasons:
        return tuple(classes)
    where = printable(str(data))
    left = tuple(name for name in classes if name not in reasons)
    told = "; ".join(f"{shown(name)}: {why}" for name, why in list(reasons.items())[:MOST_TOLD])
    told += f"; and {len(reasons) - MOST_TOLD} more" if len(reasons) > MOST_TOLD else ""
    what = f"{len(reasons)} of {len(classes)} classes cannot be measured ({told})"
    if not left:
        raise DataError.naming("{data} {}: {}; wanted at least one class that can", where, what)
    if not measurable:
        raise DataError.naming(
            "{data} {}: {}; give {classes} {} for the other {}, or their names", where, what, MEASURABLE, len(left)
        )
    if not silent:
        note(f"{where}: {what}; the other {len(left)} are")
    return left


Result = TypeVar("Result")


def ahead(
    load: Callable[[int], Result], numbers: range, workers: int | None = None, depth: int | None = None
) -> Iterator[Result]:
    """``load`` of each number in order, by threads that are at most ``depth`` ahead; an error arrives in its turn.

    Args:
        workers: threads; None: one per core.
        depth: None: two per thread.
    """
    workers = workers or cores()
    depth = depth or 2 * workers
    pool = ThreadPoolExecutor(workers, thread_name_prefix="voc-reader")
    waiting: deque[Future[Result]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(load, number))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

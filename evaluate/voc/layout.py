"""Splits of data sets in Pascal VOC's layout: ``Annotations/*.xml``, ``ImageSets/Main/SPLIT.txt``, ``JPEGImages/*``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import DataError

from .annotation import Annotated, read_annotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDERS = ("Annotations", "ImageSets/Main", "JPEGImages")
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True)
class VocImage:
    """An image with its objects."""

    name: str  # as in the list of its split
    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]  # (K, 4): x0, y0, x1, y1 in pixels: VOC's xmin - 1, ymin - 1, xmax, ymax
    labels: NDArray[np.int64]  # (K,): numbers of classes, from 0
    difficult: NDArray[np.bool_]  # (K,)


@dataclass(frozen=True, kw_only=True)
class VocSplit:
    """The images of a split, in the order of its list (or lists), and what was left out of them."""

    name: str
    images: tuple[VocImage, ...]
    classes: tuple[str, ...]
    dropped: dict[str, list[str]]  # reason -> file of every object concerned

    def __len__(self) -> int:
        return len(self.images)

    def remarks(self) -> list[str]:
        """A line for each kind of thing that was dropped or changed."""
        return [
            f"{self.name}: {len(files)} {'object' if len(files) == 1 else 'objects'} {reason}, e.g. in {files[0]}"
            for reason, files in self.dropped.items()
        ]


@dataclass(frozen=True)
class _Raw:
    path: Path
    image: Path
    size: tuple[int, int]
    objects: list[Annotated]


def check_root(root: Path) -> None:
    """Raises DataError if the folder is not in VOC's layout, naming a subfolder that is."""
    missing = [name for name in FOLDERS if not (root / name).is_dir()]
    if not missing:
        return
    inside = sorted(path.parent for path in root.glob("*/Annotations")) if root.is_dir() else []
    inside += sorted(path.parent for path in root.glob("VOCdevkit/*/Annotations")) if root.is_dir() else []
    hint = f"; {inside[0]} may be meant" if inside else ""
    raise DataError(f"--data {root}: has no {' and no '.join(missing)}; wanted a folder in Pascal VOC's layout{hint}")


def read_split(roots: Sequence[Path], split: str, classes: Sequence[str] | None = None) -> VocSplit:
    """Read a split (``train``, ``val``, ``trainval``, ``test``, …) of one folder, or of several one after the other (VOC07+12).

    Boxes of no area and those that lie outside their image are dropped, boxes that reach out of it are cut, objects of
    classes that ``classes`` does not name are dropped: ``VocSplit.dropped`` tells which.

    Args:
        classes: names in the order of their numbers; None takes those that occur, sorted.

    Raises:
        DataError: a folder, list, annotation or image is missing or unreadable, a list names an image twice, or a class
            has no object in the split.
    """
    raws = [_read(root, name) for root in roots for name in _names(root, split)]
    if classes is None:
        classes = sorted({item.name for raw in raws for item in raw.objects})
    numbers = {name: number for number, name in enumerate(classes)}
    dropped: dict[str, list[str]] = {}
    images = tuple(_image(raw, numbers, dropped) for raw in raws)
    counts = np.bincount(np.concatenate([image.labels for image in images]), minlength=len(classes))
    empty = [name for name, count in zip(classes, counts) if not count]
    if empty or not classes:
        named = f"class {empty[0]!r} has no object" if empty else "there is no object"
        raise DataError(f"{roots[0]}, split {split}: {named}; wanted at least one of each class")
    return VocSplit(name=split, images=images, classes=tuple(classes), dropped=dropped)


def _names(root: Path, split: str) -> list[str]:
    """The list of a split: one name a line, with or without VOC's label behind it, whatever ends the lines."""
    check_root(root)
    path = root / "ImageSets/Main" / f"{split}.txt"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        there = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
        raise DataError(f"{path}: no such list; this folder has {', '.join(there) or 'none'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path}: empty; wanted one image a line")
    for name in names:
        if Path(name).name != name or name in (".", ".."):
            raise DataError(f"{path}: {name!r} is no bare name of an image")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: names {twice} twice")
    return names


def _read(root: Path, name: str) -> _Raw:
    path = root / "Annotations" / f"{name}.xml"
    size, objects = read_annotation(path)
    image = next((p for s in SUFFIXES if (p := root / "JPEGImages" / f"{name}{s}").is_file()), None)
    if image is None:
        raise DataError(f"{root / 'JPEGImages' / name}: no such image ({', '.join(SUFFIXES)}), but its split lists it")
    return _Raw(path, image, size or _measure(image), objects)


def _image(raw: _Raw, numbers: dict[str, int], dropped: dict[str, list[str]]) -> VocImage:
    width, height = raw.size
    boxes: list[tuple[float, float, float, float]] = []
    kept: list[Annotated] = []

    def drop(reason: str) -> None:
        dropped.setdefault(reason, []).append(raw.path.name)

    for item in raw.objects:
        xmin, ymin, xmax, ymax = item.box
        box = (max(xmin - 1, 0.0), max(ymin - 1, 0.0), min(xmax, float(width)), min(ymax, float(height)))
        if item.name not in numbers:
            drop("dropped: not of the classes asked for")
        elif xmax <= xmin or ymax <= ymin:
            drop("dropped: a box of no area")
        elif box[2] <= box[0] or box[3] <= box[1]:
            drop("dropped: a box outside its image")
        else:
            if xmin < 0 or ymin < 0 or xmax > width or ymax > height:
                drop("cut: a box that reaches out of its image")
            boxes.append(box)
            kept.append(item)
    return VocImage(
        name=raw.image.stem,
        path=raw.image,
        width=width,
        height=height,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array([numbers[item.name] for item in kept], dtype=np.int64),
        difficult=np.array([item.difficult for item in kept], dtype=np.bool_),
    )


def read_pixels(image: VocImage) -> Any:
    """The image as a PIL image in RGB. Raises DataError if it is damaged, or not of the size that its annotation tells."""
    from PIL import Image

    try:
        with Image.open(image.path) as file:
            pixels = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{image.path}: not a readable image ({str(error).splitlines()[0]})") from error
    if pixels.size != (image.width, image.height):
        raise DataError(
            f"{image.path}: is {pixels.width}x{pixels.height}, but its annotation says {image.width}x{image.height}"
        )
    return pixels


def _measure(path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as file:
            width, height = file.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({str(error).splitlines()[0]})") from error
    return width, height

"""Images with index masks: Pascal VOC's SegmentationClass, ADE20K, or any folder of images and masks.

A mask has one class index a pixel. Its file is an image of one channel, or has a palette, whose colours mean nothing.
255 is void.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genrep.contents import digest_files
from genrep.errors import DataError
from genrep.evaluate.voc.layout import ahead
from genrep.images.folders import PassedOver, image_suffixes, no_images, subfolders, walk
from genrep.images.inventory import Inventory, inventory_of_files
from genrep.images.reading import opened, read_rgb, read_size
from genrep.progress import Progress
from genrep.untrusted import content_faults, printable, read_bounded

if TYPE_CHECKING:
    from PIL.Image import Image

Mask = NDArray[np.uint8]
VOID = 255
WIDEST = 20  # longer side to shorter: the shorter one is resized to a fixed number of pixels
MOST_LIST_BYTES = 256 << 20
INDEX_MODES = ("1", "L", "P", "I;16", "I;16B", "I")  # Pillow's, of images with one number a pixel
MASKS = ("masks", "annotations", "labels")  # folders beside images/
VOC_CLASSES = (
    *(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
    ),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
ADE_CLASSES = 150
ADE_MARK = "objectInfo150.txt"
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image file with its mask's."""

    image: Path
    mask: Path


@dataclass(frozen=True, kw_only=True)
class SegmentationSplit:
    """Images with masks, in order."""

    name: str
    layout: str  # of its folder
    pairs: tuple[Pair, ...]
    classes: tuple[str, ...]
    reduce_zero_label: bool  # 0 is void in the files, and 1 the first class
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Which images these are, in words."""
        return f"split {self.name}"

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def inventory(self) -> Inventory:
        """Every image with the digests of its content and of its mask's. Raises DataError if one cannot be read."""
        digests = digest_files([str(pair.mask) for pair in self.pairs], f"masks of split {self.name}")
        labels = [row.tobytes().hex() for row in digests]
        paths = [str(pair.image) for pair in self.pairs]
        return inventory_of_files(paths, labels, self.classes, what=f"split {self.name}", word="mask")

    def open(self, index: int) -> tuple[Image, Mask]:
        """An image in RGB with the numbers of its pixels' classes. Shape of the mask: ``(H, W)``.

        Raises DataError: one of them cannot be read, they differ in size, or the mask has an index that is no class.
        """
        mask = self.mask(index)
        return read_rgb(self.pairs[index].image), mask

    def mask(self, index: int) -> Mask:
        """The numbers of the pixels' classes alone. Shape: ``(H, W)``. Raises DataError: see ``open``."""
        pair = self.pairs[index]
        height, width = read_size(pair.image)
        mask = self._numbered(read_indices(pair.mask), pair.mask)
        if mask.shape != (height, width):
            raise DataError(
                f"{printable(str(pair.mask))}: is {mask.shape[1]}x{mask.shape[0]}, but its image "
                f"{printable(pair.image.name)} is {width}x{height}; wanted a mask of the image's size"
            )
        if max(height, width) > WIDEST * min(height, width):
            raise DataError(
                f"{printable(str(pair.image))}: is {width}x{height}; wanted sides that differ by a factor of at most {WIDEST}"
            )
        return mask

    def _numbered(self, indices: Mask, path: Path) -> Mask:
        """Class numbers in place of a file's indices."""
        first, count = int(self.reduce_zero_label), len(self.classes)
        table = np.full(256, VOID, dtype=np.uint8)
        table[first : first + count] = np.arange(count)
        there = np.bincount(indices.ravel(), minlength=256) > 0
        there[:first] = there[VOID] = False
        if wrong := np.flatnonzero(there[first + count :]).tolist():
            raise DataError.naming(
                "{}: holds index {}; wanted {} to {}, or {} for void; give more {classes}, or mend the mask",
                printable(str(path)),
                first + count + wrong[0],
                0,
                first + count - 1,
                VOID,
            )
        numbers: Mask = table[indices]
        return numbers


def read_indices(path: Path) -> Mask:
    """The indices of a mask's file, whatever its palette. Raises DataError if it cannot be read or has several channels."""
    where = printable(str(path))
    with opened(path) as image:
        if image.mode not in INDEX_MODES:
            raise DataError(
                f"{where}: an image of mode {image.mode}; wanted a mask with one class index a pixel (8-bit gray or a palette)"
            )
        values = np.asarray(image)
    if values.min(initial=0) < 0 or values.max(initial=0) > VOID:
        raise DataError(f"{where}: holds indices from {values.min()} to {values.max()}; wanted 0 to {VOID}")
    return np.ascontiguousarray(values.astype(np.uint8))


def check_readable(split: SegmentationSplit, workers: int | None = None) -> None:
    """Decode everything. Raises DataError with the fault of the first pair that cannot be used, and names the others."""

    def fault(index: int) -> DataError | None:
        try:
            split.open(index)
        except DataError as error:
            return error
        return None

    found: list[tuple[int, DataError]] = []
    with Progress(len(split), "image", f"reading split {split.name}") as progress:
        for index, error in enumerate(ahead(fault, range(len(split)), workers)):
            found += [(index, error)] if error is not None else []
            progress.update(1)
    if not found:
        return
    if len(found) == 1:
        raise found[0][1]
    others = ", ".join(printable(split.pairs[index].image.name) for index, _ in found[1:11])
    raise DataError.naming("{}; so are {} more of the split: {}", found[0][1], len(found) - 1, others)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a folder holds its splits, with what is usual there."""

    name: str
    root: Path
    classes: tuple[str, ...] = ()  # none: nothing tells them
    reduce_zero_label: bool = False

    def usual_split(self, *, test: bool) -> str:
        """The name of the training or test split where none is asked for. Raises DataError if the folder has none."""
        if self.name == "voc":
            return "val" if test else "train"
        there, names = _splits(self.root), TEST if test else TRAIN
        found = next((name for name in names if name in there), None)
        if found is None:
            raise DataError.naming(
                "{data} {}: none of its splits ({}) is called {}; give {test_split}"
                if test
                else "{data} {}: none of its splits ({}) is called {}; give {train_split}",
                printable(str(self.root)),
                ", ".join(map(printable, there)),
                " or ".join(names),
            )
        return found

    def pairs(self, split: str) -> tuple[list[Pair], list[str]]:
        """The images of a split with their masks, and remarks. Raises DataError if one has no mask, or there are none."""
        return _voc_pairs(self.root, split) if self.name == "voc" else _folder_pairs(self.root, split)


def find_layout(root: Path) -> Layout:
    """The layout of a folder. Raises DataError if it has none, naming a folder inside that may be meant."""
    where = printable(str(root))
    if not root.is_dir():
        raise DataError.naming("{data} {}: no such folder", where)
    if (root / "ImageSets/Segmentation").is_dir():
        return Layout(name="voc", root=root, classes=VOC_CLASSES)
    if _splits(root):
        if (root / ADE_MARK).is_file() or root.resolve().name.startswith("ADEChallengeData"):
            names = tuple(str(number) for number in range(1, ADE_CLASSES + 1))
            return Layout(name="ade20k", root=root, classes=names, reduce_zero_label=True)
        return Layout(name="folder", root=root)
    inside = [
        path.parents[1] for above in ("*", "*/*") for path in sorted(root.glob(f"{above}/ImageSets/Segmentation"))
    ]
    inside += [path.parent for path in sorted(root.glob(f"*/{ADE_MARK}"))]
    hint = f"; {printable(str(inside[0]))} may be meant" if inside else ""
    raise DataError.naming(
        "{data} {}: wanted ImageSets/Segmentation (Pascal VOC), or images/SPLIT/ and {}/SPLIT/, or SPLIT/images/ and "
        "SPLIT/{}/{}",
        where,
        "|".join(MASKS),
        "|".join(MASKS),
        hint,
    )


def _splits(root: Path) -> list[str]:
    """Splits of a folder of images and masks: those with both."""
    names = {name for folder in (root, root / "images") if folder.is_dir() for name in subfolders(folder)}
    return [name for name in sorted(names) if _folders(root, name) is not None]


def _folders(root: Path, split: str) -> tuple[Path, Path] | None:
    """The folders of a split's images and masks."""
    for masks in MASKS:
        for pair in ((root / "images" / split, root / masks / split), (root / split / "images", root / split / masks)):
            if all(folder.is_dir() for folder in pair):
                return pair
    return None


def _folder_pairs(root: Path, split: str) -> tuple[list[Pair], list[str]]:
    folders = _folders(root, split)
    if folders is None:
        there = ", ".join(map(printable, _splits(root)))
        raise DataError(
            f"{printable(str(root))}: no images and masks of split {printable(split)}; this folder has {there}"
        )
    images, masks = folders
    over = PassedOver()
    found = {_stem(name): name for name in _below(images, over)}
    if not found:
        raise no_images(images, over)
    by_stem: dict[str, str] = {}
    for name in _below(masks, over):
        if (stem := _stem(name)) in by_stem:
            raise DataError(
                f"{printable(str(masks))}: {printable(by_stem[stem])} and {printable(name)} are masks of one image"
            )
        by_stem[stem] = name
    _check_masks({images / name: masks / f"{stem}.png" for stem, name in found.items() if stem not in by_stem})
    remarks = [f"{printable(str(images.parent))}: passed over {over.words()}"] if over.kinds else []
    if extra := sorted(set(by_stem) - set(found)):
        remarks.append(
            f"{printable(str(masks))}: {len(extra)} masks without an image, e.g. {printable(by_stem[extra[0]])}"
        )
    pairs = [Pair(image=images / name, mask=masks / by_stem[stem]) for stem, name in found.items()]
    return pairs, remarks


def _below(folder: Path, over: PassedOver) -> list[str]:
    """Images at any depth, relative to the folder."""
    return [name.partition("/")[2] for name in walk(folder.parent, folder.name, over)]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _check_masks(lacking: dict[Path, Path]) -> None:
    if lacking:
        image, mask = next(iter(lacking.items()))
        more = f" (nor have {len(lacking) - 1} more images one)" if len(lacking) > 1 else ""
        raise DataError(f"{printable(str(mask))}: no such mask, but there is an image {printable(image.name)}{more}")


def _voc_pairs(root: Path, split: str) -> tuple[list[Pair], list[str]]:
    pairs = []
    for name in _voc_list(root, split):
        suffixes = (suffix for suffix in image_suffixes() if (root / "JPEGImages" / f"{name}{suffix}").is_file())
        suffix = next(suffixes, None)
        if suffix is None:
            raise DataError(
                f"{printable(str(root / 'JPEGImages' / name))}: no such image ({', '.join(image_suffixes())}), but split "
                f"{printable(split)} lists it"
            )
        image = root / "JPEGImages" / f"{name}{suffix}"
        pairs.append(Pair(image=image, mask=root / "SegmentationClass" / f"{name}.png"))
    _check_masks({pair.image: pair.mask for pair in pairs if not pair.mask.is_file()})
    return pairs, []


def _voc_list(root: Path, split: str) -> list[str]:
    path = root / "ImageSets/Segmentation" / f"{split}.txt"
    where = printable(str(path))
    if not path.exists():
        there = ", ".join(printable(one.stem) for one in sorted(path.parent.glob("*.txt")))
        raise DataError(f"{where}: no such list; this folder has {there or 'none'}")
    data = read_bounded(path, MOST_LIST_BYTES, DataError, follow=True)
    with content_faults(path, DataError, "one image a line in UTF-8"):
        names = data.decode("utf-8-sig").split()
    if not names:
        raise DataError(f"{where}: no images; wanted one a line")
    if len(set(names)) < len(names):
        raise DataError(f"{where}: names an image twice")
    if wrong := [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise DataError(f"{where}: {printable(wrong[0])}; wanted the name of an image of this folder")
    return names


def read_splits(
    root: Path,
    names: tuple[str | None, str | None],
    classes: Sequence[str] | int | None,
    reduce_zero_label: bool | None,
) -> tuple[SegmentationSplit, SegmentationSplit]:
    """The training and the test split.

    Args:
        names: of the splits; None: the layout's usual ones.
        classes: their names in the order of their indices, or how many there are; None: the layout's.
        reduce_zero_label: whether 0 is void and 1 the first class; None: as usual in the layout.

    Raises:
        DataError: a folder, list, image or mask is missing, or nothing tells the classes.
    """
    layout = find_layout(root)
    reduced = layout.reduce_zero_label if reduce_zero_label is None else reduce_zero_label
    if isinstance(classes, int):
        classes = [str(number + reduced) for number in range(classes)]
    classes = tuple(classes or layout.classes)
    if not classes:
        raise DataError.naming(
            "{data} {}: a folder of images and masks does not tell its classes; give {classes}, their number or their names",
            printable(str(root)),
        )
    splits = []
    for given, test in zip(names, (False, True)):
        name = given or layout.usual_split(test=test)
        pairs, remarks = layout.pairs(name)
        splits.append(
            SegmentationSplit(
                name=name,
                layout=layout.name,
                pairs=tuple(pairs),
                classes=classes,
                reduce_zero_label=reduced,
                remarks=tuple(remarks),
            )
        )
    return splits[0], splits[1]

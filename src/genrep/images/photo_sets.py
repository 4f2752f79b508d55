"""How sets of photos are read where torchvision keeps them, with the splits of the papers.

Splits: Kornblith et al. 2019 and SimCLR, appendix B.8, unless the name says otherwise. Caltech-101: GenRep's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..untrusted import MAX_TEXT, content_faults, read_bounded
from .folders import PassedOver, bare_images
from .labelled import LabelledImages, MissingDataset, Pair

Loader = Callable[[str, Path, bool], Pair]  # name, root, download
CALTECH_TRAIN = 30  # images of each class
SUN_TRAIN = 0.8  # of each class: VISSL's training and validation images


class NotThere(Exception):
    """A set does not lie at the place that the exception names."""


def _path_itself(path: str | Path) -> str:
    """A torchvision "loader" that opens nothing."""
    return str(path)


def of_torchvision(class_name: str, folder: str, train: dict[str, Any], test: dict[str, Any]) -> Loader:
    """A set of torchvision's, whose files lie in ``folder`` under the root; several splits may be joined."""

    def load(name: str, root: Path, download: bool) -> Pair:
        import torchvision

        make = getattr(torchvision.datasets, class_name)
        if not download and not (root / folder).is_dir():
            raise NotThere(f"{root / folder}/")
        found = []
        for options in (train, test):
            parts = [make(root, split=split, download=download, **_others(options)) for split in options["splits"]]
            found.append(_joined(name, parts, options["splits"]))
        return found[0], found[1]

    return load


def _others(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "splits"}


def _joined(name: str, parts: list[Any], splits: tuple[str, ...]) -> LabelledImages:
    pairs = [pair for part in parts for pair in _pairs(part)]
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    classes = tuple(getattr(parts[0], "classes", ()) or map(str, range(1, int(labels.max()) + 2)))
    words = f"torchvision's split {' + '.join(splits)}"
    return LabelledImages(name, labels, classes, split=words, paths=[path for path, _ in pairs])


def _pairs(data: Any) -> list[tuple[str, int]]:
    if hasattr(data, "_images"):  # Oxford-IIIT Pet opens its images itself
        return list(zip(map(str, data._images), data._labels))
    return [data[i] for i in range(len(data))]


def with_loader(class_name: str, folder: str, train: tuple[str, ...], **options: Any) -> Loader:
    options = {"loader": _path_itself, **options}
    return of_torchvision(class_name, folder, {"splits": train, **options}, {"splits": ("test",), **options})


def caltech101(name: str, root: Path, download: bool) -> Pair:
    """30 images of each class for training: the first of its shuffled numbers, one stream for all classes (GenRep)."""
    import torchvision

    base = root / "caltech101" / "101_ObjectCategories"
    if download:
        torchvision.datasets.Caltech101(root, download=True)
    if not base.is_dir():
        raise NotThere(f"{base}/")
    classes = sorted(entry.name for entry in base.iterdir() if entry.is_dir() and entry.name != "BACKGROUND_Google")
    stream = random.Random(0)
    chosen: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label, class_name in enumerate(classes):
        files = _images_in(base / class_name)
        order = list(range(len(files)))
        stream.shuffle(order)
        chosen["train"] += [(str(files[i]), label) for i in order[:CALTECH_TRAIN]]
        chosen["test"] += [(str(files[i]), label) for i in order[CALTECH_TRAIN:]]
    words = f"{CALTECH_TRAIN} images a class, random.Random(0)"
    return (
        _files(name, chosen["train"], classes, words),
        _files(name, chosen["test"], classes, f"all but {words}"),
    )


def _files(name: str, pairs: list[tuple[str, int]], classes: list[str], split: str) -> LabelledImages:
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    return LabelledImages(name, labels, tuple(classes), split=split, paths=[path for path, _ in pairs])


def _images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    return [folder / name for name in bare_images(folder, PassedOver())]


def _sun_classes(name: str, root: Path, download: bool) -> tuple[Path, list[str]]:
    """The folder, and the classes as ``ClassName.txt`` lists them (``/a/abbey``)."""
    if download:
        import torchvision

        torchvision.datasets.SUN397(root, download=True)
    base = root / "SUN397"
    if not base.is_dir():
        raise NotThere(f"{base}/")
    return base, _words(base / "ClassName.txt")


def _words(path: Path) -> list[str]:
    data = read_bounded(path, MAX_TEXT, DataError, follow=True)
    with content_faults(path, DataError, "a list in UTF-8"):
        return data.decode().split()


def sun397(name: str, root: Path, download: bool) -> Pair:
    """The first of the ten published partitions: 50 training and 50 test images of each class."""
    base, classes = _sun_classes(name, root, download)
    numbers = {class_name: label for label, class_name in enumerate(classes)}
    found = []
    for part in ("Training_01.txt", "Testing_01.txt"):
        file = next(
            (f for f in (base / part, base / "Partitions" / part, root / "Partitions" / part) if f.is_file()), None
        )
        if file is None:
            raise MissingDataset(
                f"dataset {name}: no {part} in {base}/Partitions/; it is in "
                "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip (sun397_80_20 needs none)"
            )
        pairs = []
        for line in _words(file):
            class_name = line.rpartition("/")[0]
            if class_name not in numbers:
                raise DataError(f"{file}: {line}: a class that {base / 'ClassName.txt'} does not have")
            pairs.append((f"{base}{line}", numbers[class_name]))
        found.append(_files(name, pairs, classes, f"partition {part}"))
    return found[0], found[1]


def sun397_80_20(name: str, root: Path, download: bool) -> Pair:
    """80 % of each class, chosen by ``random.Random(0)``: VISSL's proportions, whose own choice nobody published."""
    base, classes = _sun_classes(name, root, download)
    stream = random.Random(0)
    chosen: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label, class_name in enumerate(classes):
        files = _images_in(base / class_name[1:])
        stream.shuffle(files)
        count = round(SUN_TRAIN * len(files))
        chosen["train"] += [(str(path), label) for path in files[:count]]
        chosen["test"] += [(str(path), label) for path in files[count:]]
    words = "80 % of each class, random.Random(0)"
    return _files(name, chosen["train"], classes, words), _files(name, chosen["test"], classes, f"all but {words}")

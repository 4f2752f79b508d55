"""Sets of photos by name, with the splits of the papers, where torchvision or an image folder keeps them.

Splits: Kornblith et al. 2019 and SimCLR, appendix B.8, unless the name says otherwise. Caltech-101: GenRep's. Metric: what is
usual for the set, top-1 or the mean of the classes' accuracies (the same sources).
"""

from __future__ import annotations

import importlib.resources
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..untrusted import MAX_TEXT, content_faults, read_bounded
from .files import ImageFiles, list_folder_pair
from .folders import PassedOver, bare_images
from .labelled import DOWNLOAD, MissingDataset
from .splits import has_split

TOP1, MEAN_PER_CLASS = "top-1", "mean per class"
CALTECH_TRAIN = 30  # images of each class
FOLDER_SETS = ("imagenet", "imagenet100")  # in image-folder layout: what training takes by name too
SUN_TRAIN = 0.8  # of each class: VISSL's training and validation images


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """Where a set comes from and how it is measured."""

    load: Callable[[str, Path, bool], tuple[ImageFiles, ImageFiles]]  # name, root, download
    get: str  # how to get it
    metric: str = TOP1

    @property
    def downloads(self) -> bool:
        """Whether ``download`` gets it."""
        return self.get == DOWNLOAD


def load_photo_set(name: str, root: Path | None, *, download: bool = False) -> tuple[ImageFiles, ImageFiles]:
    """Training and test images of one of ``PHOTO_SETS``.

    Raises:
        MissingDataset: it is not under ``root``; the message says how to get it.
        DataError: it is damaged: a label without a class, a class without images, a file that is not there.
    """
    if root is None:
        raise _rootless(name)
    if not download and not root.is_dir():
        raise MissingDataset(f"dataset {name}: not found: there is no folder {root}; {PHOTO_SETS[name].get}")
    try:
        train, test = PHOTO_SETS[name].load(name, root, download and PHOTO_SETS[name].downloads)
    except MissingDataset:
        raise
    except KeyError as error:
        raise DataError(f"dataset {name} under {root}: label {error} is not in its list of classes") from error
    except (OSError, RuntimeError, ValueError, IndexError, ImportError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"dataset {name} under {root}: {reason}") from error
    return train.checked(), test.checked()


def _rootless(name: str) -> DataError:
    return DataError(f"dataset {name}: give the folder that holds it as --root; {PHOTO_SETS[name].get}")


def _missing(name: str, where: str) -> MissingDataset:
    return MissingDataset(f"dataset {name}: not found as {where}; {PHOTO_SETS[name].get}")


def _path_itself(path: str | Path) -> str:
    """A torchvision "loader" that opens nothing."""
    return str(path)


def _of_torchvision(
    class_name: str, folder: str, train: dict[str, Any], test: dict[str, Any]
) -> Callable[[str, Path, bool], tuple[ImageFiles, ImageFiles]]:
    """A set of torchvision's, whose files lie in ``folder`` under the root; several splits may be joined."""

    def load(name: str, root: Path, download: bool) -> tuple[ImageFiles, ImageFiles]:
        import torchvision

        make = getattr(torchvision.datasets, class_name)
        if not download and not (root / folder).is_dir():
            raise _missing(name, f"{root / folder}/")
        found = []
        for options in (train, test):
            parts = [make(root, split=split, download=download, **_others(options)) for split in options["splits"]]
            found.append(_joined(name, parts, options["splits"]))
        return found[0], found[1]

    return load


def _others(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "splits"}


def _joined(name: str, parts: list[Any], splits: tuple[str, ...]) -> ImageFiles:
    pairs = [pair for part in parts for pair in _pairs(part)]
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    classes = tuple(getattr(parts[0], "classes", ()) or map(str, range(1, int(labels.max()) + 2)))
    words = f"torchvision's split {' + '.join(splits)}"
    return ImageFiles(name=name, paths=[path for path, _ in pairs], labels=labels, classes=classes, split=words)


def _pairs(data: Any) -> list[tuple[str, int]]:
    if hasattr(data, "_images"):  # Oxford-IIIT Pet opens its images itself
        return list(zip(map(str, data._images), data._labels))
    return [data[i] for i in range(len(data))]


def _with_loader(class_name: str, folder: str, train: tuple[str, ...], **options: Any) -> Any:
    options = {"loader": _path_itself, **options}
    return _of_torchvision(class_name, folder, {"splits": train, **options}, {"splits": ("test",), **options})


def _caltech101(name: str, root: Path, download: bool) -> tuple[ImageFiles, ImageFiles]:
    """30 images of each class for training: the first of its shuffled numbers, one stream for all classes (GenRep)."""
    import torchvision

    base = root / "caltech101" / "101_ObjectCategories"
    if download:
        torchvision.datasets.Caltech101(root, download=True)
    if not base.is_dir():
        raise _missing(name, f"{base}/")
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


def _files(name: str, pairs: list[tuple[str, int]], classes: list[str], split: str) -> ImageFiles:
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    paths = [path for path, _ in pairs]
    return ImageFiles(name=name, paths=paths, labels=labels, classes=tuple(classes), split=split)


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
        raise _missing(name, f"{base}/")
    return base, _words(base / "ClassName.txt")


def _words(path: Path) -> list[str]:
    data = read_bounded(path, MAX_TEXT, DataError, follow=True)
    with content_faults(path, DataError, "a list in UTF-8"):
        return data.decode().split()


def _sun397(name: str, root: Path, download: bool) -> tuple[ImageFiles, ImageFiles]:
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


def _sun397_80_20(name: str, root: Path, download: bool) -> tuple[ImageFiles, ImageFiles]:
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


def find_folder(name: str, root: Path | None) -> tuple[Path, list[str] | None]:
    """Where a set in image-folder layout lies, and which of the folder's classes it has (None: all).

    ``ROOT/name/``, or ``ROOT`` itself if it is called so; for imagenet100 ``ROOT/imagenet100/``, or the papers' 100 classes
    of ``ROOT/imagenet/`` or ``ROOT``.

    Raises:
        MissingDataset: it is not under ``root``.
        DataError: there is no ``root``.
    """
    if root is None:
        raise _rootless(name)
    if name != "imagenet100":
        for base in (root / name, *([root] if root.resolve().name == name else [])):
            if has_split(base, "train"):
                return base, None
        raise _missing(name, f"{root / name}/train/")
    if has_split(root / name, "train"):
        return root / name, None
    lines = (importlib.resources.files("genrep.images") / "imagenet100.txt").read_text().splitlines()
    wanted = sorted(line.split("\t")[1] for line in lines if line.strip() and not line.startswith("#"))
    for base in (root / "imagenet", root):
        if has_split(base, "train"):
            return base, wanted
    raise _missing(name, f"{root / name}/train/ or {root / 'imagenet'}/train/")


def _folder(name: str, root: Path, download: bool) -> tuple[ImageFiles, ImageFiles]:
    base, classes = find_folder(name, root)
    return list_folder_pair(base, name=name, classes=classes)


_IMAGENET = "wanted train/ and val/ with a folder for each WordNet id (image-net.org)"
_PETS = {"target_types": "category"}

PHOTO_SETS = {
    "food101": PhotoSet(load=_with_loader("Food101", "food-101", ("train",)), get=DOWNLOAD),
    "sun397": PhotoSet(load=_sun397, get=DOWNLOAD),
    "sun397_80_20": PhotoSet(load=_sun397_80_20, get=DOWNLOAD),
    "pets": PhotoSet(
        load=_of_torchvision(
            "OxfordIIITPet", "oxford-iiit-pet", {"splits": ("trainval",), **_PETS}, {"splits": ("test",), **_PETS}
        ),
        get=DOWNLOAD,
        metric=MEAN_PER_CLASS,
    ),
    "caltech101": PhotoSet(load=_caltech101, get=DOWNLOAD, metric=MEAN_PER_CLASS),
    "flowers102": PhotoSet(
        load=_with_loader("Flowers102", "flowers-102", ("train", "val")), get=DOWNLOAD, metric=MEAN_PER_CLASS
    ),
    "dtd": PhotoSet(load=_with_loader("DTD", "dtd", ("train", "val"), partition=1), get=DOWNLOAD),
    "stanford_cars": PhotoSet(
        load=_with_loader("StanfordCars", "stanford_cars", ("train",)),
        get="wanted torchvision's layout (cars_train/, cars_test/, devkit/, cars_test_annos_withlabels.mat)",
    ),
    "fgvc_aircraft": PhotoSet(
        load=_with_loader("FGVCAircraft", "fgvc-aircraft-2013b", ("trainval",)), get=DOWNLOAD, metric=MEAN_PER_CLASS
    ),
    "fgvc_aircraft_family": PhotoSet(
        load=_with_loader("FGVCAircraft", "fgvc-aircraft-2013b", ("trainval",), annotation_level="family"),
        get=DOWNLOAD,
        metric=MEAN_PER_CLASS,
    ),
    "birdsnap": PhotoSet(load=_folder, get="wanted train/ and test/ with a folder for each species"),
    "imagenet": PhotoSet(load=_folder, get=_IMAGENET),
    "imagenet100": PhotoSet(load=_folder, get=_IMAGENET),
}

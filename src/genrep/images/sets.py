"""Sets of labelled images by name: the one list of them, and how a name or a folder becomes images.

Small sets are read into memory: Fashion-MNIST (and MNIST) become 32x32 by zero padding and RGB by repeating the gray channel,
for generators, trainers and probes alike. Sets of photos stay files. Metric: what is usual for the set, top-1 or the mean of
the classes' accuracies (Kornblith et al. 2019; SimCLR, appendix B.8).
"""

from __future__ import annotations

import importlib.resources
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, Phrase, one_of, phrase
from . import idx
from .folders import SPLITS, has_split
from .labelled import MEAN_PER_CLASS, TOP1, LabelledImages, MissingDataset, Pair, list_folder_pair, load_folder
from .listing import Listing, list_images
from .photo_sets import Loader, NotThere, caltech101, of_torchvision, sun397, sun397_80_20, with_loader

DOWNLOAD = phrase("{download} fetches it")  # an option that a command must have, or else say it in its own words


@dataclass(frozen=True, kw_only=True)
class SmallSet:
    """How a set that is read into memory is kept; torchvision downloads it."""

    torchvision_class: str
    classes: tuple[str, ...] = ()  # none: its files name them
    pad: int = 0  # zero rows and columns added on each side
    idx: bool = False  # kept in MNIST's format


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """Where a set comes from and how it is measured: one of ``small`` and ``photos`` reads it."""

    small: SmallSet | None = None
    photos: Loader | None = None
    folder: bool = False  # in image-folder layout: datasets are built of it, and trainings read it, by name too
    get: str | Phrase = DOWNLOAD  # how to get it
    metric: str = TOP1
    licence: str = "unknown"

    @property
    def downloads(self) -> bool:
        """Whether ``download`` gets it."""
        return self.get is DOWNLOAD


def is_small(dataset: str) -> bool:
    """Whether it is the name of a set that is read into memory."""
    return dataset in SETS and SETS[dataset].small is not None


def is_listed(dataset: str) -> bool:
    """Whether ``list_split`` is for it: a folder, or the name of a set in image-folder layout."""
    return is_folder_set(dataset) or Path(dataset).is_dir()


def is_folder_set(dataset: str) -> bool:
    """Whether it is the name of a set in image-folder layout."""
    return dataset in SETS and SETS[dataset].folder


def require_images(dataset: str) -> None:
    """Raise DataError unless it is a folder, or the name of a set that datasets are built of."""
    if not is_small(dataset) and not is_listed(dataset):
        known = one_of(dataset, sorted(name for name in SETS if is_small(name) or is_folder_set(name)))
        raise DataError(
            f"{dataset}: {'no such folder' if os.sep in dataset else 'neither a folder nor one of ' + known}"
        )


def list_split(dataset: str, root: Path | None, split: str) -> Listing:
    """List a folder, or a set in image-folder layout under ``root``. Without a root such a name may be a folder's.

    Raises:
        DataError: it is not there, or there is nothing to list.
    """
    if is_folder_set(dataset) and not (root is None and Path(dataset).is_dir()):
        folder, classes = find_folder(dataset, root)
        return list_images(folder, split, name=dataset, classes=classes).tell()
    return list_images(Path(dataset), split).tell()


def load_images(
    dataset: str, root: Path | None, split: str, *, size: int | None = None, download: bool = False
) -> LabelledImages:
    """Load a split of a small named set found under ``root``, or of an image folder, into memory.

    Args:
        dataset: a name of ``SETS``, or the path of an image folder (``images.listing``).
        root: where torchvision looks for a named dataset.
        split: ``train`` or ``test``.
        size: folders only: centre-crop to a square and resize to ``size`` pixels; None wants images of one size.
        download: fetch a named dataset that is not under ``root``.

    Raises:
        DataError: the dataset is unknown, missing, empty or unreadable.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r}: wanted one of {one_of(split, SPLITS)}")
    if is_small(dataset):
        return _load_small(dataset, root, split, download)
    folder = Path(dataset)
    if not folder.is_dir():
        known = one_of(dataset, sorted(filter(is_small, SETS)))
        raise DataError(f"dataset {dataset!r}: neither a folder nor one of {known}")
    return load_folder(folder, split, size)


def load_pair(dataset: str, root: Path | None, *, download: bool = False) -> Pair:
    """Training and test images of a named dataset under ``root``, or of an image folder.

    Raises:
        MissingDataset: a named dataset is not there.
        DataError: unknown or unreadable, or classes and labels that do not go together.
    """
    if is_small(dataset):
        return _load_small(dataset, root, "train", download), _load_small(dataset, root, "test", download)
    if dataset in SETS:
        train, test = load_photo_set(dataset, root, download=download)
    else:
        if not Path(dataset).is_dir():
            raise DataError.naming("{dataset} {!r}: neither a folder nor one of {}", dataset, one_of(dataset, DATASETS))
        train, test = list_folder_pair(Path(dataset))
    if len(train.classes) < 2:
        raise DataError.naming("{dataset} {}: only one class ({}); wanted at least two", dataset, train.classes[0])
    return train, test


def _load_small(name: str, root: Path | None, split: str, download: bool) -> LabelledImages:
    facts = SETS[name].small
    assert facts is not None
    if root is None:
        raise DataError.naming(
            "dataset {}: give the folder that holds it, or that it may be downloaded to, as {root}", name
        )
    if not download and not root.is_dir():
        raise MissingDataset.naming("dataset {}: not found: there is no folder {}; {}", name, root, DOWNLOAD)
    files = idx.find(root / facts.torchvision_class / "raw", split) if facts.idx else None
    classes = facts.classes
    if files is not None:
        images, labels = idx.read(files[0], 3), idx.read(files[1], 1).astype(np.int64)
    else:
        data = _of_torchvision(facts, name, root, split, download)
        images, labels = np.asarray(data.data), np.asarray(data.targets, dtype=np.int64)
        classes = classes or tuple(data.classes)
    if len(images) != len(labels):
        raise DataError(f"dataset {name} under {root}: {len(images)} images but {len(labels)} labels")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise DataError(f"dataset {name} under {root}: label {labels.max()}, but there are {len(classes)} classes")
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if facts.pad:
        images = np.pad(images, ((0, 0), (facts.pad, facts.pad), (facts.pad, facts.pad), (0, 0)))
    return LabelledImages(name, labels, classes, split=f"{split} split", pixels=images, licence=SETS[name].licence)


def _of_torchvision(facts: SmallSet, name: str, root: Path, split: str, download: bool) -> Any:
    import torchvision

    try:
        return getattr(torchvision.datasets, facts.torchvision_class)(root, train=split == "train", download=download)
    except RuntimeError as error:
        if download:
            raise DataError(f"dataset {name} under {root}: {' '.join(str(error).split())}") from error
        raise MissingDataset.naming(
            "dataset {}: not found, or incomplete, under {}; {}", name, root, DOWNLOAD
        ) from error
    except (OSError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"dataset {name} under {root}: {reason}") from error


def load_photo_set(name: str, root: Path | None, *, download: bool = False) -> Pair:
    """Training and test images of a named set of photos.

    Raises:
        MissingDataset: it is not under ``root``; the message says how to get it.
        DataError: it is damaged: a label without a class, a class without images, a file that is not there.
    """
    facts = SETS[name]
    assert facts.photos is not None
    if root is None:
        raise _rootless(name)
    if not download and not root.is_dir():
        raise MissingDataset.naming("dataset {}: not found: there is no folder {}; {}", name, root, facts.get)
    try:
        pair = facts.photos(name, root, download and facts.downloads)
    except MissingDataset:
        raise
    except NotThere as place:
        raise _missing(name, str(place)) from None
    except KeyError as error:
        raise DataError(f"dataset {name} under {root}: label {error} is not in its list of classes") from error
    except (OSError, RuntimeError, ValueError, IndexError, ImportError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"dataset {name} under {root}: {reason}") from error
    train, test = (replace(one, metric=facts.metric).checked() for one in pair)
    return train, test


def _rootless(name: str) -> DataError:
    return DataError.naming("dataset {}: give the folder that holds it as {root}; {}", name, SETS[name].get)


def _missing(name: str, where: str) -> MissingDataset:
    return MissingDataset.naming("dataset {}: not found as {}; {}", name, where, SETS[name].get)


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


def _folder(name: str, root: Path, download: bool) -> Pair:
    base, classes = find_folder(name, root)
    return list_folder_pair(base, name=name, classes=classes)


_NO_LICENCE = "none stated by its authors (research use)"
_IMAGENET = "wanted train/ and val/ with a folder for each WordNet id (image-net.org)"
_PETS = {"target_types": "category"}

SETS = {
    "mnist": NamedSet(
        small=SmallSet(torchvision_class="MNIST", classes=tuple("0123456789"), pad=2, idx=True),
        licence="CC BY-SA 3.0",
    ),
    "fashion_mnist": NamedSet(
        small=SmallSet(
            torchvision_class="FashionMNIST",
            classes=(
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
            pad=2,
            idx=True,
        ),
        licence="MIT",
    ),
    "cifar10": NamedSet(
        small=SmallSet(
            torchvision_class="CIFAR10",
            classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        ),
        licence=_NO_LICENCE,
    ),
    "cifar100": NamedSet(small=SmallSet(torchvision_class="CIFAR100"), licence=_NO_LICENCE),
    "food101": NamedSet(photos=with_loader("Food101", "food-101", ("train",))),
    "sun397": NamedSet(photos=sun397),
    "sun397_80_20": NamedSet(photos=sun397_80_20),
    "pets": NamedSet(
        photos=of_torchvision(
            "OxfordIIITPet", "oxford-iiit-pet", {"splits": ("trainval",), **_PETS}, {"splits": ("test",), **_PETS}
        ),
        metric=MEAN_PER_CLASS,
    ),
    "caltech101": NamedSet(photos=caltech101, metric=MEAN_PER_CLASS),
    "flowers102": NamedSet(photos=with_loader("Flowers102", "flowers-102", ("train", "val")), metric=MEAN_PER_CLASS),
    "dtd": NamedSet(photos=with_loader("DTD", "dtd", ("train", "val"), partition=1)),
    "stanford_cars": NamedSet(
        photos=with_loader("StanfordCars", "stanford_cars", ("train",)),
        get="wanted torchvision's layout (cars_train/, cars_test/, devkit/, cars_test_annos_withlabels.mat)",
    ),
    "fgvc_aircraft": NamedSet(
        photos=with_loader("FGVCAircraft", "fgvc-aircraft-2013b", ("trainval",)), metric=MEAN_PER_CLASS
    ),
    "fgvc_aircraft_family": NamedSet(
        photos=with_loader("FGVCAircraft", "fgvc-aircraft-2013b", ("trainval",), annotation_level="family"),
        metric=MEAN_PER_CLASS,
    ),
    "birdsnap": NamedSet(photos=_folder, get="wanted train/ and test/ with a folder for each species"),
    "imagenet": NamedSet(photos=_folder, get=_IMAGENET, folder=True),
    "imagenet100": NamedSet(photos=_folder, get=_IMAGENET, folder=True),
}
DATASETS = (
    *sorted(filter(is_small, SETS)),
    *sorted(name for name in SETS if not is_small(name)),
)  # as errors list them

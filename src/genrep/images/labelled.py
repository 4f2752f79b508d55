"""Small sets of real labelled images, by dataset name or from a folder, in memory as uint8.

Fashion-MNIST (and MNIST) become 32x32 by zero padding and RGB by repeating the gray channel, for generators, trainers
and probes alike. Sets of photos stay files: ``image_files``, ``photo_sets``.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, one_of
from . import idx
from .listing import list_images
from .reading import read_rgb
from .splits import SPLITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOWNLOAD = "--download fetches it"  # an option that a command must have, or else say it in its own words


class MissingDataset(DataError):
    """A named dataset is not where it was looked for."""


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """Images of one size with their labels."""

    name: str
    images: NDArray[np.uint8]  # (N, H, W, 3)
    labels: NDArray[np.int64]  # (N,), -1 = none
    classes: tuple[str, ...]
    licence: str

    def is_gray(self) -> bool:
        """Whether the three channels are equal everywhere."""
        first = self.images[..., :1]
        return bool((self.images == first).all())


@dataclass(frozen=True, kw_only=True)
class NamedDataset:
    """A dataset that torchvision downloads."""

    torchvision_class: str
    classes: tuple[str, ...]  # empty: in the order of the set's own list
    licence: str
    pad: int = 0  # zero rows and columns added on each side
    idx: bool = False  # kept in MNIST's format


NAMED = {
    "fashion_mnist": NamedDataset(
        torchvision_class="FashionMNIST",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        licence="MIT",
        pad=2,
        idx=True,
    ),
    "cifar10": NamedDataset(
        torchvision_class="CIFAR10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        licence="none stated by its authors (research use)",
    ),
    "cifar100": NamedDataset(
        torchvision_class="CIFAR100",
        classes=(),  # its files name them
        licence="none stated by its authors (research use)",
    ),
    "mnist": NamedDataset(
        torchvision_class="MNIST",
        classes=tuple("0123456789"),
        licence="CC BY-SA 3.0",
        pad=2,
        idx=True,
    ),
}


def load_images(
    dataset: str, root: Path | None, split: str, *, size: int | None = None, download: bool = False
) -> RealImages:
    """Load a split of a named dataset found under ``root``, or of an image folder.

    Args:
        dataset: a name of ``NAMED``, or the path of an image folder (``images.listing``).
        root: where torchvision looks for a named dataset.
        split: ``train`` or ``test``.
        size: folders only: centre-crop to a square and resize to ``size`` pixels; None wants images of one size.
        download: fetch a named dataset that is not under ``root``.

    Raises:
        DataError: the dataset is unknown, missing, empty or unreadable.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r}: wanted one of {one_of(split, SPLITS)}")
    if dataset in NAMED:
        return _load_named(dataset, root, split, download)
    folder = Path(dataset)
    if not folder.is_dir():
        raise DataError(f"dataset {dataset!r}: neither a folder nor one of {one_of(dataset, sorted(NAMED))}")
    return load_folder(folder, split, size)


def _load_named(name: str, root: Path | None, split: str, download: bool) -> RealImages:
    facts = NAMED[name]
    if root is None:
        raise DataError(f"dataset {name}: give the folder that holds it, or that it may be downloaded to, as --root")
    if not download and not root.is_dir():
        raise MissingDataset(f"dataset {name}: not found: there is no folder {root}; {DOWNLOAD}")
    files = idx.find(root / facts.torchvision_class / "raw", split) if facts.idx else None
    classes = facts.classes
    if files is not None:
        images, labels = idx.read(files[0], 3), idx.read(files[1], 1).astype(np.int64)
    else:
        data = _torchvision_dataset(name, root, split, download)
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
    return RealImages(name=name, images=images, labels=labels, classes=classes, licence=facts.licence)


def _torchvision_dataset(name: str, root: Path, split: str, download: bool) -> Any:
    import torchvision

    try:
        return getattr(torchvision.datasets, NAMED[name].torchvision_class)(
            root, train=split == "train", download=download
        )
    except RuntimeError as error:
        if download:
            raise DataError(f"dataset {name} under {root}: {' '.join(str(error).split())}") from error
        raise MissingDataset(f"dataset {name}: not found (or not whole) under {root}; {DOWNLOAD}") from error
    except (OSError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"dataset {name} under {root}: {reason}") from error


def load_folder(folder: Path, split: str, size: int | None) -> RealImages:
    """Load an image folder (see ``load_images``), in the order of ``images.listing``."""
    listing = list_images(folder, split).tell()
    images = [read_image(listing.base / name, size) for name in listing.names]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        found = f"images of {len(shapes)} sizes, e.g. {sorted(shapes)[:2]}"
        raise DataError(f"{listing.base}: {found}: give one size to crop and resize them to")
    return RealImages(
        name=listing.name, images=np.stack(images), labels=listing.labels, classes=listing.classes, licence="unknown"
    )


def read_image(path: Path, size: int | None) -> NDArray[np.uint8]:
    """An image as ``load_images`` gives it. Shape: ``(H, W, 3)``. Raises DataError if it is none."""
    from PIL import Image

    image = read_rgb(path)
    if size is not None and image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)

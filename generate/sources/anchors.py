"""Real images as the anchors of pairs: which they are, and their pixels by number."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.errors import DataError
from genrep.files import locked_folder
from genrep.images.reading import fit, image_faults, open_image, to_rgb
from genrep.images.sets import is_small, list_split, load_images, require_images
from genrep.machine import cores
from genrep.progress import note
from genrep.untrusted import printable, read_bounded

from ..plans.config import BuildConfig
from .real import LARGEST, take_census

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP = "center"  # the largest central part of the generator's shape is what is kept of a picture


@dataclass(frozen=True, kw_only=True)
class RealAnchors:
    """The images of a folder, or of a small named set, cut and resized to a generator's shape.

    An image's bytes must be those that were found when the build was planned. Travels to worker processes.
    """

    data: str  # the set's name, or the folder as it was given
    root: Path | None
    split: str
    name: str  # of the set or folder, for the recipe
    base: Path | None  # of files; None for a named set, which is held in memory
    names: tuple[str, ...]
    contents: NDArray[np.uint8]  # (N, 32), sha256 of each file, or of a named set's pixels
    labels: NDArray[np.int64]  # (N,), -1 = none
    classes: tuple[str, ...]
    licence: str
    shape: tuple[int, int]  # height and width that they are resized to

    def __len__(self) -> int:
        return len(self.names)

    def to_json(self) -> dict[str, Any]:
        """What a recipe says of them, besides the digest of their table."""
        return {"name": self.name, "split": self.split, "crop": CROP}

    def rows(self) -> Iterator[tuple[str, str]]:
        """Name and sha256 of each image: the rows of ``sources.jsonl``."""
        for name, content in zip(self.names, self.contents):
            yield name, content.tobytes().hex()

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of some of the images. Shape: ``(B,) -> (B, H, W, 3)``. Raises DataError for a file that has changed."""
        return np.stack([self._image(row) for row in rows.tolist()])

    def _image(self, row: int) -> NDArray[np.uint8]:
        from PIL import Image

        if self.base is None:
            return np.asarray(fit(Image.fromarray(self._arrays[row]), self.shape, CROP))
        path = self.base / self.names[row]
        data = read_bounded(path, LARGEST, DataError, follow=True)
        if hashlib.sha256(data).digest() != self.contents[row].tobytes():
            raise DataError(f"{printable(str(path))}: changed since the build was planned")
        with image_faults(path), open_image(io.BytesIO(data)) as image:
            return np.asarray(fit(to_rgb(image), self.shape, CROP))

    @cached_property
    def _arrays(self) -> NDArray[np.uint8]:
        """The named set's images, read once in each process."""
        return load_images(self.data, self.root, self.split).images

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_arrays"}


def open_anchors(config: BuildConfig, shape: tuple[int, int], out: Path | None) -> RealAnchors:
    """The anchors that ``config`` names, at the shape of a generator's images.

    Args:
        out: the build's folder, which keeps what is found of the files; None: nothing is kept.

    Raises:
        DataError: there are none, or some cannot be read.
        ResumeError: another build is at work in the folder.
    """
    assert config.anchors is not None
    require_images(config.anchors)
    common: dict[str, Any] = {"data": config.anchors, "root": config.root, "split": config.split, "shape": shape}
    if is_small(config.anchors):
        found = load_images(config.anchors, config.root, config.split, download=config.download)
        digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in found.images]
        anchors = RealAnchors(
            **common,
            name=config.anchors,
            base=None,
            names=tuple(f"{config.split}/{i:06d}" for i in range(len(found.images))),
            contents=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32),
            labels=found.labels,
            classes=tuple(found.classes),
            licence=found.licence,
        )
        vars(anchors)["_arrays"] = found.images
        return anchors
    if out is None:
        with tempfile.TemporaryDirectory(prefix="genrep-anchors-") as folder:
            return _files(config, Path(folder), common)
    return _files(config, out, common)


def _files(config: BuildConfig, out: Path, common: dict[str, Any]) -> RealAnchors:
    listing = list_split(str(config.anchors), config.root, config.split)
    with locked_folder(out):
        census, unreadable = take_census(listing, out, config.processes or cores())
    keep = np.flatnonzero(census.readable)
    if unreadable:
        name, reason = unreadable[0]
        note(
            f"{len(unreadable)} images of {printable(str(listing.base))} cannot be read and are skipped; the first is "
            f"{name} ({reason})"
        )
    if not len(keep):
        raise DataError.naming("{anchors} {}: none of the {} images can be read", listing.base, len(listing.names))
    return RealAnchors(
        **common,
        name=listing.name,
        base=listing.base,
        names=tuple(listing.names[i] for i in keep),
        contents=census.contents[keep],
        labels=listing.labels[keep],
        classes=listing.classes,
        licence="unknown",
    )

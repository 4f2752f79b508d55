"""Real images: a census numbers the readable files, and a source gives their pixels by number."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import multiprocessing
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest.schema import MAX_SIDE, MIN_VARYING_SIDE
from genrep.errors import DataError
from genrep.files import write_atomic, write_json
from genrep.images.listing import Listing
from genrep.images.reading import UnknownRange, fit, image_faults, open_image, read_rgb, to_rgb
from genrep.progress import Progress
from genrep.untrusted import CONTENT_FAULTS, printable, read_bounded, read_object

from .base import Batch

if TYPE_CHECKING:
    from PIL.Image import Image


class FileSource:
    """Images of files, resized (Pillow, bicubic with antialiasing): to one shape, or each in its own."""

    def __init__(
        self,
        base: Path,
        names: list[str],
        labels: NDArray[np.int64],
        fitting: Fitting,
        batch_size: int,
    ) -> None:
        self.base, self.names, self.labels = base, names, labels
        self.fitting, self.batch_size = fitting, batch_size

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source``."""
        for start in range(first, first + count, self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, first + count), dtype=np.int64)
            images = [self._read(self.base / self.names[i]) for i in indices]
            yield Batch(indices=indices, labels=self.labels[indices], images=[images], latents=[])

    def halve_batch(self) -> None:
        """See ``Source``."""
        self.batch_size //= 2

    def _read(self, path: Path) -> NDArray[np.uint8]:
        try:
            image = read_rgb(path)
        except DataError as error:
            raise DataError(f"{error}: changed since it was checked") from error
        return np.asarray(self.fitting(image))


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How an image is stored: cut and resized to ``shape`` by ``fit``, or kept whole by ``whole_shapes``."""

    shape: tuple[int, int] | None = None
    crop: str = "center"
    shorter_side: int | None = None

    def __call__(self, image: Image) -> Image:
        """The image as stored."""
        from PIL.Image import Resampling

        if self.shorter_side is None:
            assert self.shape is not None
            return fit(image, self.shape, self.crop)
        height, width = whole_shapes(np.array([[image.height, image.width]]), self.shorter_side)[0].tolist()
        return image if image.size == (width, height) else image.resize((width, height), Resampling.BICUBIC)


def whole_shapes(shapes: NDArray[np.int64], shorter_side: int) -> NDArray[np.int64]:
    """Height and width of whole images whose shorter side has at most ``shorter_side`` pixels: smaller ones stay as they are.

    The longer side keeps the proportions, rounded down as torchvision's ``Resize`` does. No side gets below
    ``MIN_VARYING_SIDE`` or above ``MAX_SIDE`` pixels. Shape: ``(N, 2) -> (N, 2)``.
    """
    short = shapes.min(axis=1, keepdims=True)
    resized = np.where(shapes == short, shorter_side, shapes * shorter_side // np.maximum(short, 1))
    return np.clip(np.where(short > shorter_side, resized, shapes), MIN_VARYING_SIDE, MAX_SIDE)


class ArraySource:
    """Images of a named dataset, in memory."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size

    def batches(self, first: int, count: int) -> Iterator[Batch]:
        """See ``Source``."""
        for start in range(first, first + count, self.batch_size):
            rows = slice(start, min(start + self.batch_size, first + count))
            indices = np.arange(rows.start, rows.stop, dtype=np.int64)
            yield Batch(indices=indices, labels=self.labels[rows], images=[self.images[rows]], latents=[])

    def halve_batch(self) -> None:
        """See ``Source``."""
        self.batch_size //= 2


@dataclass(frozen=True, kw_only=True)
class OpenFiles:
    """Opens a FileSource in any process."""

    base: Path
    names: list[str]
    labels: NDArray[np.int64]
    fitting: Fitting
    batch_size: int

    def __call__(self) -> FileSource:
        """The source."""
        return FileSource(self.base, self.names, self.labels, self.fitting, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class OpenArrays:
    """Opens an ArraySource in any process."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    batch_size: int

    def __call__(self) -> ArraySource:
        """The source."""
        return ArraySource(self.images, self.labels, self.batch_size)


CENSUS_NAME = "census.json"  # of a build's folder: which images can be read
UNREADABLE_NAME = "unreadable.jsonl"
LARGEST = 1 << 32  # bytes of a file
CHUNK = 128  # files that a process looks at between two messages


@dataclass(frozen=True, kw_only=True)
class Census:
    """The facts that a census finds about a listing's files."""

    readable: NDArray[np.bool_]  # (N,)
    digest: str  # sha256 over name and bytes of every readable file: identity
    contents: NDArray[np.uint8]  # (N, 32): sha256 of each file; 0 where it cannot be read
    shapes: NDArray[np.int64]  # (N, 2): height and width; 0 where it cannot be read


def take_census(listing: Listing, out: Path, processes: int) -> tuple[Census, list[tuple[str, str]]]:
    """Read every file, unless ``out`` holds the census of an earlier call for the same files.

    Returns the census, and name and reason of every unreadable file (empty if the census was found).
    """
    found = _read(out / CENSUS_NAME, listing)
    if found is not None:
        return found, []
    digest = hashlib.sha256()
    readable = np.zeros(len(listing.names), dtype=bool)
    shapes = np.zeros((len(listing.names), 2), dtype=np.int64)
    contents = np.zeros((len(listing.names), 32), dtype=np.uint8)
    unreadable: list[tuple[str, str]] = []
    with Progress(len(listing.names), "image", f"reading {listing.base}") as progress:
        for start, rows in _look(listing, processes):
            for i, (shape, content, reason) in enumerate(rows, start):
                if reason is not None:
                    unreadable.append((listing.names[i], reason))
                    continue
                readable[i] = True
                digest.update(f"{listing.names[i]}\0{content}\0".encode(errors="surrogateescape"))
                shapes[i], contents[i] = shape, np.frombuffer(bytes.fromhex(content), dtype=np.uint8)
            progress.update(len(rows))
    census = Census(readable=readable, digest=digest.hexdigest(), contents=contents, shapes=shapes)
    _write(out, listing, census, unreadable)
    return census, unreadable


Row = tuple[tuple[int, int], str, str | None]  # (height, width), sha256, why it cannot be read


def _look(listing: Listing, processes: int) -> Iterator[tuple[int, list[Row]]]:
    starts = range(0, len(listing.names), CHUNK)
    chunks = [(str(listing.base), listing.names[start : start + CHUNK]) for start in starts]
    if processes == 1 or len(chunks) == 1:
        yield from zip(starts, map(look_at, chunks))
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(chunks))) as pool:
        yield from zip(starts, pool.imap(look_at, chunks))


def look_at(chunk: tuple[str, list[str]]) -> list[Row]:
    """Shape, digest and fault of each file: decoded to the end, though at an eighth of the size where JPEG allows it."""
    base, names = chunk
    return [_look_at_one(Path(base) / name) for name in names]


def _look_at_one(path: Path) -> Row:
    content = ""
    try:
        data = read_bounded(path, LARGEST, DataError, follow=True)
        content = hashlib.sha256(data).hexdigest()
        with image_faults(path), open_image(io.BytesIO(data)) as image:
            shape = (image.height, image.width)
            image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
            to_rgb(image)
    except UnknownRange:  # not damage, which is skipped: all files of this kind would be missing
        raise
    except DataError as error:
        return (0, 0), content, str(error).removeprefix(f"{printable(str(path))}: ")
    return shape, content, None


def _write(out: Path, listing: Listing, census: Census, unreadable: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"file": name, "reason": reason}, sort_keys=True) for name, reason in unreadable]
    write_atomic(out / UNREADABLE_NAME, "".join(line + "\n" for line in lines).encode())
    facts = {
        "listing": listing.digest,
        "files": len(listing.names),
        "unreadable": len(unreadable),
        "readable_bits": _packed(np.packbits(census.readable)),
        "digest": census.digest,
        "contents": _packed(census.contents),
        "shapes": _packed(census.shapes.astype("<u4")),
    }
    write_json(out / CENSUS_NAME, facts)


def _read(path: Path, listing: Listing) -> Census | None:
    try:
        facts = read_object(path, DataError)
        if facts["listing"] != listing.digest:
            return None
        bits = np.frombuffer(_unpacked(facts["readable_bits"]), dtype=np.uint8)
        readable = np.unpackbits(bits, count=len(listing.names)).astype(bool)
        shapes = np.frombuffer(_unpacked(facts["shapes"]), dtype="<u4").astype(np.int64).reshape(len(readable), 2)
        contents = np.frombuffer(_unpacked(facts["contents"]), dtype=np.uint8).reshape(len(readable), 32)
        return Census(readable=readable, digest=str(facts["digest"]), contents=contents, shapes=shapes)
    except (DataError, *CONTENT_FAULTS, zlib.error):
        return None


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))

"""A dataset's samples with their images as files: PNG of raw pixels, the stored bytes of JPEGs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.images.jpeg import check_jpeg

from .. import layout
from ..beton import Beton
from ..contents import EXIF, read_field
from ..manifest import Manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample: images by field as the bytes of a file, latents as float32 of the field's shape, label, index and row."""

    images: dict[str, bytes]
    latents: dict[str, NDArray[np.float32]]
    integers: dict[str, int]


def suffix(manifest: Manifest) -> str:
    """How the names of image files end: ``.png`` or ``.jpg``."""
    return ".jpg" if layout.is_jpeg(manifest.image_fields[0]) else ".png"


def samples(folder: Path, manifest: Manifest, start: int, stop: int, *, images: bool = True) -> Iterator[Sample]:
    """Samples ``start`` to ``stop - 1``, in order. Raises DatasetError for a shard that is missing or damaged.

    Without ``images`` these are not read, and the samples hold none.
    """
    for shard in manifest.shards:
        first, last = max(start, shard.first_index), min(stop, shard.first_index + shard.count)
        if first >= last:
            continue
        with Beton(folder / shard.name, manifest.fields, shard.count, shard.first_index) as beton:
            if beton.size != shard.bytes:
                raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
            for i in range(first - shard.first_index, last - shard.first_index):
                yield _sample(beton, i, images)


def _sample(beton: Beton, i: int, with_images: bool) -> Sample:
    images: dict[str, bytes] = {}
    latents: dict[str, NDArray[np.float32]] = {}
    integers: dict[str, int] = {}
    for name, field in beton.fields.items():
        if field["kind"] == "image":
            if with_images:
                images[name] = _jpeg(beton, i, name) if layout.is_jpeg(field) else png(read_field(beton, i, name))
        elif field["kind"] == "float32":
            latents[name] = read_field(beton, i, name)
        else:
            integers[name] = read_field(beton, i, name)
    return Sample(images=images, latents=latents, integers=integers)


def png(image: NDArray[np.uint8]) -> bytes:
    """An ``(H, W, 3)`` image as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _jpeg(beton: Beton, i: int, name: str) -> bytes:
    """The stored bytes, unchanged; only their header is looked at: the size is the field's, and there is no EXIF data."""
    from PIL.JpegImagePlugin import JpegImageFile

    data = beton.read(i, name).tobytes()
    height, width, _ = beton.shape(i, name)
    found: Any = None
    if EXIF.search(data) is None:
        try:
            check_jpeg(data, height, width)
            with JpegImageFile(io.BytesIO(data)) as image:
                found = (image.height, image.width, image.mode)
        except Exception:  # Pillow's parsers raise nearly anything on hostile bytes
            found = None
    if found != (height, width, "RGB"):
        raise beton.fault(f"sample {i}: {name} is no plain JPEG of {height} x {width} RGB")
    return data

"""The pixels of an image file, by one rule for every command; parts of a picture, resized with Pillow.

RGB as Pillow converts it and torchvision loads it: a palette is applied, CMYK converted, transparency dropped; of several
frames the first is taken, and an orientation noted in EXIF is not applied. Of 16 bits a channel the higher 8 are taken
(Pillow's own rule for colour; gray it would cut at 255). Floating-point and 32-bit images are refused: nothing tells their
range.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..untrusted import one_line, open_regular, printable
from .jpeg import MOST_SCANS, has_many_scans

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

LARGEST_JPEG = 1 << 30  # bytes
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's tags


class UnknownRange(DataError):
    """An image that is whole, but whose values have no scale that could be known."""


class _NoRange(ValueError):
    pass


def read_rgb(path: Path | str) -> Image:
    """Open and decode an image file as RGB. Raises DataError with the file and reason if it cannot be read."""
    with opened(path) as image:
        return to_rgb(image)


def read_size(path: Path | str) -> tuple[int, int]:
    """Height and width of an image file, from its header. Raises DataError if it cannot be read."""
    with opened(path) as image:
        return image.height, image.width


@contextmanager
def opened(path: Path | str) -> Iterator[Image]:
    """An image file, opened but not decoded; whatever is raised within becomes a DataError with file and reason."""
    descriptor = open_regular(Path(path), DataError, follow=True)
    with os.fdopen(descriptor, "rb") as file, image_faults(path), open_image(file) as image:
        yield image


@contextmanager
def image_faults(path: Path | str) -> Iterator[None]:
    """Whatever Pillow raises about a file becomes a DataError: file and reason, the same in every run."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except (DataError, MemoryError):
        raise
    except _NoRange as error:
        raise UnknownRange(f"{printable(str(path))}: {error}") from None
    except UnidentifiedImageError:
        raise DataError(f"{printable(str(path))}: not a readable image (of no format that Pillow knows)") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on broken files
        reason = _ADDRESS.sub("", one_line(str(error))) or type(error).__name__
        raise DataError(f"{printable(str(path))}: not a readable image ({reason})") from error


def open_image(file: IO[bytes]) -> Image:
    """An image of an open file, not decoded. Raises ValueError for what nobody should decode, or whatever Pillow raises."""
    from PIL import Image

    # Of odd EXIF data and large pictures; Pillow's limit of pixels still holds. In place each time: a caller may have reset it.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    image = Image.open(file)
    if image.format in ("JPEG", "MPO"):
        place = file.tell()
        file.seek(0)
        many = has_many_scans(file.read(LARGEST_JPEG))
        file.seek(place)
        if many:
            raise ValueError(f"a JPEG of more than {MOST_SCANS} scans")
    return image


def to_rgb(image: Image) -> Image:
    """Decode. Raises _NoRange for values without a known scale, or whatever Pillow raises."""
    if image.mode in ("F", "I") and not (image.mode == "I" and image.format in ("PNG", "PPM")):
        kind = {"F": "floating-point", "I": "32-bit or signed"}[image.mode]
        raise _NoRange(
            f"{kind} values (mode {image.mode}), whose range is not known; wanted 8 or 16 bits: convert it first"
        )
    return _from_16_bits(image) if image.mode.startswith("I") else image.convert("RGB")


def _from_16_bits(image: Image) -> Image:
    """The 8 higher bits of gray values."""
    from PIL import Image

    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits = 12 if tags.get(_BITS) == (12,) else 16
    if values.min(initial=0) < 0 or values.max(initial=0) >= 1 << bits:
        raise ValueError(f"values from {values.min()} to {values.max()}, wanted {bits} bits")
    gray = (values >> (bits - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns 8 bits round, but not 16
        gray = 255 - gray
    return Image.fromarray(gray).convert("RGB")


def cut(picture: NDArray[np.uint8], top: int, left: int, height: int, width: int, size: int) -> NDArray[np.uint8]:
    """A box of a picture, resized to a square: bilinear, with antialiasing. Shape: ``(H, W, 3) -> (size, size, 3)``."""
    from PIL import Image

    part = picture[top : top + height, left : left + width]
    if part.shape[:2] == (size, size):
        return part
    # Cut out first: a resize from a box looks at the pixels around it.
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def fit(image: Image, shape: tuple[int, int], crop: str = "center") -> Image:
    """Crop the largest central part of the shape's proportions (``crop="center"``) and resize to ``shape`` (height, width).

    Bicubic, with antialiasing.
    """
    from PIL.Image import Resampling

    height, width = shape
    if image.size == (width, height):
        return image
    if crop == "center":  # cut out first, as above
        scale = min(image.width / width, image.height / height)
        inner_width, inner_height = max(int(scale * width), 1), max(int(scale * height), 1)
        left, top = (image.width - inner_width) // 2, (image.height - inner_height) // 2
        image = image.crop((left, top, left + inner_width, top + inner_height))
    return image.resize((width, height), Resampling.BICUBIC)

"""What JPEG loses, weighs and costs beside raw images and PNG, on anyone's photos.

    python benchmarks/encoding.py --data PHOTOS [--data MORE] [--size 128x128] [--size 512x384]

PHOTOS is a folder or a .zip of images. Photos are JPEGs already, mostly with chroma at half the resolution (4:2:0), and lose
little when they are written so again. A generator's images need not be like that, so every set is measured twice: as it is
(scaled to cover the size, then cropped), and halved, which gives chroma the resolution of luma and removes the traces of the
first JPEG: halved photos are laid side by side until they fill the size, with seams where JPEG's blocks have theirs.

JPEGs are encoded as the builder does it, and decoded by FFCV's own decoder and by one with an accurate inverse DCT (Pillow's):
FFCV asks libjpeg-turbo for its fast one. PNG is Pillow's with its defaults, as in GenRep's folders. Times are of one thread:
medians over the images of the shortest of a few calls; decoding: FFCV's. PSNR: in dB, means over the images, of all values, or
of the luma and chroma that JPEG itself uses (ITU-R BT.601).
"""

from __future__ import annotations

import ctypes
import io
import statistics
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
QUALITIES = (75, 85, 90, 95, 98)
SAMPLINGS = {"4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444}
MCU = 16  # pixels of a side that a 4:2:0 JPEG encodes together
ROUNDS = 5
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A way to store an image."""

    name: str
    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes, tuple[int, int]], Pixels]


def jpeg_encoder(quality: int, sampling: int) -> Callable[[Pixels], bytes]:
    """OpenCV's, from RGB: the bytes that the builder writes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return lambda pixels: cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def ffcv_decode(data: bytes, shape: tuple[int, int]) -> Pixels:
    """FFCV's decoder."""
    from ffcv.libffcv import ctypes_imdecode

    found = np.empty((*shape, 3), np.uint8)
    source = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    ctypes_imdecode(source, len(data), *shape, found.ctypes.data, *shape, 0, 0, 1, 1, False, False)
    return found


def pillow_decode(data: bytes, shape: tuple[int, int]) -> Pixels:
    """Pillow's decoder, of PNG and JPEG."""
    return np.array(Image.open(io.BytesIO(data)))


def png_encode(pixels: Pixels) -> bytes:
    """Pillow's PNG with its defaults."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def encodings() -> Iterator[Encoding]:
    """The rows of the table."""
    yield Encoding(
        name="raw",
        encode=lambda pixels: pixels.tobytes(),
        decode=lambda data, shape: np.frombuffer(data, np.uint8).reshape(*shape, 3).copy(),
    )
    yield Encoding(name="PNG", encode=png_encode, decode=pillow_decode)
    for sampling, factor in SAMPLINGS.items():
        for quality in QUALITIES:
            yield Encoding(name=f"{sampling} {quality}", encode=jpeg_encoder(quality, factor), decode=ffcv_decode)


def photos(source: Path) -> Iterator[bytes]:
    """The image files in a folder or zip archive, in order of their names."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                yield path.read_bytes()
        return
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if name.lower().endswith(SUFFIXES):
                yield archive.read(name)


def as_they_are(found: list[Pixels], height: int, width: int) -> list[Pixels]:
    """Scaled to cover the size, and cropped to it from the middle."""
    images = []
    for photo in found:
        scale = max(height / photo.shape[0], width / photo.shape[1])
        if scale != 1:
            size = (max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale)))
            photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        images.append(middle(photo, height, width))
    return images


def halved(found: list[Pixels], height: int, width: int) -> list[Pixels]:
    """Mosaics of photos of half the resolution, with seams between JPEG's blocks."""
    halves = [cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for photo in found]
    tiles = [(tile_side(half.shape[0], height), tile_side(half.shape[1], width)) for half in halves]
    (rows, columns), _ = Counter(tile for tile in tiles if 0 not in tile).most_common(1)[0]
    pieces = [middle(half, rows, columns) for half in halves if half.shape[0] >= rows and half.shape[1] >= columns]
    across, each = width // columns, (height // rows) * (width // columns)
    images = []
    for first in range(0, len(pieces) - each + 1, each):
        bands = [np.hstack(pieces[k : k + across]) for k in range(first, first + each, across)]
        images.append(np.ascontiguousarray(np.vstack(bands)))
    return images


def tile_side(side: int, whole: int) -> int:
    """The largest part of ``whole`` that is no longer than ``side`` and ends between blocks; 0 if there is none."""
    return max((n for n in range(MCU, min(side, whole) + 1, MCU) if whole % n == 0), default=0)


def middle(photo: Pixels, height: int, width: int) -> Pixels:
    """The middle of a photo."""
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return np.ascontiguousarray(photo[top : top + height, left : left + width])


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """dB; infinite for equal images."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def ycc(pixels: Pixels) -> NDArray[np.float64]:
    """JPEG's luma and chroma, not rounded. Shape: ``(H, W, 3) -> (H, W, 3)``."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, (blue - luma) / 1.772, (red - luma) / 1.402], axis=-1)


def best_ms(run: Callable[[], Any]) -> float:
    """The shortest of a few calls: what the work takes when nothing interrupts it."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def row(encoding: Encoding, images: list[Pixels]) -> str:
    """A line of the table."""
    shape = images[0].shape[:2]
    sizes, encode_ms, decode_ms, decibels = [], [], [], []
    for pixels in images:
        data = encoding.encode(pixels)
        found, true = encoding.decode(data, shape), ycc(pixels)
        sizes.append(len(data))
        encode_ms.append(best_ms(lambda pixels=pixels: encoding.encode(pixels)))
        decode_ms.append(best_ms(lambda data=data: encoding.decode(data, shape)))
        if encoding.decode is ffcv_decode:
            accurate = pillow_decode(data, shape)
            parts = ycc(accurate)
            chroma = psnr(parts[..., 1:], true[..., 1:])
            decibels.append((psnr(found, pixels), psnr(accurate, pixels), psnr(parts[..., 0], true[..., 0]), chroma))
        elif not np.array_equal(found, pixels):
            raise click.ClickException(f"{encoding.name} is not lossless")
    shown = [f"{value:.1f}" for value in np.mean(decibels, axis=0)] if decibels else ["exact", "exact", "", ""]
    numbers = [f"{np.mean(sizes):.0f}", *shown, *(f"{statistics.median(ms):.2f}" for ms in (encode_ms, decode_ms))]
    return f"| {encoding.name:8} | " + " | ".join(f"{number:>8}" for number in numbers) + " |"


def table(title: str, images: list[Pixels]) -> None:
    """Print the encodings of these images in Markdown."""
    head = ("bytes", "FFCV", "accurate", "luma", "chroma", "enc. ms", "dec. ms")
    click.echo(f"\n{title}\n")
    click.echo("| encoding | " + " | ".join(f"{name:>8}" for name in head) + " |")
    click.echo("|---|" + "---:|" * len(head))
    for encoding in encodings():
        click.echo(row(encoding, images))


@click.command()
@click.option(
    "--data", "sources", type=click.Path(exists=True, path_type=Path), multiple=True, required=True, help="Photos."
)
@click.option("--size", "sizes", metavar="WxH", multiple=True, default=["128x128", "512x384"], show_default=True)
@click.option("--images", default=60, show_default=True, help="At most, of each set and size.")
def main(sources: tuple[Path, ...], sizes: tuple[str, ...], images: int) -> None:
    """Print a table for each set and size."""
    cv2.setNumThreads(1)
    click.echo(f"OpenCV {cv2.__version__}, one thread")
    for source in sources:
        files = list(photos(source))
        files = files[:: max(1, len(files) // (8 * images))]
        found = [np.array(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]
        for size in sizes:
            width, height = map(int, size.split("x"))
            for name, make in (("as they are", as_they_are), ("halved", halved)):
                made = make(found, height, width)[:images]
                table(f"{source.name}, {name}, {size}: {len(made)} images", made)


if __name__ == "__main__":
    main()

"""How images and masks look in training and in the test: pure functions of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrep.evaluate.voc.layout import ahead
from genrep.seeding import derive, uniforms

from ..transforms import Pixels
from .config import SegmentationPreset
from .layout import VOID, Mask, SegmentationSplit

if TYPE_CHECKING:
    from PIL.Image import Image

TRIES = 11  # crops that are drawn for an image
# Places in an image's row of uniforms.
SCALE, FLIP, CROPS = 0, 1, 2
COLOURS = CROPS + 2 * TRIES  # brightness, order, contrast, saturation and hue: whether, and by how much
DRAWS = COLOURS + 9
BRIGHTNESS, CONTRAST, SATURATION, HUE = (-32.0, 32.0), (0.5, 1.5), (0.5, 1.5), (-0.5, 0.5)  # DINOv3's


def sized(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Width and height with ``shorter`` pixels on the shorter side, rounded as DINOv3's code does it.

    >>> sized(400, 300, 512), sized(300, 400, 512)
    ((683, 512), (512, 683))
    """
    if height > width:
        return shorter, int(shorter * height / width + 0.5)
    return int(shorter * width / height + 0.5), shorter


def _between(u: float, bounds: tuple[float, float]) -> float:
    return bounds[0] + u * (bounds[1] - bounds[0])


def training_view(
    image: Image, mask: Mask, preset: SegmentationPreset, fill: tuple[int, ...], key: dict[str, int]
) -> tuple[Pixels, Mask]:
    """A crop of the image at a random size, perhaps flipped and with other colours; what it lacks is ``fill`` and void.

    Shape: ``(crop, crop, 3)`` and ``(crop, crop)``.

    Args:
        key: ``seed``, ``epoch`` and ``index``, which determine it.
    """
    u = uniforms(derive("segmentation-view", key["seed"], key["epoch"]), np.array([key["index"]]), 0, DRAWS)[0].tolist()
    size = sized(image.width, image.height, max(1, int(preset.size * _between(u[SCALE], preset.scales))))
    pixels = np.asarray(_resized(image, size, bilinear=True))
    labels = np.asarray(_resized(_gray(mask), size, bilinear=False))
    top, left = _place(labels, preset, u)
    pixels = pixels[top : top + preset.crop, left : left + preset.crop]
    labels = labels[top : top + preset.crop, left : left + preset.crop]
    if u[FLIP] < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    if preset.distort:
        pixels = _distorted(pixels, u[COLOURS:])
    canvas = np.empty((preset.crop, preset.crop, 3), dtype=np.uint8)
    canvas[:] = fill
    void = np.full((preset.crop, preset.crop), VOID, dtype=np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    void[: labels.shape[0], : labels.shape[1]] = labels
    return canvas, void


def _place(labels: Mask, preset: SegmentationPreset, u: list[float]) -> tuple[int, int]:
    """The first drawn place of the crop where no class has too much of it, else the last."""
    room = [max(side - preset.crop, 0) + 1 for side in labels.shape]
    for k in range(TRIES):
        top, left = int(u[CROPS + 2 * k] * room[0]), int(u[CROPS + 2 * k + 1] * room[1])
        counts = np.bincount(labels[top : top + preset.crop, left : left + preset.crop].ravel(), minlength=256)[:VOID]
        if (counts > 0).sum() > 1 and counts.max() < preset.most_of_class * counts.sum():
            break
    return top, left


def _distorted(pixels: Pixels, u: list[float]) -> Pixels:
    """Brightness, contrast, saturation and hue, each with probability one half; contrast second or last."""
    whether = [one < 0.5 for one in u[:5]]
    if whether[0]:
        pixels = _scaled(pixels, 1.0, _between(u[5], BRIGHTNESS))
    if whether[1] and whether[2]:
        pixels = _scaled(pixels, _between(u[6], CONTRAST), 0.0)
    if whether[3] or whether[4]:
        pixels = _coloured(pixels, whether[3], whether[4], u)
    if whether[2] and not whether[1]:
        pixels = _scaled(pixels, _between(u[6], CONTRAST), 0.0)
    return pixels


def _scaled(pixels: Pixels, factor: float, offset: float) -> Pixels:
    return np.clip(pixels.astype(np.float32) * np.float32(factor) + np.float32(offset), 0, 255).astype(np.uint8)


def _coloured(pixels: Pixels, saturation: bool, hue: bool, u: list[float]) -> Pixels:
    import torch
    from torchvision.transforms import functional as F

    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    if saturation:
        tensor = F.adjust_saturation(tensor, _between(u[7], SATURATION))
    if hue:
        tensor = F.adjust_hue(tensor, _between(u[8], HUE))
    return tensor.permute(1, 2, 0).numpy()


def _gray(mask: Mask) -> Image:
    from PIL import Image

    return Image.fromarray(mask)


def _resized(image: Image, size: tuple[int, int], *, bilinear: bool) -> Image:
    from PIL.Image import Resampling

    return image.resize(size, Resampling.BILINEAR if bilinear else Resampling.NEAREST)


def test_view(image: Image, shorter: int) -> Pixels:
    """The whole image with ``shorter`` pixels on its shorter side. Shape: ``(H, W, 3)``."""
    return np.asarray(_resized(image, sized(image.width, image.height, shorter), bilinear=True))


def square_view(image: Image, side: int) -> Pixels:
    """The whole image, stretched to a square. Shape: ``(side, side, 3)``."""
    from PIL.Image import Resampling

    return np.asarray(image.resize((side, side), Resampling.BICUBIC))


def square_mask(mask: Mask, side: int) -> Mask:
    """The whole mask, stretched to a square. Shape: ``(side, side)``."""
    return np.asarray(_resized(_gray(mask), (side, side), bilinear=False))


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    key = derive("segmentation-order", seed, epoch)
    return np.random.RandomState([key & 0xFFFFFFFF, key >> 32]).permutation(count).astype(np.int64)


def training_batches(
    split: SegmentationSplit,
    preset: SegmentationPreset,
    fill: tuple[int, ...],
    seed: int,
    steps: range,
    workers: int | None = None,
) -> Iterator[tuple[Pixels, Mask]]:
    """The batches of ``steps``: every image once in a new order, then all again, without a break. Threads read ahead.

    Shape: ``(B, crop, crop, 3)`` and ``(B, crop, crop)``.
    """
    size = preset.batch_size

    def load(place: int) -> tuple[Pixels, Mask]:
        epoch = place // len(split)
        index = int(_order(len(split), seed, epoch)[place % len(split)])
        return training_view(*split.open(index), preset, fill, {"seed": seed, "epoch": epoch, "index": index})

    views = ahead(load, range(steps.start * size, steps.stop * size), workers, depth=2 * size)
    for _ in steps:
        batch: list[Any] = [next(views) for _ in range(size)]
        yield np.stack([pixels for pixels, _ in batch]), np.stack([mask for _, mask in batch])

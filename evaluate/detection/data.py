"""Images for a detector: which come in which step, at which size, flipped or not: pure functions of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genrep.errors import DataError
from genrep.evaluate.voc.layout import VocImage, VocSplit, ahead, read_pixels
from genrep.progress import Progress
from genrep.seeding import derive
from genrep.untrusted import printable

from .config import DetectionPreset

Sample = tuple[Tensor, dict[str, Tensor]]  # image (3, H, W) uint8; boxes (K, 4) in its pixels and labels (K,) from 1


def stream(*names: int | str) -> np.random.RandomState:
    """Random numbers of a key."""
    key = derive(*names)
    return np.random.RandomState([key & 0xFFFFFFFF, key >> 32])


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return stream("detection-order", seed, epoch).permutation(count).astype(np.int64)


def chosen(count: int, seed: int, step: int, batch_size: int) -> list[int]:
    """Which of ``count`` images a step sees: all of them once in a new order, then all again, without a break."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(_order(count, seed, place // count)[place % count]) for place in places]


def scaled(width: int, height: int, shorter: int, longest: int) -> tuple[int, int]:
    """Width and height with ``shorter`` pixels on the shorter side, or ``longest`` on the longer where that is less.

    >>> scaled(640, 480, 240, 427), scaled(640, 480, 400, 427)
    ((320, 240), (427, 320))
    """
    scale = min(shorter / min(width, height), longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(image: VocImage, size: tuple[int, int], flip: bool = False) -> Tensor:
    """The pixels at a size (width, height), antialiased and bilinear. Shape: ``(3, H, W)`` uint8."""
    pixels = read_pixels(image).resize(size, Image.Resampling.BILINEAR)
    if flip:
        pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def check_readable(split: VocSplit, workers: int = 1) -> None:
    """Decode every image of a split. Raises DataError with the fault of the first unusable image, and names the others."""

    def fault(index: int) -> str | None:
        try:
            read_pixels(split.images[index])
        except DataError as error:
            return str(error)
        return None

    found = []
    with Progress(len(split), "image", f"reading split {split.name}") as progress:
        for image, reason in zip(split.images, ahead(fault, range(len(split)), workers)):
            found += [(image.name, reason)] if reason is not None else []
            progress.update(1)
    if found:
        others = [printable(name) for name, _ in found[1:]]
        more = f"; so are {len(others)} more of the split: {', '.join(others[:10])}" if others else ""
        raise DataError(f"{found[0][1]}; mend it, or take it out of ImageSets/Main/{split.name}.txt{more}")


def training_sample(image: VocImage, preset: DetectionPreset, seed: int, place: int) -> Sample:
    """An image at one of the training sizes, flipped or not, as its ``place`` in the endless order has it."""
    random = stream("detection-view", seed, place)
    shorter = preset.min_sizes[random.randint(len(preset.min_sizes))]
    flip = bool(random.randint(2))
    width, height = scaled(image.width, image.height, shorter, preset.max_size)
    boxes = image.boxes * np.array([width / image.width, height / image.height] * 2, dtype=np.float32)
    if flip:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(image.labels + 1)}
    return resized(image, (width, height), flip), target


def training_batches(
    images: Sequence[VocImage],
    preset: DetectionPreset,
    seed: int,
    steps: range,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 1,
) -> Iterator[list[Sample]]:
    """The batches of ``steps``, or this process's part of each; ``workers`` threads read ahead."""
    size = preset.batch_size
    part = range(size * rank // world_size, size * (rank + 1) // world_size)

    def load(step: int) -> list[Sample]:
        indices = chosen(len(images), seed, step, size)
        return [training_sample(images[indices[j]], preset, seed, step * size + j) for j in part]

    return ahead(load, steps, workers)


def images_for_test(images: Sequence[VocImage], preset: DetectionPreset, workers: int = 1) -> Iterator[Tensor]:
    """Every image at the test size. Shape: ``(3, H, W)`` uint8 each."""

    def load(index: int) -> Tensor:
        image = images[index]
        return resized(image, scaled(image.width, image.height, preset.test_size, preset.test_max_size))

    return ahead(load, range(len(images)), workers)

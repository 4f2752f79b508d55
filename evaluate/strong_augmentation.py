"""RandAugment and random erasing as timm has them, by which MAE and SynCLR fine-tune.

timm draws from the process's global streams. Here its operations get their levels from draws of (seed, epoch, index).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genrep.seeding import derive, standard_normals, uniforms

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

LAYERS, APPLIED = 2, 0.5  # operations of an image, and how probably each is applied
MAGNITUDE, MAGNITUDE_STD, MOST = 9, 0.5, 10
# What an operation gets, by the part of the largest magnitude and a sign: timm's "increasing" set.
LEVELS: dict[str, Callable[[float, int], tuple[float, ...]]] = {
    "AutoContrast": lambda part, sign: (),
    "Equalize": lambda part, sign: (),
    "Invert": lambda part, sign: (),
    "Rotate": lambda part, sign: (sign * (part * 30.0),),
    "PosterizeIncreasing": lambda part, sign: (4 - int(part * 4),),
    "SolarizeIncreasing": lambda part, sign: (256 - min(256, int(part * 256)),),
    "SolarizeAdd": lambda part, sign: (min(128, int(part * 110)),),
    "ColorIncreasing": lambda part, sign: (max(0.1, 1.0 + sign * (part * 0.9)),),
    "ContrastIncreasing": lambda part, sign: (max(0.1, 1.0 + sign * (part * 0.9)),),
    "BrightnessIncreasing": lambda part, sign: (max(0.1, 1.0 + sign * (part * 0.9)),),
    "SharpnessIncreasing": lambda part, sign: (max(0.1, 1.0 + sign * (part * 0.9)),),
    "ShearX": lambda part, sign: (sign * (part * 0.3),),
    "ShearY": lambda part, sign: (sign * (part * 0.3),),
    "TranslateXRel": lambda part, sign: (sign * (part * 0.45),),
    "TranslateYRel": lambda part, sign: (sign * (part * 0.45),),
}

TRIES = 10
AREA, ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)  # of the erased rectangle; the area in parts of the image's

Box = tuple[int, int, int, int]  # top, left, height, width


def rand_augmented(image: Image, fill: tuple[int, ...], *, seed: int, epoch: int, index: int) -> Image:
    """timm's ``rand-m9-mstd0.5-inc1``. ``fill``: the colour of what comes in from outside."""
    key, rows = derive("rand-augment", seed, epoch), np.array([index], dtype=np.int64)
    numbers = uniforms(key, rows, 0, 3 * LAYERS).reshape(LAYERS, 3)
    noise = standard_normals(key, rows, 1, LAYERS)[0]
    for (choice, applied, negated), z in zip(numbers, noise):
        if applied <= APPLIED:
            name = tuple(LEVELS)[int(choice * len(LEVELS))]
            magnitude = max(0.0, min(MAGNITUDE + MAGNITUDE_STD * float(z), MOST))
            image = operated(image, name, magnitude, -1 if negated > 0.5 else 1, fill)
    return image


def operated(image: Image, name: str, magnitude: float, sign: int, fill: tuple[int, ...]) -> Image:
    """One operation of timm's on an image."""
    from PIL.Image import Resampling, new
    from timm.data.auto_augment import NAME_TO_OP

    level = LEVELS[name](magnitude / MOST, sign)
    if name == "PosterizeIncreasing" and level[0] == 0:
        return new(image.mode, image.size)  # no bit is left, which newer versions of Pillow refuse
    found: Image = NAME_TO_OP[name](image, *level, fillcolor=fill, resample=Resampling.BICUBIC)
    return found


def erase(images: Tensor, probability: float, *, seed: int, epoch: int, index: NDArray[np.int64]) -> None:
    """Fill a rectangle of some of these normalised images with normal noise, in place.

    Shape: ``(N, 3, H, W)``, ``(N,)``.
    """
    import torch

    key = derive("random-erasing", seed, epoch)
    numbers = uniforms(key, index, 0, 1 + 4 * TRIES)
    channels, high, wide = images.shape[1:]
    for row, found in enumerate(numbers):
        box = erased_box(found[1:], high, wide) if found[0] <= probability else None
        if box is not None:
            top, left, h, w = box
            noise = standard_normals(key, index[row : row + 1], 1, channels * h * w).reshape(channels, h, w)
            images[row, :, top : top + h, left : left + w] = torch.from_numpy(noise).to(images)


def erased_box(numbers: NDArray[np.float64], high: int, wide: int) -> Box | None:
    """The first of ten rectangles that is smaller than the image; None: no one is."""
    logs = math.log(ASPECT[0]), math.log(ASPECT[1])
    for area, aspect, top, left in numbers.reshape(TRIES, 4).tolist():
        target = (AREA[0] + (AREA[1] - AREA[0]) * area) * high * wide
        ratio = math.exp(logs[0] + (logs[1] - logs[0]) * aspect)
        h, w = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if w < wide and h < high:
            return int(top * (high - h + 1)), int(left * (wide - w + 1)), h, w
    return None

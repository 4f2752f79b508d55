"""Sliding windows over an image, and the class of each pixel by the mean of their scores.

No step holds the scores of all pixels for all classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..transforms import Pixels
from .layout import Mask

MOST_SCORES = 1 << 25  # that are in memory at a time
Place = tuple[int, int]  # top and left


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows begin: every ``stride`` pixels, the last one so that it ends with the image.

    >>> starts(683, 512, 341), starts(512, 512, 341), starts(1200, 512, 341)
    ([0, 171], [0], [0, 341, 682, 688])
    """
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(k * stride, length - crop), 0) for k in range(count)]


def places(height: int, width: int, crop: int, stride: int) -> list[Place]:
    """The windows of an image, row by row."""
    return [(top, left) for top in starts(height, crop, stride) for left in starts(width, crop, stride)]


def classified(
    logits: Tensor, where: Sequence[Place], crop: int, resized: tuple[int, int], shape: tuple[int, int]
) -> Mask:
    """The class of each pixel: scores enlarged to each window, averaged where windows overlap, and brought to the mask's shape.

    Everything is linear in the classes, so some of them are done at a time, and only the best of each pixel is kept.

    Shape: ``(windows, classes, h, w)`` -> ``shape``.

    Args:
        crop: side of a window, in pixels of the image as ``resized``.
        shape: height and width of the mask.
    """
    largest = max(shape[0] * shape[1], resized[0] * resized[1], len(where) * crop * crop)
    at_once = max(1, MOST_SCORES // largest)
    counts = logits.new_zeros(resized)
    for top, left in where:
        counts[top : top + crop, left : left + crop] += 1
    best = logits.new_full(shape, -torch.inf)
    classes = torch.zeros(shape, dtype=torch.uint8, device=logits.device)
    for first in range(0, logits.shape[1], at_once):
        part = logits[:, first : first + at_once]
        total = part.new_zeros(part.shape[1], *resized)
        for (top, left), one in zip(where, _enlarged(part, (crop, crop))):
            total[:, top : top + crop, left : left + crop] += one
        value, index = _enlarged((total / counts)[None], shape)[0].max(dim=0)
        better = value > best
        best = torch.where(better, value, best)
        classes = torch.where(better, (index + first).to(torch.uint8), classes)
    return classes.cpu().numpy()


def _enlarged(scores: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(scores, shape, mode="bilinear", align_corners=False)


@dataclass
class _Waiting:
    resized: tuple[int, int]
    mask: Mask
    where: list[Place]
    logits: list[Tensor] = field(default_factory=list)


def predictions(
    images: Iterator[tuple[Pixels, Mask]],
    score: Callable[[Pixels], Tensor],
    *,
    crop: int,
    stride: int,
    batch_size: int,
) -> Iterator[tuple[Mask, Mask]]:
    """The mask and the predicted classes of each image, in order. Windows of several images share a forward pass.

    Args:
        images: resized, with their masks, which have the original size.
        score: ``(B, crop, crop, 3) -> (B, classes, h, w)``.
    """
    waiting: deque[_Waiting] = deque()
    windows: deque[tuple[_Waiting, Pixels]] = deque()

    def forward() -> None:
        part = [windows.popleft() for _ in range(min(batch_size, len(windows)))]
        for (owner, _), logits in zip(part, score(np.stack([pixels for _, pixels in part]))):
            owner.logits.append(logits)

    def finished(one: _Waiting) -> tuple[Mask, Mask]:
        height, width = one.mask.shape
        return one.mask, classified(torch.stack(one.logits), one.where, crop, one.resized, (height, width))

    for pixels, mask in images:
        height, width = pixels.shape[:2]
        one = _Waiting(resized=(height, width), mask=mask, where=places(height, width, crop, stride))
        waiting.append(one)
        windows.extend((one, pixels[top : top + crop, left : left + crop]) for top, left in one.where)
        while len(windows) >= batch_size:
            forward()
        while waiting and len(waiting[0].logits) == len(waiting[0].where):
            yield finished(waiting.popleft())
    while windows:
        forward()
    for one in waiting:
        yield finished(one)

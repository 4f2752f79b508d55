"""Applying pixel views to a batch, fastest without a compiler: nothing is computed for images that do not need it.

Given its parameters, a view equals what ``torchvision.transforms.v2.functional`` makes of the float image (crop,
antialiased bilinear resize, flip, affine, the jitter's operations in their order, blur, grayscale), up to rounding; and
RandAugment what it makes of the 8-bit image at that point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..devices import to_device
from . import randaugment as ra
from . import table
from .colour import brightness_, contrast_, gray, hue_, saturation_, solarized
from .dense import compiled_views
from .geometry import along_both, blur_matrix, blur_radius, blur_taps, resize_matrix, resize_taps, warp
from .parameters import OP_HUE, ORDERS, RAND_OPERATIONS, ViewParameters

CHUNK = 2**20  # values that a core works on at a time: what its cache holds
JITTER = (brightness_, contrast_, saturation_, hue_)  # by the numbers of their operations
Ints = NDArray[np.int64]


@dataclass
class Chunk:
    """Some images of a batch, on their way."""

    x: Tensor  # (n, 3, size, size)
    p: ViewParameters
    numbers: Tensor  # (n, columns) of table.number_table, on the device

    def column(self, place: int, low: int = 0, high: int | None = None) -> Tensor:
        """A number of each image from ``low`` to ``high``. Shape: ``(n, 1, 1, 1)``."""
        return self.numbers[low:high, place, None, None, None]

    def change(self, rows: Ints, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace some images by the function of them and their numbers."""
        if len(rows):
            chosen = to_device(rows, self.x.device)
            self.x.index_copy_(0, chosen, function(self.x.index_select(0, chosen), self.numbers[chosen]))


@torch.no_grad()
def apply_views(
    images: Tensor,
    parameters: ViewParameters,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    compiled: bool = False,
) -> Tensor:
    """Crop, resize, flip, colour, blur and normalise images.

    Images of one order of colour operations are worked on as neighbours, so that an operation is done on slices; on a CPU
    a cache's content at a time.

    Args:
        compiled: Use ``torch.compile``, which takes a minute at first: the way to go on a GPU, and a slower one on a CPU.

    Shape: ``(N, H, W, 3)`` uint8 -> ``(N, 3, size, size)`` float32, channels last in memory.
    """
    images = _with_less_detail(images, parameters)
    if compiled:
        return compiled_views(images, parameters, size, mean, std)
    device, count = images.device, len(images)
    rows = _by_order(parameters)
    parameters = parameters.take(rows)
    numbers = to_device(table.number_table(parameters, size, mean, std), device)
    found = _empty((count, size, size, 3), device)
    at_once = max(1, CHUNK * torch.get_num_threads() // (3 * size * size)) if device.type == "cpu" else count
    for low in range(0, count, at_once):
        here = slice(low, low + at_once)
        p = parameters.take(here)
        chosen = images.index_select(0, to_device(rows[here], device))
        chunk = Chunk(_resized_crops(chosen, p, numbers[here], size), p, numbers[here])
        _change(chunk)
        _put(found, rows[here], chunk.x.permute(0, 2, 3, 1).contiguous())
    return found.permute(0, 3, 1, 2)


def _with_less_detail(images: Tensor, p: ViewParameters) -> Tensor:
    """Images whose view loses detail are reduced to a shorter side, and enlarged again, in 8 bits.

    Shape: ``(N, H, W, 3)`` uint8.
    """
    shape = images.shape[1:3]
    for side in np.unique(p.detail[(p.detail > 0) & (p.detail < min(shape))]).tolist():
        rows = to_device(np.flatnonzero(p.detail == side), images.device)
        less = [max(1, round(one * side / min(shape))) for one in shape]
        x = images.index_select(0, rows).permute(0, 3, 1, 2).float()
        for to in (less, list(shape)):
            x = F.interpolate(x, to, mode="bilinear", align_corners=False, antialias=True).round_()
        images = images.index_copy(0, rows, x.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous())
    return images


def _empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An uninitialised tensor. On a CPU it comes from NumPy, whose huge pages save most of the page faults."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, dtype=np.float32))
    return torch.empty(shape, device=device)


def _put(found: Tensor, rows: Ints, values: Tensor) -> None:
    """``found[rows] = values``, contiguous; on a CPU by NumPy, which copies whole rows where PyTorch copies numbers."""
    if found.device.type == "cpu":
        found.numpy()[rows] = values.numpy()
    else:
        found.index_copy_(0, to_device(rows, found.device), values)


def _by_order(p: ViewParameters) -> Ints:
    """Rows in an order in which images with the same colour operations are neighbours; those without come last.

    The place of the hue counts most, as it is the dearest, and gray images lie beside each other where groups meet.
    """
    code = p.order @ np.array([64, 16, 4, 1])
    group = np.where(p.jitter, _ORDER_RANK[code], len(ORDERS))
    return np.lexsort((p.grayscale ^ (group % 2 == 1), group))


def _order_ranks() -> Ints:
    ranks = np.zeros(256, dtype=np.int64)
    hue_place = np.argmax(ORDERS == OP_HUE, axis=1)
    for rank, k in enumerate(np.lexsort((*ORDERS.T[::-1], hue_place))):
        ranks[ORDERS[k] @ [64, 16, 4, 1]] = rank
    return ranks


_ORDER_RANK = _order_ranks()


def _runs(keys: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """First and last + 1 of each run of equal keys."""
    edges = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(keys)])


def _resized_crops(images: Tensor, p: ViewParameters, numbers: Tensor, size: int) -> Tensor:
    """Crop, resize and flip.

    Shape: ``(n, H, W, 3)`` uint8 -> ``(n, 3, size, size)`` float32 in [0, 1]; memory may hold columns before rows.
    """
    if not p.views.random_crop and p.height[0] == size:
        return _central_crops(images, p, size)
    count, rows, columns, _ = images.shape
    if images.device.type == "cpu":
        down = resize_taps(p.top, p.height, np.zeros(count, dtype=np.bool_), size)
        across = resize_taps(p.left, p.width, p.flip, size)
        x = down.sum_rows(images.reshape(count, 1, rows, columns * 3).float(), 1 / 255)
        x = x.view(count, size, columns, 3).permute(0, 3, 2, 1).contiguous()
        return across.sum_rows(x).transpose(2, 3)
    top, left, height, width, flip = numbers[:, : table.FLIP + 1].unbind(1)
    return along_both(
        images.permute(0, 3, 1, 2).float().div_(255),
        resize_matrix(top, height, torch.zeros_like(flip), rows, size),
        resize_matrix(left, width, flip, columns, size),
    )


def _central_crops(images: Tensor, p: ViewParameters, size: int) -> Tensor:
    """``_resized_crops`` where nothing is to be interpolated."""
    top, left = int(p.top[0]), int(p.left[0])
    x = images[:, top : top + size, left : left + size].permute(0, 3, 1, 2).contiguous().float().div_(255)
    flipped = to_device(np.flatnonzero(p.flip), x.device)
    return x.index_copy_(0, flipped, x.index_select(0, flipped).flip(3)) if len(flipped) else x


def _change(chunk: Chunk) -> None:
    views, p = chunk.p.views, chunk.p
    if views.affine:
        chunk.x = warp(chunk.x, chunk.numbers[:, table.AFFINE : table.AFFINE + 6].view(-1, 2, 3))
    _jitter(chunk)
    if views.blur and blur_radius(chunk.x.shape[3]):
        chunk.change(np.flatnonzero(p.sigma), lambda x, numbers: _blurred(x, numbers[:, table.SIGMA]))
    if views.rand_operations:
        chunk.x.mul_(255).round_()
        for k in range(views.rand_operations):
            _rand(chunk, k)
        chunk.x.div_(255)
    for low, high in _runs(p.grayscale):
        if p.grayscale[low]:
            chunk.x[low:high] = gray(chunk.x[low:high])
    if views.solarize:
        chunk.change(np.flatnonzero(p.solarize), lambda x, numbers: solarized(x))
    shift, scale = (chunk.numbers[:, first : first + 3, None, None] for first in (table.MEAN, table.STD))
    chunk.x.sub_(shift).div_(scale)


def _jitter(chunk: Chunk) -> None:
    """Brightness, contrast, saturation and hue of each image in its own order, in place."""
    count = int(chunk.p.jitter.sum())  # they come first
    if not count:
        return
    x = chunk.x if chunk.x.is_contiguous() else chunk.x.transpose(2, 3)
    planes = torch.empty(5, count, 1, *x.shape[2:], device=x.device)
    for place in range(4):
        operations = chunk.p.order[:count, place]
        for low, high in _runs(operations):
            operation = int(operations[low])
            kind = table.SIXTHS if operation == OP_HUE else table.FACTOR
            column = table.PLACES + table.PER_PLACE * place + kind
            JITTER[operation](x[low:high], chunk.column(column, low, high), planes[:, : high - low])


def _blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Shape: ``(n, 3, S, S), (n,)``."""
    size = x.shape[3]
    if x.device.type == "cpu":
        taps = blur_taps(sigma.double().numpy(), size)
        return taps.sum_rows(taps.sum_rows(x.contiguous()).transpose(2, 3).contiguous()).transpose(2, 3)
    matrix = blur_matrix(sigma, size)
    return along_both(x, matrix, matrix)


def _rand(chunk: Chunk, k: int) -> None:
    """The k-th operation of RandAugment, on levels 0 … 255."""
    first = table.RAND + table.PER_OPERATION * k

    def number(values: Tensor, place: int) -> Tensor:
        return values[:, first + place, None, None, None]

    def blend(x: Tensor, n: Tensor) -> Tensor:
        places = table.RAND_FACTOR, table.RAND_OF_GRAY, table.RAND_OF_MEAN
        return ra.blend(x, *(number(n, place) for place in places))

    functions: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
        ra.ROTATE: lambda x, n: warp(x, n[:, first : first + 6].view(-1, 2, 3)),
        ra.COLOUR: blend,
        ra.SHARPNESS: lambda x, n: ra.sharpen(x, number(n, table.REST)),
        ra.POSTERIZE: lambda x, n: ra.posterize(x, number(n, table.STEP)),
        ra.SOLARIZE: lambda x, n: ra.solarize(x, number(n, table.THRESHOLD)),
        ra.AUTOCONTRAST: lambda x, n: ra.autocontrast(x),
        ra.EQUALIZE: lambda x, n: ra.equalize(x),
    }
    kinds = _ALIKE[chunk.p.rand[:, k]]
    for kind, function in functions.items():
        chunk.change(np.flatnonzero(kinds == kind), function)


# Operations that one function does: all that move pixels, and the three that blend.
_ALIKE = np.arange(RAND_OPERATIONS)
_ALIKE[[ra.SHEAR_X, ra.SHEAR_Y, ra.TRANSLATE_X, ra.TRANSLATE_Y]] = ra.ROTATE
_ALIKE[[ra.BRIGHTNESS, ra.CONTRAST]] = ra.COLOUR

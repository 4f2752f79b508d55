"""The tensors of a batch: which stored fields each is made of, and how they are cut out of pictures of several sizes.

A cut is where a pixel view begins: its box comes from the view's own stream, keyed by (seed, epoch, index, view), in the
picture's own coordinates; the threads that read cut and resize. What follows it (flip, colours, …) happens on the device, as
for images of one size. As in torchvision's ``RandomResizedCrop`` of a Pillow image, the cut is resized bilinearly with
antialiasing and rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from genrep.images.reading import cut
from genrep.pixel_views import PixelViews, local_view
from genrep.pixel_views.parameters import draw_boxes

from .fields import Destination, Field, Rows

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class LocalCrops:
    """How small crops are cut from the pictures of each view, besides the view itself."""

    views: PixelViews
    size: int  # side of the squares, in pixels
    number: int  # of each view


@dataclass(frozen=True, kw_only=True)
class Crops:
    """How pictures are cut for pixel views; without a random crop, the largest central square of each."""

    views: PixelViews
    seed: int  # of the pixel views
    size: int  # side of the squares that come out, in pixels
    num_views: int  # of an anchor, where all views are of it
    local: LocalCrops | None = None


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """The cuts of a batch."""

    crops: Crops
    epoch: int
    index: NDArray[np.int64]  # (B,), under which the views are drawn


@dataclass(frozen=True, kw_only=True)
class CutSlot:
    """A slot that receives cuts of one view."""

    slot: Destination
    view: int
    law: PixelViews


class Pictures(Protocol):
    """A set whose images can be had one by one, whole."""

    def sides(self, rows: Rows, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Height and width of the image ``names[i]`` of row ``rows[i]``. Shape: ``(len(rows),)`` each."""
        ...

    def picture(self, row: int, name: str) -> Pixels:
        """An image. Shape ``(H, W, 3)``."""
        ...


def read_cuts(part: Pictures, rows: Rows, places: Rows, slots: Sequence[CutSlot], cuts: Cuts) -> None:
    """Cut the slots' images of ``rows``, whose places in the batch are ``places``; each picture is decoded once."""
    crops, index = cuts.crops, cuts.index[places]
    wanted = []
    for one in slots:
        names = one.slot.chosen(len(rows))
        sides = part.sides(rows, names)
        view = np.full(len(rows), one.view, dtype=np.int64)
        box = draw_boxes(one.law, seed=crops.seed, epoch=cuts.epoch, index=index, view=view, image_shape=sides)
        corners = np.stack([box["top"], box["left"], box["height"], box["width"]], axis=1)
        wanted.append((one.slot.out, names, corners.tolist()))
    for i, (row, place) in enumerate(zip(rows.tolist(), places.tolist())):
        pictures: dict[str, Pixels] = {}
        for out, names, corners in wanted:
            if names[i] not in pictures:
                pictures[names[i]] = part.picture(row, names[i])
            top, left, height, width = corners[i]
            out[place] = cut(pictures[names[i]], top, left, height, width, out.shape[2])


PAIRED = {"positive": "anchor", "z_positive": "z_anchor"}  # with what stands in where a set has no positives
OF_THE_PAIR = ("anchor", "z_anchor", "label", "index", "row", "prompt", "source", "weight")


def families(names: Collection[str], num_positives: int) -> dict[str, tuple[str, ...]]:
    """The fields that each positive has one of, by the first positive's name, in the positives' order.

    >>> names = ("anchor", "positive", "positive_1", "strength", "strength_1", "weight", "prompt", "prompt_1", "prompt_2")
    >>> families(names, 2)["prompt_1"]
    ('prompt_1', 'prompt_2')
    >>> list(families(names, 2))
    ['positive', 'strength', 'prompt_1']
    """
    found: dict[str, tuple[str, ...]] = {}
    members: set[str] = set()
    for name in names:
        if name in OF_THE_PAIR or name in members or not num_positives:
            continue
        family = _family(name, num_positives)
        if all(one in names for one in family):
            found[name] = family
            members.update(family)
    return found


def _family(first: str, number: int) -> tuple[str, ...]:
    if first == "prompt_1":  # counted from 1: ``prompt`` is the anchor's
        return tuple(f"prompt_{k}" for k in range(1, number + 1))
    return (first, *(f"{first}_{k}" for k in range(1, number)))


@dataclass(frozen=True, kw_only=True)
class BatchTensor:
    """A tensor of a batch."""

    name: str
    field: Field  # of one sample
    slots: tuple[
        tuple[tuple[str, ...], ...], ...
    ] = ()  # for each set: fields to choose from, once or for each positive
    stacked: bool = False  # it holds all positives, or all views of the anchor: shape (B, K, …)
    number: bool = False  # one a sample, or one a positive where it is stacked
    views: tuple[int, ...] = ()  # the pixel view that each stored field is cut for; empty: whole images of one size
    law: PixelViews | None = None  # by which they are cut


def cut_output(output: BatchTensor, positive: str | None, crops: Crops) -> BatchTensor:
    """An output of images as one of cuts: view 0 of anchors, view k of the k-th positive, all views of a lone anchor."""
    if output.field.dtype != np.uint8:
        return output
    slots, stacked = output.slots, output.stacked
    if output.name == "anchor":
        views = tuple(range(crops.num_views)) if positive == "anchor" else (0,)
        slots, stacked = tuple(names * len(views) for names in slots), positive == "anchor"
    elif stacked:
        views = tuple(range(1, len(slots[0]) + 1))
    else:
        views = (1 + int(output.name.removeprefix("positive").removeprefix("_") or 0),)
    shape = (*((len(views),) if stacked else ()), crops.size, crops.size, 3)
    field = Field(shape=shape, dtype=output.field.dtype)
    return BatchTensor(name=output.name, field=field, slots=slots, stacked=stacked, views=views, law=crops.views)


def local_name(name: str) -> str:
    """The name in a batch of the local crops of a field of images."""
    return f"local crops of {name}"


def local_output(output: BatchTensor, local: LocalCrops) -> BatchTensor:
    """The local crops of an output of cuts: the first crop of each of its views, then the second.

    Shape: ``(B, L·V, s, s, 3)``.
    """
    views = tuple(local_view(view, crop) for crop in range(local.number) for view in output.views)
    return BatchTensor(
        name=local_name(output.name),
        field=Field(shape=(len(views), local.size, local.size, 3), dtype=output.field.dtype),
        slots=tuple(names * local.number for names in output.slots),
        stacked=True,
        views=views,
        law=local.views,
    )


def is_read(name: str, positive: str, of_positives: Mapping[str, Sequence[str]]) -> bool:
    """Whether a batch of all fields holds this one, given the ``families``."""
    if name in of_positives:
        return positive != "anchor"
    return not any(name in family for family in of_positives.values())


def slot_of(
    names: tuple[str, ...], out: NDArray[Any], uniform: NDArray[np.floating[Any]] | None, places: Rows
) -> Destination:
    """Where one stored field goes, or one of several, chosen for each row by ``uniform``, in [0, 1)."""
    if len(names) == 1:
        return Destination(names, out)
    assert uniform is not None
    return Destination(names, out, (uniform[places] * len(names)).astype(np.int64))

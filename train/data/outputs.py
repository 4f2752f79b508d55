"""The tensors of a batch: which stored fields each is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .crops import Crops
from .shards import Field, Rows, Slot

PAIRED = {"positive": "anchor", "z_positive": "z_anchor"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """A tensor of a batch."""

    name: str
    field: Field  # of one sample
    slots: tuple[
        tuple[tuple[str, ...], ...], ...
    ] = ()  # for each set: fields to choose from, once or for each positive
    stacked: bool = False  # it holds all positives, or all views of the anchor: shape (B, K, …)
    views: tuple[int, ...] = ()  # the pixel view that each stored field is cut for; empty: whole images of one size


def cut_output(output: Output, positive: str | None, crops: Crops) -> Output:
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
    return Output(name=output.name, field=field, slots=slots, stacked=stacked, views=views)


def is_read(name: str, positive: str) -> bool:
    """Whether a batch of all fields holds this one."""
    stem = name.rstrip("0123456789").rstrip("_")
    return stem not in PAIRED or (positive != "anchor" and name == stem)


def slot_of(names: tuple[str, ...], out: NDArray[Any], uniform: NDArray[np.floating[Any]] | None, places: Rows) -> Slot:
    """Where one stored field goes, or one of several, chosen for each row by ``uniform``, in [0, 1)."""
    if len(names) == 1:
        return Slot(names, out)
    assert uniform is not None
    return Slot(names, out, (uniform[places] * len(names)).astype(np.int64))

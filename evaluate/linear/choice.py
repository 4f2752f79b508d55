"""Heads of a grid: what each reads of the features, at which rate it learns, and which is the result.

Which one is chosen on held-out training images, in one function that is given their scores and nothing of the test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from genrep.encoders import LoadedEncoder
from genrep.encoders.networks import Encoder
from genrep.errors import TrainingError

from .heads import GroupedHeads, Heads
from .presets import LinearPreset
from .training import HeadCurve


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The columns of the features that a head reads, and what they are."""

    columns: slice
    what: str


def blocks_of(preset: LinearPreset, encoder: LoadedEncoder) -> int | None:
    """The number of last blocks whose class tokens the features hold; None: they are the pooled ones.

    A ResNet, anyone's own network and a transformer without a class token have nothing nearer to it than pooled features.
    """
    module = encoder.module
    if not preset.blocks or not isinstance(module, Encoder) or not module.has_class_token:
        return None
    return max(preset.blocks)


def readings(preset: LinearPreset, encoder: LoadedEncoder) -> tuple[Reading, ...]:
    """What the heads of a preset read, of features as ``Encoder.class_tokens`` lays them out."""
    most = blocks_of(preset, encoder)
    if most is None:
        return (Reading(columns=slice(None), what="pooled"),)
    width = int(encoder.module.channels)  # type: ignore[arg-type]
    return tuple(
        Reading(columns=slice((most - blocks) * width, (most + average) * width), what=_words(blocks, average))
        for blocks in preset.blocks
        for average in preset.average
    )


def _words(blocks: int, average: bool) -> str:
    tokens = "class token" if blocks == 1 else f"class tokens of the last {blocks} blocks"
    return f"{tokens}, mean of patches" if average else tokens


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every reading at every rate, group by group."""

    preset: LinearPreset
    readings: tuple[Reading, ...]
    lrs: tuple[float, ...]

    @property
    def heads(self) -> tuple[tuple[Reading, float], ...]:
        """What each head is."""
        return tuple((reading, lr) for reading in self.readings for lr in self.lrs)

    def build(self, dim: int, classes: int, seed: int, device: torch.device) -> GroupedHeads:
        """The heads, for features of ``dim`` columns."""
        return GroupedHeads(
            [
                (one.columns, Heads(len(range(dim)[one.columns]), classes, self.lrs, seed, device, self.preset))
                for one in self.readings
            ]
        )

    def describe(self, index: int, held_out: float) -> dict[str, Any]:
        """A head, and its score on the held-out images, for an entry."""
        reading, lr = self.heads[index]
        return {"features": reading.what, "lr": lr, "held_out": held_out}


def best_head(held_out: Sequence[HeadCurve], metric: str) -> int:
    """The head whose last score on held-out training images is the highest; the first of equals.

    Raises:
        TrainingError: all have diverged, or none has one right.
    """
    scores = [curve.last.value(metric) for curve in held_out]
    if max(scores) == 0:
        raise TrainingError.naming(
            "none of {} heads has a held-out image right; give smaller rates by {lr}", len(scores)
        )
    return scores.index(max(scores))

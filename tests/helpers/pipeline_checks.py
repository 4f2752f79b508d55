"""What the tests of pipelines share: latents and noise of pairs, and the library on the same noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch

from genrep.seeding import StepNoise

SCHEDULING = "diffusers.schedulers.scheduling_"


def latents(generator: Any, count: int, first: int = 0) -> torch.Tensor:
    """Latents of the pairs from ``first`` on."""
    rows = generator.latent.sample(0, np.arange(first, first + count))
    return torch.from_numpy(rows).reshape(count, *generator.latent.shape)


def noise(count: int, first: int = 0) -> StepNoise:
    """The steps' noise of the same pairs."""
    return StepNoise(7, np.arange(first, first + count))


def shown(images: torch.Tensor) -> torch.Tensor:
    """Images as the library's pipelines return them with ``output_type="pt"``."""
    return (images / 2 + 0.5).clamp(0, 1)


@contextmanager
def drawing(module: str, *values: torch.Tensor | Callable[[int, tuple[int, ...]], torch.Tensor]) -> Iterator[None]:
    """A module of the library whose ``randn_tensor`` gives these values, or those of a function of the draw's number."""
    place, count = import_module(module), 0

    def randn_tensor(shape: Any, **unused: Any) -> torch.Tensor:
        nonlocal count
        source = values[min(count, len(values) - 1)]
        found = source(count, tuple(shape)) if callable(source) else source
        count += 1
        assert tuple(found.shape) == tuple(shape)
        return found

    before = place.randn_tensor
    place.randn_tensor = randn_tensor
    try:
        yield
    finally:
        place.randn_tensor = before


def from_steps(source: StepNoise, first: int = 0) -> Callable[[int, tuple[int, ...]], torch.Tensor]:
    """For ``drawing``: the noise of the steps from ``first`` on, one draw a step."""

    def value(count: int, shape: tuple[int, ...]) -> torch.Tensor:
        size = int(torch.tensor(shape[1:]).prod())
        return torch.from_numpy(source(first + count, size)).reshape(shape)

    return value

"""The sampling loop: scale, predict, step. Rows that begin at different steps share the network's calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genrep.errors import GeneratorError

from .schedules import Run, Schedule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Noise = Callable[[int, int], NDArray[np.float32]]
    Predict = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass
class Group:
    """Rows that begin at the same step."""

    begin: int
    rows: Tensor | None  # their numbers; None = all rows in order
    run: Run
    sample: Tensor


class StepDraws:
    """The noise of the steps, asked for once a step for all rows."""

    def __init__(self, noise: Noise | None) -> None:
        self.noise = noise
        self.step = -2
        self.values: Tensor | None = None

    def draw(
        self, step: int, rows: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Noise of one step for some rows. Raises GeneratorError where the caller gave none."""
        import torch

        if self.noise is None:
            raise missing_noise()
        size = 1
        for side in shape[1:]:
            size *= side
        drawn = self.values if step == self.step else None
        if drawn is None:
            drawn = torch.from_numpy(self.noise(step, size)).to(device)
            self.step, self.values = step, drawn
        return (drawn if rows is None else drawn.index_select(0, rows)).to(dtype).reshape(shape)


def missing_noise() -> GeneratorError:
    """What is said where a caller gives no noise."""
    return GeneratorError("the generator's sampler draws noise in its steps: give noise=, a genrep.seeding.StepNoise")


def whole(schedule: Schedule, sample: Tensor) -> list[Group]:
    """All rows from the first step on."""
    return [Group(0, None, schedule.run(), sample)]


def sample_rows(schedule: Schedule, groups: Sequence[Group], predict: Predict, draws: StepDraws) -> Tensor:
    """Take all groups to the end; returns the samples of all rows in their order.

    ``predict(scaled sample, t, rows)`` is the network's output for some rows, None = all.
    """
    import torch

    timesteps = schedule.timesteps
    for number, t in enumerate(timesteps):
        active = [group for group in groups if group.begin <= number]
        if not active:
            continue
        scaled = [group.run.scaled(group.sample, t) for group in active]
        if len(active) == 1:
            outputs: Sequence[Tensor] = [predict(scaled[0], t, active[0].rows)]
        else:
            rows = torch.cat([group.rows for group in active if group.rows is not None])
            outputs = predict(torch.cat(scaled), t, rows).split([len(part) for part in scaled])
        for group, output in zip(active, outputs):

            def draw(
                shape: tuple[int, ...],
                dtype: torch.dtype,
                device: torch.device,
                step: int = number,
                rows: Tensor | None = group.rows,
            ) -> Tensor:
                return draws.draw(step, rows, shape, dtype, device)

            group.sample = group.run.step(output, t, group.sample, draw)
    if len(groups) == 1:
        return groups[0].sample
    order = torch.cat([group.rows for group in groups if group.rows is not None])
    return torch.cat([group.sample for group in groups]).index_select(0, torch.argsort(order))

"""A scheduler of diffusers whose noise comes from the caller.

A scheduler draws noise by a function ``randn_tensor`` that its module imported. Here its ``step`` runs as a copy with another
function of that name, so that nothing is changed for others. Before it is used, a scheduler goes through all its steps once on
a tiny sample: one that draws in another way, or twice in a step, is refused.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, RecipeError, WeightsError
from genrep.untrusted import content_faults, one_line

from .building import quiet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Draw = Callable[[tuple[int, ...], torch.dtype, torch.device], Tensor]


class Run:
    """A scheduler on its way through the steps of some rows, which all began at the same step."""

    def __init__(self, scheduler: Any, eta: float) -> None:
        self.scheduler = scheduler
        self.keywords = {"eta": eta} if takes_eta(scheduler) else {}

    def scaled(self, sample: Tensor, t: Tensor) -> Tensor:
        """The sample as the network takes it."""
        scale = getattr(self.scheduler, "scale_model_input", None)
        return sample if scale is None else scale(sample, t)

    def step(self, output: Tensor, t: Tensor, sample: Tensor, draw: Draw) -> Tensor:
        """One step, its noise from ``draw(shape, dtype, device)``."""

        def randn_tensor(
            shape: Any, generator: Any = None, device: Any = None, dtype: Any = None, layout: Any = None
        ) -> Tensor:
            return draw(tuple(shape), dtype or output.dtype, output.device)

        step = _with_global(type(self.scheduler).step, "randn_tensor", randn_tensor)
        return step(self.scheduler, output, t, sample, return_dict=False, **self.keywords)[0]

    def noised(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the scheduler would have at ``t`` on the way to ``images``."""
        times = t.reshape(1).expand(len(images)).to(images.device)
        if hasattr(self.scheduler, "scale_noise"):
            return self.scheduler.scale_noise(images, times, noise)
        return self.scheduler.add_noise(images, noise, times)


def _with_global(function: Any, name: str, value: Any) -> Any:
    """A copy of a function in which a global name means something else."""
    made = FunctionType(
        function.__code__,
        {**function.__globals__, name: value},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def takes_eta(scheduler: Any) -> bool:
    """Whether a scheduler's steps have a parameter eta."""
    return "eta" in inspect.signature(scheduler.step).parameters


@dataclass(frozen=True)
class Schedule:
    """A scheduler with its timesteps set."""

    scheduler: Any  # never stepped itself
    steps: int
    eta: float = 0.0
    draws: bool = False

    @property
    def timesteps(self) -> Tensor:
        """Of all steps, in order."""
        timesteps: Tensor = self.scheduler.timesteps
        return timesteps

    @property
    def sigma(self) -> Any:
        """The standard deviation of the noise that sampling begins with."""
        return getattr(self.scheduler, "init_noise_sigma", 1.0)

    @property
    def can_edit(self) -> bool:
        """Whether it can begin in the middle."""
        return hasattr(self.scheduler, "scale_noise") or hasattr(self.scheduler, "add_noise")

    def begin(self, strength: float) -> int:
        """The step at which an edit of this strength begins; 1 begins at the first."""
        done = self.steps - min(max(int(self.steps * strength + 1e-3), 1), self.steps)
        return done * int(getattr(self.scheduler, "order", 1))

    def run(self, begin: int = 0, *, middle: bool = False) -> Run:
        """A copy that begins at a step. ``middle``: as edits begin, which some schedulers have to be told."""
        scheduler = copy.copy(self.scheduler)
        for name, value in vars(
            self.scheduler
        ).items():  # of what was there, a step changes lists, and no tensor in place
            if isinstance(value, (list, dict)) and name != "_internal_dict":
                setattr(scheduler, name, copy.copy(value))
        if middle and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        return Run(scheduler, self.eta)


def make_schedule(
    scheduler: Any,
    steps: int,
    *,
    eta: float | None,
    channels: tuple[int, int],
    device: str | torch.device,
    where: str,
    told: dict[str, Any] | None = None,
) -> Schedule:
    """Set a scheduler's timesteps and try it.

    Args:
        channels: of the sample and of the network's output.
        where: begins the line of an error.
        told: further arguments of ``set_timesteps``; with ``sigmas`` the number of steps is theirs.

    Raises:
        WeightsError: its settings do not work.
        RecipeError: eta for one that takes none.
        GeneratorError: it draws noise that cannot be taken from the caller.
    """
    name = type(scheduler).__name__
    if eta is not None and not takes_eta(scheduler):
        raise RecipeError(f"eta = {eta:g}: {name} takes none; leave it out")
    told = told or {}
    with content_faults(f"{where}: {name} with {steps} steps", WeightsError), quiet():
        if "sigmas" in told:
            scheduler.set_timesteps(device=device, **told)
        else:
            scheduler.set_timesteps(steps, device=device, **told)
    made = Schedule(scheduler, steps, eta or 0.0)
    return Schedule(scheduler, steps, eta or 0.0, draws=_try(made, channels, where))


def _try(schedule: Schedule, channels: tuple[int, int], where: str) -> bool:
    """Go through all steps on a tiny sample; returns whether noise was drawn."""
    import torch

    name, drawn = type(schedule.scheduler).__name__, [0] * len(schedule.timesteps)
    device = schedule.timesteps.device
    sample = torch.zeros(1, channels[0], 2, 2, device=device)
    output = torch.zeros(1, channels[1], 2, 2, device=device)
    before, run = torch.get_rng_state(), schedule.run()
    try:
        with content_faults(f"{where}: {name} with {schedule.steps} steps", WeightsError), torch.no_grad(), quiet():
            for number, t in enumerate(schedule.timesteps):

                def draw(
                    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, number: int = number
                ) -> Tensor:
                    drawn[number] += 1
                    return torch.zeros(shape, dtype=dtype, device=device)

                run.scaled(sample, t)
                try:
                    run.step(output, t, sample, draw)
                except ImportError as error:
                    raise ValueError(one_line(str(error))) from None
        changed = not torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_rng_state(before)
    if changed or max(drawn) > 1:
        reason = "draws noise from a global generator" if changed else "draws noise twice in a step"
        raise GeneratorError(f"{where}: {name} {reason}, which cannot be repeated; choose another scheduler")
    return any(drawn)

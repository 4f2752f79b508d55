"""One step of steering (GenRep, section 3.2): w = argmin E ‖mask (G(z + α w) - T(G(z), α))‖² / |mask|.

Every random draw of a step is a function of (seed, number of the sample), so a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genrep.sanity import diverged
from genrep.seeding import derive

from ...pixels import framed
from ..records import Stopwatch
from ..source import Source
from .alphas import ROWS, draw_alphas
from .config import SteerConfig
from .targets import masked_error, warp

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

INIT_STD = 0.1
WAY = "try a lower --lr"  # out of a training that has diverged


def anchors(source: Source, seed: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
    """Latents of the generator's own law and, in turn, its classes. Shape: ``(B,) -> (B, d), (B,)``; None without classes."""
    y = source.conditions.y(indices)
    z = torch.from_numpy(source.latent.sample(derive("steer", seed), indices))
    return z.to(source.device), None if y is None else torch.from_numpy(y).to(source.device)


def frames(source: Source, z: Tensor, y: Tensor | None) -> Tensor:
    """Images as the recipe crops and shrinks them: nothing is learned of padding. Shape: ``(B, d) -> (B, 3, h, w)`` float32."""
    return framed(source.generator.synthesize(z, y), source.recipe.crop, source.recipe.resize).float()


class Losses:
    """Sums over the steps since the last line of metrics, on the device: a step never waits for them."""

    NAMES = ("loss", "loss_still", "known")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    def add(self, *values: Tensor) -> None:
        """Remember a step's values, each ``()``."""
        self.sums += torch.stack([value.detach().double() for value in values])
        self.steps += 1

    def means(self, out: Path, step: int) -> dict[str, float]:
        """Means over the window, of which a new one begins. Raises TrainingError if one is not finite."""
        values = dict(zip(self.NAMES, (self.sums / self.steps).tolist()))
        if not math.isfinite(values["loss"]):
            raise diverged(out, f"at step {step:,} the loss is {values['loss']}", WAY)
        self.sums, self.steps = torch.zeros_like(self.sums), 0
        return values


class SteerTrainer:
    """Owns the walks, their optimiser and the step counter of one run."""

    def __init__(self, config: SteerConfig, source: Source) -> None:
        self.config, self.source = config, source
        generator = torch.Generator().manual_seed(derive("steer-init", config.seed))
        init = torch.randn(len(ROWS), source.latent.dim, generator=generator) * INIT_STD
        self.walks = init.to(source.device).requires_grad_()  # (8, d)
        self.optimiser = torch.optim.Adam([self.walks], lr=config.lr)
        self.step = 0
        self.window = Losses(source.device)
        self.watch = Stopwatch(source.device)

    @property
    def samples(self) -> int:
        """Samples seen so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> None:
        """One step of Adam on a batch of composed transforms.

        Logged beside the loss: ``loss_still``, that of walks of length zero, and the part of the target's pixels that is known.
        """
        seed, batch = self.config.seed, self.config.batch_size
        indices = np.arange(self.samples, self.samples + batch, dtype=np.int64)
        z, y = anchors(self.source, seed, indices)
        alphas = torch.from_numpy(draw_alphas(seed, indices)).to(self.source.device)
        noise = derive("steer-step", seed, self.step)  # for generators with noise of their own: the same in both images
        with self.watch.section("G"), torch.no_grad():
            torch.manual_seed(noise)
            images = frames(self.source, z, y)
        with torch.no_grad():
            target, mask = warp(images, alphas)
            still = masked_error(images, target, mask)
        self.optimiser.zero_grad(set_to_none=True)
        with self.watch.section("G"):
            torch.manual_seed(noise)
            loss = masked_error(frames(self.source, z + alphas @ self.walks, y), target, mask)
            torch.autograd.backward(loss, inputs=[self.walks])  # a generator that is not frozen gathers no gradients
        self.optimiser.step()
        self.window.add(loss, still, mask.float().mean())
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "walks": self.walks.detach(),
            "optimiser": self.optimiser.state_dict(),
            "window": {"sums": self.window.sums, "steps": self.window.steps},
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        with torch.no_grad():
            self.walks.copy_(state["walks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.window.sums, self.window.steps = state["window"]["sums"], state["window"]["steps"]
        self.step = state["step"]

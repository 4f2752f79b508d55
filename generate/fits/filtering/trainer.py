"""One step of a filter's discriminator; every draw of it is a function of (seed, number of the image)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.sanity import diverged
from genrep.seeding import derive

from ...views.filter_network import discriminator_loss, new_scorer
from ..records import Stopwatch
from .config import FilterConfig
from .data import Material

WAY = "try a lower --lr"  # out of a training that has diverged


class Window:
    """Sums over the steps since the last line of metrics, in float64 on the device: a step never waits for them."""

    NAMES = ("loss", "accuracy_real", "accuracy_generated", "score_real", "score_generated")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    @torch.no_grad()
    def add(self, loss: Tensor, on_real: Tensor, on_generated: Tensor) -> None:
        """Remember a step. Shapes: ``(), (B,), (B,)``, the latter as log-odds."""
        values = (
            loss,
            (on_real > 0).double().mean(),
            (on_generated < 0).double().mean(),
            on_real.sigmoid().mean(),
            on_generated.sigmoid().mean(),
        )
        self.sums += torch.stack([value.detach().double() for value in values])
        self.steps += 1

    def means(self, out: Path, step: int) -> dict[str, float]:
        """Means over the window, of which a new one begins. Raises TrainingError if the loss is not finite."""
        values = dict(zip(self.NAMES, (self.sums / self.steps).tolist()))
        if not math.isfinite(values["loss"]):
            raise diverged(out, f"at step {step:,} the loss is {values['loss']}", WAY)
        self.sums, self.steps = torch.zeros_like(self.sums), 0
        return values


class FilterTrainer:
    """Owns the discriminator, its optimiser and the step counter of one run."""

    def __init__(self, config: FilterConfig, material: Material) -> None:
        self.config, self.material = config, material
        self.device = material.source.device
        scorer = new_scorer(*material.source.pixel_shape, config.seed)
        self.scorer = scorer.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.scorer.parameters(), lr=config.lr, fused=True)
        self.step = 0
        self.window = Window(self.device)
        self.watch = Stopwatch(self.device)

    @property
    def images(self) -> int:
        """Real images shown so far, and as many generated ones."""
        return self.step * self.config.batch_size

    def train_step(self) -> None:
        """One step of Adam down the binary cross-entropy of a batch of both kinds."""
        torch.manual_seed(derive("filter-step", self.config.seed, self.step))  # for generators with noise of their own
        numbers = np.arange(self.images, self.images + self.config.batch_size, dtype=np.int64)
        self.material.expect_real(numbers)  # files are decoded while the generator works
        with self.watch.section("G"):
            generated = self.material.generated(numbers)
        with self.watch.section("D"):
            on_real, on_generated = self.scorer(torch.cat([self.material.real(numbers), generated])).chunk(2)
            loss = discriminator_loss(on_real, on_generated)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        self.window.add(loss, on_real, on_generated)
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "window": {"sums": self.window.sums, "steps": self.window.steps},
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.window.sums, self.window.steps = state["window"]["sums"], state["window"]["steps"]
        self.step = state["step"]

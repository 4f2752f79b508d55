"""What trainings of generators share: their real images in batches, and how the engine sees a model with a state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from genrep.images.labelled import LabelledImages
from genrep.runs.engine import Trainer
from genrep.runs.sanity import gradients
from genrep.seeding import derive


class TrainingImages:
    """Batches of real images, each shown once an epoch, in an order that is a function of (stream, seed, epoch)."""

    def __init__(
        self, data: LabelledImages, *, batch_size: int, seed: int, mirror: bool, device: torch.device, stream: str
    ) -> None:
        """``stream`` names the order among those of the same seed."""
        self.batch_size, self.seed, self.mirror, self.device, self.stream = batch_size, seed, mirror, device, stream
        self.resolution: int = data.images.shape[1]
        self.channels = 1 if data.is_gray() else 3
        pixels = data.images[..., : self.channels].transpose(0, 3, 1, 2)
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels))  # (N, C, H, W) uint8
        self.labels = torch.from_numpy(data.labels)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """A step's images in [-1, 1], and their labels. Mirrors by torch's global stream."""
        count, batch = len(self.pixels), self.batch_size
        positions = np.arange(step * batch, (step + 1) * batch)
        rows = np.empty(batch, dtype=np.int64)
        for epoch in np.unique(positions // count):
            order = np.random.default_rng(derive(self.stream, self.seed, int(epoch))).permutation(count)
            inside = positions // count == epoch
            rows[inside] = order[positions[inside] % count]
        images = self.pixels[rows].to(self.device).float() / 127.5 - 1
        if self.mirror:
            images = torch.where(torch.rand(batch, 1, 1, 1, device=self.device) < 0.5, images.flip(3), images)
        return images, self.labels[rows]


class Model(Protocol):
    """Networks in training, with all that goes on with them: optimisers, averages, counters."""

    step: int

    @property
    def images_seen(self) -> int:
        """Training images so far."""
        ...

    def train_step(self) -> Mapping[str, Tensor | float]:
        """One update; returns measurements."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        ...


class ModelTrainer(Trainer):
    """The training of a model, counted in images, as the engine sees it."""

    counts = "image"

    def __init__(self, model: Model, networks: nn.Module) -> None:
        """``networks``: whose weights and gradients are checked for divergence."""
        self.model, self.networks = model, networks
        self.step = model.step

    def train_step(self) -> Mapping[str, Tensor | float]:
        """See ``Model``."""
        values = self.model.train_step()
        self.step = self.model.step
        return values

    @property
    def position(self) -> int:
        """Training images so far."""
        return self.model.images_seen

    def weights(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        weights: Mapping[str, Tensor] = self.networks.state_dict()
        return weights

    def gradients(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return gradients([self.networks])

    def state_dict(self) -> dict[str, Any]:
        """See ``Model``."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See ``Model``."""
        self.model.load_state_dict(state)
        self.step = self.model.step

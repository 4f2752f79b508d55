"""The real images that a generator is trained on, in batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genrep.images.labelled import LabelledImages
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

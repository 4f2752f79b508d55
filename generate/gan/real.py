"""The real images of a run, as the discriminator sees them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.images.labelled import LabelledImages
from genrep.seeding import derive

from .config import FitGanConfig


class RealImages:
    """Batches of real images, each shown once an epoch, in an order that is a function of (seed, epoch)."""

    def __init__(self, config: FitGanConfig, data: LabelledImages) -> None:
        self.config, self.device = config, torch.device(config.device)
        self.resolution: int = data.images.shape[1]
        self.channels = 1 if data.is_gray() else 3
        self.class_names = data.classes if config.classes else ()
        self.num_classes = len(self.class_names)
        pixels = data.images[..., : self.channels].transpose(0, 3, 1, 2)
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels))  # (N, C, H, W) uint8
        self.labels = torch.from_numpy(data.labels)

    def one_hot(self, labels: Tensor) -> Tensor | None:
        """Shape: ``(B,) -> (B, num_classes)``, None if unconditional."""
        return F.one_hot(labels, self.num_classes).float().to(self.device) if self.num_classes else None

    def batch(self, step: int) -> tuple[Tensor, Tensor | None]:
        """A step's images in [-1, 1], and their classes."""
        count, batch = len(self.pixels), self.config.batch_size
        positions = np.arange(step * batch, (step + 1) * batch)
        rows = np.empty(batch, dtype=np.int64)
        for epoch in np.unique(positions // count):
            order = np.random.default_rng(derive("gan-order", self.config.seed, int(epoch))).permutation(count)
            inside = positions // count == epoch
            rows[inside] = order[positions[inside] % count]
        images = self.pixels[rows].to(self.device).float() / 127.5 - 1
        if self.config.mirror:
            images = torch.where(torch.rand(batch, 1, 1, 1, device=self.device) < 0.5, images.flip(3), images)
        return images, self.one_hot(self.labels[rows])

    def classes(self, count: int) -> Tensor | None:
        """Classes of ``count`` randomly drawn real images, for as many generated ones."""
        return self.one_hot(self.labels[torch.randint(len(self.labels), (count,))])

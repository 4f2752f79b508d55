"""The real images of a run, as the discriminator sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrep.images.labelled import LabelledImages

from ..training_images import TrainingImages
from .config import FitGanConfig


class RealImages:
    """Batches of real images with their classes as one-hot vectors."""

    def __init__(self, config: FitGanConfig, data: LabelledImages) -> None:
        self.device = torch.device(config.device)
        self.images = TrainingImages(
            data,
            batch_size=config.batch_size,
            seed=config.seed,
            mirror=config.mirror,
            device=self.device,
            stream="gan-order",
        )
        self.resolution, self.channels = self.images.resolution, self.images.channels
        self.class_names = data.classes if config.classes else ()
        self.num_classes = len(self.class_names)

    def one_hot(self, labels: Tensor) -> Tensor | None:
        """Shape: ``(B,) -> (B, num_classes)``, None if unconditional."""
        return F.one_hot(labels, self.num_classes).float().to(self.device) if self.num_classes else None

    def batch(self, step: int) -> tuple[Tensor, Tensor | None]:
        """A step's images in [-1, 1], and their classes."""
        images, labels = self.images.batch(step)
        return images, self.one_hot(labels)

    def classes(self, count: int) -> Tensor | None:
        """Classes of ``count`` randomly drawn real images, for as many generated ones."""
        labels = self.images.labels
        return self.one_hot(labels[torch.randint(len(labels), (count,))])

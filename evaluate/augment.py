"""Batches of training images under augmentation; every view is a function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genrep.encoders import EncoderFacts
from genrep.features import upload
from genrep.images.labelled import LabelledImages
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw

from .images import Ints, decoded
from .transforms import Augmentation, Pixels, Transform, augmented


class AugmentedBatches:
    """Normalised views of chosen images on the device.

    Images in memory that are cropped are augmented there, as floats; the others in the decoding threads by Pillow, on 8-bit
    images as torchvision's transforms do it.
    """

    def __init__(
        self,
        data: LabelledImages,
        augmentation: Augmentation,
        transform: Transform,
        facts: EncoderFacts,
        *,
        seed: int,
        device: torch.device,
        workers: int | None = None,
    ) -> None:
        self.data, self.augmentation, self.transform, self.facts = data, augmentation, transform, facts
        self.seed, self.device, self.workers = seed, device, workers
        self.labels = torch.from_numpy(data.labels)
        self.mean, self.std = (torch.tensor(v, device=device)[:, None, None] for v in (facts.mean, facts.std))

    def __call__(self, epoch: int, rows: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """Views and labels of each batch of rows. Shape: ``(B, 3, S, S)`` float32, ``(B,)``."""
        on_device = self.data.pixels is not None and self.augmentation.scale is not None
        views = self._by_tensor(epoch, rows) if on_device else self._by_threads(epoch, rows)
        for x, chosen in zip(views, rows):
            yield x, self.labels[chosen].to(self.device)

    def _by_tensor(self, epoch: int, batches: tuple[Tensor, ...]) -> Iterator[Tensor]:
        assert self.data.pixels is not None and self.augmentation.size is not None
        height, width = self.data.pixels.shape[1:3]
        for batch in batches:
            index: Ints = batch.numpy()
            parameters = draw(
                self.augmentation.views,
                seed=self.seed,
                epoch=epoch,
                index=index,
                view=np.zeros(len(index), dtype=np.int64),
                image_shape=(height, width),
                size=self.augmentation.size,
            )
            images = upload(self.data.pixels[index], self.device)
            yield apply_views(images, parameters, self.augmentation.size, self.facts.mean, self.facts.std)

    def _by_threads(self, epoch: int, batches: tuple[Tensor, ...]) -> Iterator[Tensor]:
        def render(i: int) -> Pixels:
            key = {"seed": self.seed, "epoch": epoch, "index": i}
            return augmented(self.data.open(i), self.augmentation, self.transform, key)

        for pixels in decoded((batch.numpy() for batch in batches), render, self.data, self.workers):
            x = upload(pixels, self.device).permute(0, 3, 1, 2)
            yield (x.float() / 255 - self.mean) / self.std

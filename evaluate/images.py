"""Batches of labelled images, decoded ahead by threads; augmented ones are functions of (seed, epoch, index)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.encoders import EncoderFacts, LoadedEncoder
from genrep.encoders.networks import Encoder
from genrep.errors import ConfigError, DataError
from genrep.features import upload
from genrep.images.labelled import LabelledImages
from genrep.machine import cores
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.parameters import draw
from genrep.progress import note
from genrep.seeding import derive

from .strong_augmentation import erase
from .transforms import Augmentation, Pixels, Transform, augmented

Ints = NDArray[np.int64]
AHEAD = 3  # batches that are decoded before they are asked for
CHUNK = 16  # images that a thread decodes at a time


def check_sides(
    encoder: LoadedEncoder, shape: tuple[int, int] | None, option: str = "size", *, say: bool = True
) -> None:
    """Check that a transformer's patches divide images of this shape, and say if its positions are interpolated.

    Args:
        shape: height and width; None: not known before the images are read, when the encoder checks them itself.
        option: the setting that sets it.
        say: whether interpolation is said.

    Raises:
        ConfigError: they do not.
    """
    module, size = encoder.module, encoder.facts.size
    if shape is None or not isinstance(module, Encoder):
        return
    side, pixels = module.side_multiple, "x".join(map(str, shape))
    if any(one % side for one in shape):
        raise ConfigError.naming(
            f"{{encoder}} {{}}: its patches have {{}} pixels, and these images {{}}; give a {{{option}}} that is a multiple",
            encoder.path,
            side,
            pixels,
        )
    said = module.interpolated(shape)
    if say and said is not None and shape != (size, size):  # which was said when it was opened
        note(f"{encoder.path}: {said}")


def stored_shape(data: LabelledImages) -> tuple[int, int] | None:
    """Height and width of all images, where they are in memory and so alike."""
    return None if data.pixels is None else (data.pixels.shape[1], data.pixels.shape[2])


def whole_batches(
    data: LabelledImages, transform: Transform, batch_size: int, workers: int | None = None
) -> Iterator[Pixels]:
    """All images in order, without randomness. Shape of each: ``(<= batch_size, H, W, 3)``.

    Raises:
        DataError: an image cannot be read, or images come in several sizes.
    """
    starts = range(0, len(data), batch_size)
    if data.pixels is not None and transform.changes_nothing:
        yield from (data.pixels[start : start + batch_size] for start in starts)
        return
    rows = (np.arange(start, min(start + batch_size, len(data))) for start in starts)
    yield from decoded(rows, lambda i: transform(data.open(i)), data, workers)


def decoded(
    batches: Iterable[Ints], render: Callable[[int], Pixels], data: LabelledImages, workers: int | None = None
) -> Iterator[Pixels]:
    """``render`` of each row, by threads that work a few batches ahead; in order, whatever their number.

    Shape of each: ``(len(rows), H, W, 3)``.
    """

    def chunk(rows: Ints) -> list[Pixels]:
        return [render(int(i)) for i in rows]

    pending: deque[tuple[Ints, list[Future[list[Pixels]]]]] = deque()
    pool = ThreadPoolExecutor(workers or cores(), thread_name_prefix="decode")
    try:
        for rows in batches:
            pending.append((rows, [pool.submit(chunk, rows[k : k + CHUNK]) for k in range(0, len(rows), CHUNK)]))
            if len(pending) > AHEAD:
                yield _together(*pending.popleft(), data)
        while pending:
            yield _together(*pending.popleft(), data)
    finally:
        pool.shutdown(cancel_futures=True)


def _together(rows: Ints, parts: list[Future[list[Pixels]]], data: LabelledImages) -> Pixels:
    images = [image for part in parts for image in part.result()]
    for i, image in zip(rows, images):
        if image.shape != images[0].shape:
            (h0, w0), (h1, w1) = images[0].shape[:2], image.shape[:2]
            raise DataError.naming(
                "{}: {}x{} pixels where others have {}x{}; give {size} to resize them", data.where(i), h1, w1, h0, w0
            )
    return np.stack(images)


class AugmentedBatches:
    """Normalised views of chosen images on the device.

    Images in memory whose crops are bilinear are augmented there, as floats; the others in the decoding threads by Pillow, on
    8-bit images as torchvision's transforms do it.
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
        cropped = self.augmentation.scale is not None and not self.augmentation.bicubic
        on_device = self.data.pixels is not None and cropped
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

        rows = [batch.numpy() for batch in batches]
        for index, pixels in zip(rows, decoded(rows, render, self.data, self.workers)):
            x = upload(pixels, self.device).permute(0, 3, 1, 2)
            x = (x.float() / 255 - self.mean) / self.std
            if self.augmentation.erasing:
                erase(x, self.augmentation.erasing, seed=self.seed, epoch=epoch, index=index)
            yield x


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Training images in batches, every one once an epoch, in an order that is a function of (seed, epoch)."""

    load: Callable[[int, tuple[Tensor, ...]], Iterator[tuple[Tensor, Tensor]]]  # epoch, rows of each batch -> batches
    images: int
    batch_size: int
    seed: int
    whole: bool = False  # an epoch leaves its incomplete last batch out

    @property
    def per_epoch(self) -> int:
        """Batches."""
        return self.images // self.batch_size if self.whole else -(-self.images // self.batch_size)

    def epoch(self, step: int) -> int:
        """The epoch of a step. Epochs count from 1, steps from 0."""
        return step // self.per_epoch + 1

    def rest(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels on the device: the batches of a step's epoch, from that step on."""
        epoch = self.epoch(step)
        rows = batches(self.images, self.batch_size, self.seed, epoch)
        return self.load(epoch, rows[step % self.per_epoch : self.per_epoch])


class Stream:
    """The batches of a feed, one step after the other."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.left: Iterator[tuple[Tensor, Tensor]] = iter(())

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: the first step may be any, each later one is the next."""
        while (batch := next(self.left, None)) is None:
            self.left = self.feed.rest(step)
        return batch

    def close(self) -> None:
        """Let go of the threads that decode."""
        self.left = iter(())


def batches(count: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Every row once, in an order that is a function of (seed, epoch); the last batch may be smaller."""
    key = derive("probe-order", seed, epoch)
    order = np.random.RandomState([key & 0xFFFFFFFF, key >> 32]).permutation(count)
    found: tuple[Tensor, ...] = torch.from_numpy(order).split(batch_size)
    return found

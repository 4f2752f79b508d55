"""Features of a frozen encoder, pooled or of every patch, at the speed of its forward pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrep.encoders import EncoderFacts, Features
from genrep.encoders.networks import Encoder
from genrep.errors import TrainingError, WeightsError
from genrep.progress import Progress

BATCH = 256


def extract_features(
    encoder: nn.Module,
    facts: EncoderFacts,
    images: NDArray[np.uint8],
    device: torch.device,
    *,
    batch_size: int = BATCH,
    label: str = "features",
) -> Tensor:
    """The encoder's pooled features of whole images, in evaluation mode and float32: no crop, no augmentation.

    Shape: ``(N, H, W, 3)`` uint8 -> ``(N, D)`` float32 on the CPU.

    Raises:
        TrainingError, WeightsError: as ``feature_batches``.
    """
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    found = []
    with Progress(len(images), "image", label) as progress:
        for part in feature_batches(encoder, facts, batches, device, batch_size=batch_size):
            found.append(part)
            progress.update(len(part))
    return torch.cat(found)


def feature_batches(
    encoder: nn.Module,
    facts: EncoderFacts,
    batches: Iterable[NDArray[np.uint8]],
    device: torch.device,
    *,
    batch_size: int = BATCH,
    precision: str = "fp32",
    blocks: int | None = None,
) -> Iterator[Tensor]:
    """Features of batches that are decoded elsewhere; on a GPU a batch behind, so that it never waits for the host.

    Every batch is padded to the full shape, since kernels may add up in another order at another shape: an image's features
    depend neither on the others nor on how many there are.

    Shape: ``(B, H, W, 3)`` uint8 each -> ``(B, D)`` float32 on the CPU.

    Args:
        precision, blocks: see ``FrozenEncoder``.

    Raises:
        TrainingError: the GPU's memory does not suffice.
        WeightsError: features are not finite; or see ``FrozenEncoder``.
    """
    forward = FrozenEncoder(encoder, facts, device, batch_size, precision, blocks)
    for (features,) in _arriving(((forward(pixels),) for pixels in batches), device):
        yield features


def token_batches(
    encoder: nn.Module,
    facts: EncoderFacts,
    batches: Iterable[NDArray[np.uint8]],
    device: torch.device,
    *,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> Iterator[Features]:
    """As ``feature_batches``, with the tokens of every patch and the class token beside the pooled features.

    Shape: ``(B, H, W, 3)`` uint8 each -> ``pooled (B, D)``, ``cls (B, C)`` or None, ``patches (B, P, C)``, float32 on the CPU.

    Raises:
        TrainingError, WeightsError: as ``feature_batches``; or the encoder gives no tokens, being anyone's own.
    """
    forward = FrozenEncoder(encoder, facts, device, batch_size, precision)
    grids: deque[tuple[int, int]] = deque()

    def made() -> Iterator[tuple[Tensor, ...]]:
        for pixels in batches:
            found = forward.tokens(pixels)
            grids.append(found.grid)
            yield found.pooled, found.patches, *([] if found.cls is None else [found.cls])

    for pooled, patches, *cls in _arriving(made(), device):
        yield Features(pooled, cls[0] if cls else None, patches, grids.popleft())


def _arriving(batches: Iterable[tuple[Tensor, ...]], device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """What is computed on the device, on the CPU; from a GPU a batch behind. Raises WeightsError: it is not finite."""
    if device.type != "cuda":
        yield from map(_finite, batches)
        return
    waiting: tuple[tuple[Tensor, ...], torch.cuda.Event] | None = None
    for batch in batches:
        hosts = tuple(torch.empty(part.shape, pin_memory=True).copy_(part, non_blocking=True) for part in batch)
        event = torch.cuda.Event()
        event.record()
        if waiting is not None:
            waiting[1].synchronize()
            yield _finite(waiting[0])
        waiting = hosts, event
    if waiting is not None:
        waiting[1].synchronize()
        yield _finite(waiting[0])


def _finite(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The features themselves, which have arrived on the CPU: nothing waits for a GPU here."""
    if not all(bool(part.isfinite().all()) for part in batch):
        raise WeightsError("features are not finite: the encoder has diverged")
    return batch


class FrozenEncoder:
    """An encoder in evaluation mode on a device, from stored pixels to features.

    Shape: ``(B, H, W, 3)`` uint8, B <= batch_size -> ``(B, D)`` float32 on the device.

    Args:
        precision: ``fp32``, or ``bf16`` for an autocast to bfloat16.
        blocks: in place of pooled features, the class tokens of so many last blocks and the mean of the patches
            (``Encoder.class_tokens``, which may raise WeightsError).
    """

    def __init__(
        self,
        encoder: nn.Module,
        facts: EncoderFacts,
        device: torch.device,
        batch_size: int,
        precision: str = "fp32",
        blocks: int | None = None,
    ) -> None:
        self.blocks = blocks
        self.encoder = encoder.eval().to(device)
        self.encoder.to(memory_format=torch.channels_last)
        self.device, self.batch_size, self.bf16 = device, batch_size, precision == "bf16"
        self.rows = max(batch_size, 2)  # of a forward pass: kernels for a single image add up in another order
        self.mean = torch.tensor(facts.mean, device=device)[:, None, None]
        self.std = torch.tensor(facts.std, device=device)[:, None, None]

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See the class."""
        return self.of_normalised(self._normalised(pixels))

    def tokens(self, pixels: NDArray[np.uint8]) -> Features:
        """All features, float32 on the device. Raises WeightsError: the encoder gives no tokens, being anyone's own."""
        return self.tokens_of_normalised(self._normalised(pixels))

    def tokens_of_normalised(self, x: Tensor) -> Features:
        """See ``tokens``. Shape: ``(B, 3, H, W)`` float32."""
        self._own()
        count = len(x)
        pooled, cls, patches, grid = self._forward(x, tokens=True)
        return Features(
            pooled=pooled[:count].float(),
            cls=None if cls is None else cls[:count].float(),
            patches=patches[:count].float(),
            grid=grid,
        )

    def _own(self) -> Encoder:
        """The encoder. Raises WeightsError: it is anyone's own."""
        if not isinstance(self.encoder, Encoder):
            raise WeightsError(
                f"{type(self.encoder).__name__}: gives pooled features alone; wanted one of genrep's encoders, which give "
                "tokens too"
            )
        return self.encoder

    def of_normalised(self, x: Tensor) -> Tensor:
        """Shape: ``(B, 3, H, W)`` float32 -> ``(B, D)``."""
        if self.blocks is None:
            features: Tensor = self._forward(x)
        else:
            features = self._forward(x, self._own().class_tokens, blocks=self.blocks)
        return features[: len(x)].float()

    def _normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        x = upload(pixels, self.device).permute(0, 3, 1, 2)
        return (x.float() / 255 - self.mean) / self.std

    @torch.no_grad()
    def _forward(self, x: Tensor, call: Callable[..., Any] | None = None, **options: int) -> Any:
        """What the encoder, or one of its methods, makes of a batch that is filled up."""
        count = len(x)
        if count < self.rows:
            x = torch.cat([x, x.new_zeros(self.rows - count, *x.shape[1:])])
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                return (call or self.encoder)(x.contiguous(memory_format=torch.channels_last), **options)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.batch_size) from error


def upload(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """To the device, without waiting for it."""
    if not pixels.flags.writeable:  # torch warns of memory that it could write to
        pixels = pixels.copy()
    tensor = torch.from_numpy(pixels)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def out_of_memory(batch_size: int) -> TrainingError:
    """Advice for a batch that does not fit in memory."""
    return TrainingError(f"the GPU's memory does not suffice for batches of {batch_size} images; give a smaller batch")

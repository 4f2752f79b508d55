"""Features of a frozen encoder, at the speed of its forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrep.encoders import EncoderFacts
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
) -> Iterator[Tensor]:
    """Features of batches that are decoded elsewhere; on a GPU a batch behind, so that it never waits for the host.

    Every batch is padded to the full shape, since kernels may add up in another order at another shape: an image's features
    depend neither on the others nor on how many there are.

    Shape: ``(B, H, W, 3)`` uint8 each -> ``(B, D)`` float32 on the CPU.

    Args:
        precision: see ``FrozenEncoder``.

    Raises:
        TrainingError: the GPU's memory does not suffice.
        WeightsError: features are not finite.
    """
    forward = FrozenEncoder(encoder, facts, device, batch_size, precision)
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for pixels in batches:
        features = forward(pixels)
        if device.type != "cuda":
            yield _finite(features)
            continue
        host = torch.empty(features.shape, pin_memory=True)
        host.copy_(features, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        if waiting is not None:
            waiting[1].synchronize()
            yield _finite(waiting[0])
        waiting = host, event
    if waiting is not None:
        waiting[1].synchronize()
        yield _finite(waiting[0])


def _finite(features: Tensor) -> Tensor:
    """The features themselves, which have arrived on the CPU: nothing waits for a GPU here."""
    if not bool(features.isfinite().all()):
        raise WeightsError("features are not finite: the encoder has diverged")
    return features


class FrozenEncoder:
    """An encoder in evaluation mode on a device, from stored pixels to features.

    Shape: ``(B, H, W, 3)`` uint8, B <= batch_size -> ``(B, D)`` float32 on the device.

    Args:
        precision: ``fp32``, or ``bf16`` for an autocast to bfloat16.
    """

    def __init__(
        self,
        encoder: nn.Module,
        facts: EncoderFacts,
        device: torch.device,
        batch_size: int,
        precision: str = "fp32",
    ) -> None:
        self.encoder = encoder.eval().to(device)
        self.encoder.to(memory_format=torch.channels_last)
        self.device, self.batch_size, self.bf16 = device, batch_size, precision == "bf16"
        self.rows = max(batch_size, 2)  # of a forward pass: kernels for a single image add up in another order
        self.mean = torch.tensor(facts.mean, device=device)[:, None, None]
        self.std = torch.tensor(facts.std, device=device)[:, None, None]

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See the class."""
        x = upload(pixels, self.device).permute(0, 3, 1, 2)
        return self.of_normalised((x.float() / 255 - self.mean) / self.std)

    @torch.no_grad()
    def of_normalised(self, x: Tensor) -> Tensor:
        """Shape: ``(B, 3, H, W)`` float32 -> ``(B, D)``."""
        count = len(x)
        if count < self.rows:
            x = torch.cat([x, x.new_zeros(self.rows - count, *x.shape[1:])])
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                features: Tensor = self.encoder(x.contiguous(memory_format=torch.channels_last))
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.batch_size) from error
        return features[:count].float()


def upload(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """To the device, without waiting for it."""
    if not pixels.flags.writeable:  # torch warns of memory that it could write to
        pixels = pixels.copy()
    tensor = torch.from_numpy(pixels)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def out_of_memory(batch_size: int) -> TrainingError:
    """Advice for a batch that does not fit in memory."""
    return TrainingError(f"the GPU's memory does not suffice for batches of {batch_size} images; give a smaller batch")

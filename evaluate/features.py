"""Features of a frozen encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrep.encoders import EncoderFacts
from genrep.progress import Progress

BATCH = 256


@torch.inference_mode()
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

    Every batch is padded to the full shape, since kernels may add up in another order at another shape: an image's features
    depend neither on the others nor on how many there are.

    Shape: ``(N, H, W, 3)`` uint8 -> ``(N, D)`` float32 on the CPU.
    """
    encoder = encoder.eval().to(device)
    encoder.to(memory_format=torch.channels_last)
    mean = torch.tensor(facts.mean, device=device)[:, None, None]
    std = torch.tensor(facts.std, device=device)[:, None, None]
    features = []
    with Progress(len(images), "image", label) as progress:
        for start in range(0, len(images), batch_size):
            pixels = torch.from_numpy(images[start : start + batch_size]).to(device).permute(0, 3, 1, 2)
            count = len(pixels)
            pixels = torch.cat([pixels, pixels.new_zeros(batch_size - count, *pixels.shape[1:])])
            x = (pixels.float() / 255 - mean) / std
            features.append(encoder(x.contiguous(memory_format=torch.channels_last))[:count].float().cpu())
            progress.update(count)
    return torch.cat(features)

"""A frozen encoder's features of labelled images: what ``linear`` has computed serves ``knn``, and the other way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from genrep.encoders import LoadedEncoder
from genrep.features import feature_batches
from genrep.images.labelled import LabelledImages

from .cache import stored_features
from .images import whole_batches
from .transforms import Transform

FOLDER = "features"  # in the results' own
COMPUTED = {"fp32": "float32", "bf16": "float32 of a bfloat16 autocast"}  # in a protocol's words


def frozen_features(
    encoder: LoadedEncoder,
    data: LabelledImages,
    transform: Transform,
    device: torch.device,
    *,
    precision: str,
    batch_size: int,
    workers: int | None,
    out: Path | None,
) -> Tensor:
    """Features of whole images, from ``out/features`` if they are there.

    Shape: ``(N, D)`` float32 on the CPU.

    Args:
        precision: ``fp32`` or ``bf16``, of the forward passes.
        out: None keeps them in memory only.

    Raises:
        GenRepError: images cannot be read, or features are not finite.
    """
    facts = encoder.facts
    key = {
        "encoder_sha256": encoder.sha256,
        "images": data.inventory.contents_digest,
        "transform": transform.describe(),
        "normalise": [list(facts.mean), list(facts.std)],
        "device": device.type,
        "precision": precision,
    }

    def compute() -> Iterator[Tensor]:
        images = whole_batches(data, transform, batch_size, workers)
        return feature_batches(encoder.module, facts, images, device, batch_size=batch_size, precision=precision)

    folder = None if out is None else out / FOLDER
    return stored_features(folder, key, len(data), compute, f"features of {data.split}")

"""A frozen encoder's features of labelled images: computed once, memory-mapped afterwards, computed again if damaged.

``linear`` and ``knn`` share these features.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.encoders import LoadedEncoder
from genrep.features import feature_batches
from genrep.files import digest_json, faults_named, sha256_file, write_json
from genrep.images.labelled import LabelledImages
from genrep.progress import Progress

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
    blocks: int | None = None,
) -> Tensor:
    """Features of whole images, from ``out/features`` if they are there.

    Shape: ``(N, D)`` float32 on the CPU.

    Args:
        precision: ``fp32`` or ``bf16``, of the forward passes.
        out: None keeps them in memory only.
        blocks: in place of pooled features, the class tokens of so many last blocks and the mean of the patches.

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
        **({} if blocks is None else {"blocks": blocks}),
    }

    def compute() -> Iterator[Tensor]:
        images = whole_batches(data, transform, batch_size, workers)
        return feature_batches(
            encoder.module, facts, images, device, batch_size=batch_size, precision=precision, blocks=blocks
        )

    folder = None if out is None else out / FOLDER
    return stored_features(folder, key, len(data), compute, f"features of {data.split}")


def stored_features(
    folder: Path | None,
    key: Mapping[str, Any],
    count: int,
    compute: Callable[[], Iterator[Tensor]],
    label: str = "features",
) -> Tensor:
    """The features of ``key`` from ``folder``, or those that ``compute`` yields, which are kept there.

    They are written a batch at a time and memory-mapped. ``folder=None`` keeps them in memory only. A file without its
    record, or with bytes that differ from the record, is ignored.

    Shape: ``(count, ...)`` float32: a vector of each image, or a map of tokens.
    """
    if folder is None:
        with Progress(count, "image", label) as progress:
            return torch.cat([_told(part, progress) for part in compute()])
    name = digest_json(dict(key))[:16]
    data, record = folder / f"{name}.npy", folder / f"{name}.json"
    if not _whole(data, record, dict(key)):
        folder.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        with Progress(count, "image", label) as progress:
            _write(data, count, (_told(part, progress) for part in compute()))
        write_json(record, {"key": dict(key), "sha256": sha256_file(data)})
    return torch.from_numpy(np.load(data, mmap_mode="c"))  # "c": torch warns of memory that cannot be written


def _told(part: Tensor, progress: Progress) -> Tensor:
    progress.update(len(part))
    return part


def _write(path: Path, count: int, parts: Iterator[Tensor]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with faults_named(path), open(temporary, "wb") as file:
            done = 0
            for part in parts:
                if done == 0:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *part.shape[1:])}
                    np.lib.format.write_array_header_2_0(file, header)
                file.write(part.numpy().astype("<f4", copy=False).tobytes())
                done += len(part)
            assert done == count
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _whole(data: Path, record: Path, key: dict[str, Any]) -> bool:
    try:
        facts = json.loads(record.read_bytes())
        return bool(facts["key"] == key and facts["sha256"] == sha256_file(data))
    except (OSError, ValueError, KeyError, TypeError):
        return False

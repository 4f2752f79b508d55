"""Features kept on disk: computed once, memory-mapped afterwards, computed again if damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.files import digest_json, faults_named, sha256_file, write_json
from genrep.progress import Progress


def stored_features(
    folder: Path | None,
    key: Mapping[str, Any],
    count: int,
    compute: Callable[[], Iterator[Tensor]],
    label: str = "features",
) -> Tensor:
    """The features of ``key`` from ``folder``, or those that ``compute`` yields, which are kept there.

    Written a batch at a time and mapped, not held in memory; ``folder=None`` keeps them in memory only. A file without its
    record, or with other bytes than the record says, counts for nothing.

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

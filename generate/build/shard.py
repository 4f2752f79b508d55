"""One shard: a source's batches in an FFCV file, whose bytes are the same on every run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from genrep.datasets_manifest.beton_writer import BetonWriter

from ..sources.base import Batch


class ShardWriter:
    """Context manager that writes one shard; nothing appears under ``path`` until ``finish`` has returned."""

    def __init__(self, path: Path, table: list[dict[str, Any]], count: int, page: int) -> None:
        self.file = BetonWriter(path, table, count, page)
        self.latents_digest = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)

    def append(self, batch: Batch) -> None:
        """Add the batch's pairs."""
        columns: list[Any] = [*batch.images, *batch.latents, batch.labels, batch.indices]
        if batch.rows is not None:
            columns.append(batch.rows)
        self.file.append(columns)
        for row in range(len(batch.indices)):
            for z in batch.latents:
                self.latents_digest.update(z[row].astype("<f4").tobytes())

    def finish(self) -> dict[str, Any]:
        """Write the tables, make the file durable, give it its name; returns its bytes and digests."""
        size, sha256 = self.file.finish()
        return {"bytes": size, "sha256": sha256, "latents_sha256": self.latents_digest.hexdigest()}

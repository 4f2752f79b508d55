"""The checks of ``verify`` on one shard's file, level by level. Everything is read through one descriptor, opened once."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from genrep.errors import DatasetError

from . import layout
from .beton import Beton
from .contents import read_field
from .fingerprints import difference_from
from .manifest import Manifest, Shard
from .recomputed import Recomputed
from .schema import TABLES, WEIGHT_FIELD

MAX_FAULTS_PER_SHARD = 10  # broken samples that are named
BLOCK = 1 << 20
BATCH = 256  # samples between two reports of progress
LARGE = 16 << 20  # bytes of a shard's tables, or of one of its images: these are looked at one at a time
KEPT = 128 << 20  # bytes of a shard's records: above, nothing else that is large is looked at while they are in memory

Report = Callable[[int], None]


class CheckStopped(Exception):
    """The result is no longer wanted."""


class Footprint:
    """Memory that checking a dataset's shards takes. Large pieces are checked one at a time, to bound it."""

    def __init__(self, manifest: Manifest) -> None:
        self.record = layout.record_dtype(manifest.fields).itemsize
        self.row = self.record + layout.ALLOCATION.itemsize * len(layout.stored_fields(manifest.fields))
        self.large_images = math.prod(layout.largest_shape(manifest.fields[0])) > LARGE

    def large_tables(self, shard: Shard) -> bool:
        """Checking tables takes a few times their size; the records remain afterwards."""
        return shard.count * self.row > LARGE

    def large_records(self, shard: Shard) -> bool:
        """Whether even the remaining memory is large."""
        return shard.count * self.record > KEPT


def open_shard(folder: Path, manifest: Manifest, shard: Shard) -> Beton:
    """Open a shard of the stated size whose tables are right and whose labels are classes. Raises DatasetError."""
    beton = Beton(folder / shard.name, manifest.fields, shard.count, shard.first_index)
    if beton.size != shard.bytes:
        with closing(beton):
            raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
    if reason := _values_fault(beton, manifest):
        with closing(beton):
            raise beton.fault(reason)
    return beton


def _values_fault(beton: Beton, manifest: Manifest) -> str | None:
    """The first label, row or float of a shard's records that cannot be; None if all can."""
    rows = {field: table["count"] for name, (field, _) in TABLES.items() if (table := manifest.table(name))}
    for field in beton.fields.values():
        name, values = field["name"], beton.samples[field["name"]] if field["kind"] in layout.IN_RECORDS else None
        if values is None or name == "index":
            continue
        base = name.rstrip("0123456789").rstrip("_")
        if field["kind"] == "float":
            wrong = ~np.isfinite(values) if name != WEIGHT_FIELD else ~(np.isfinite(values) & (values >= 0))
            wanted = "a finite number" if name != WEIGHT_FIELD else "a finite number, 0 at least"
        elif name == "label":
            wrong = (values < -1) | (values >= len(manifest.classes))
            wanted = f"-1 to {len(manifest.classes) - 1}"
        elif base in rows:
            wrong = (values < 0) | (values >= rows[base])
            wanted = f"0 to {rows[base] - 1}"
        else:  # rows of features, of which the manifest does not say how many there are
            wrong, wanted = values < 0, "0 at least"
        if wrong.any():
            i = int(wrong.argmax())
            return f"sample {i} has {name} {values[i]}, wanted {wanted}"
    return None


def sha256_of(beton: Beton, report: Report, stop: Event) -> str:
    """Hex sha256 of an open shard's bytes. Raises DatasetError if the file has grown, OSError, Stopped."""
    os.posix_fadvise(beton.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view, offset = memoryview(buffer), 0
    while count := os.preadv(beton.descriptor, [buffer], offset):
        digest.update(view[:count])
        offset += count
        if offset > beton.size:
            raise beton.fault("grew while it was read")
        if stop.is_set():
            raise CheckStopped
        report(count)
    return digest.hexdigest()


def content_faults(beton: Beton, manifest: Manifest, shard: Shard, report: Report, stop: Event) -> Iterator[str]:
    """Decode every JPEG and digest the latents (raw images need no decoding: their sizes are checked already).

    Latents that are not stored are made again. Raises Stopped, and DatasetError where they cannot be made here.
    """
    jpegs = [field["name"] for field in manifest.image_fields if layout.is_jpeg(field)]
    latents = [field["name"] for field in manifest.latent_fields]
    missing = Recomputed(manifest)
    digest = hashlib.sha256()
    faults = 0
    for i in range(shard.count):
        if stop.is_set():
            raise CheckStopped
        made = missing.next(shard.first_index + i, shard.first_index + shard.count)
        for name in latents:
            digest.update(np.ascontiguousarray(made[name]).data if name in made else beton.read(i, name).data)
        for name in jpegs:
            try:
                read_field(beton, i, name)
            except DatasetError as error:
                faults += 1
                if faults <= MAX_FAULTS_PER_SHARD:
                    yield str(error).removeprefix(f"{beton.path}: ")
        if i % BATCH == BATCH - 1:
            report(BATCH * shard.bytes // shard.count)
    if faults > MAX_FAULTS_PER_SHARD:
        yield f"{faults - MAX_FAULTS_PER_SHARD} more images cannot be decoded"
    if digest.hexdigest() != shard.latents_sha256:
        yield f"latents_sha256 is {digest.hexdigest()}, the manifest says {shard.latents_sha256}"
    if shard.fingerprint is not None and not faults:
        yield from _fingerprint_faults(beton, shard.fingerprint)


def _fingerprint_faults(beton: Beton, fingerprint: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a shard's images, compared with its fingerprint."""
    found = difference_from(beton, fingerprint)
    if found is None:
        yield "its fingerprint is not of this dataset's images"
    elif not found.within_tolerance:
        yield f"its images differ from its fingerprint by up to {found.largest} levels"

"""``genrep-generate from-folder``: an image folder, or a named dataset, becomes shards."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from genrep.datasets_manifest.schema import field_table
from genrep.errors import DataError
from genrep.files import locked_folder
from genrep.photo_sets import FOLDER_SETS
from genrep.real_images import NAMED, load_images

from ..builder.folder import UNREADABLE_NAME, refuse_strangers
from ..builder.job import Job
from ..builder.plan import Plan, pair_bytes, shard_pairs
from ..builder.pool import WorkerPool, build_here
from ..builder.run import BuildReport, run_build
from ..builder.source import OpenSource
from ..pixels import default_encoding, parse_encoding
from .census import take_census
from .config import FolderConfig
from .listing import is_listed, list_real
from .source import OpenArrays, OpenFiles

MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Images:
    """What both kinds of real images come down to."""

    opener: OpenSource
    source: dict[str, Any]  # for the recipe: what the images are
    shape: tuple[int, int]
    count: int
    classes: tuple[str, ...]
    licence: str


def build_from_folder(config: FolderConfig) -> BuildReport:
    """Build a dataset of real images (``anchor``, ``label``, ``index``), or finish one that an earlier call left.

    Raises:
        DataError: there are no images, they differ in size and no ``size`` is given, or (``strict``) one cannot be read.
        ResumeError: the folder belongs to something else.
    """
    processes = config.processes or len(os.sched_getaffinity(0))
    images = _named(config) if config.data in NAMED else _files(config, processes)
    plan = _plan(config, images)
    job = Job(out=config.out, plan=plan, open_source=images.opener, device="cpu", threads=1)
    in_memory = isinstance(images.opener, OpenArrays)  # not worth a copy in every process
    if in_memory or min(processes, plan.num_shards) == 1:
        return run_build(job, lambda numbers: build_here(job, images.opener(), numbers))
    return run_build(job, WorkerPool(job, min(processes, plan.num_shards)).run)


def _plan(config: FolderConfig, images: _Images) -> Plan:
    encoding = config.encoding or default_encoding(*images.shape)
    parse_encoding(encoding)
    fields = field_table(images.shape, encoding)
    recipe = {
        "source": images.source,
        "image": {
            "height": images.shape[0],
            "width": images.shape[1],
            "size": config.size,
            "crop": config.crop if config.size else None,
            "encoding": encoding,
        },
        "num_pairs": images.count,
        "pairs_per_shard": shard_pairs(config.shard_size, images.count, pair_bytes(fields)),
        "num_positives": 0,
        "seed": 0,
    }
    return Plan(recipe=recipe, fields=fields, classes=images.classes, facts={"licence": images.licence})


def _named(config: FolderConfig) -> _Images:
    data = load_images(config.data, config.root, config.split, download=config.download)
    images, labels = np.ascontiguousarray(data.images), data.labels
    if config.shape() is not None and config.shape() != images.shape[1:3]:
        raise DataError(
            f"--size {config.size}: {config.data} has images of {images.shape[1]}x{images.shape[2]}, kept as they are"
        )
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    source = {"kind": "named", "name": config.data, "split": config.split, "sha256": digest}
    return _Images(
        opener=OpenArrays(images=images, labels=labels, batch_size=config.batch_size),
        source=source,
        shape=(images.shape[1], images.shape[2]),
        count=len(images),
        classes=tuple(data.classes),
        licence=data.licence,
    )


def _files(config: FolderConfig, processes: int) -> _Images:
    if not is_listed(config.data):
        raise DataError(f"{config.data}: neither a folder nor one of {', '.join(sorted((*NAMED, *FOLDER_SETS)))}")
    listing = list_real(config.data, config.root, config.split)
    with locked_folder(config.out):
        refuse_strangers(config.out)
        census, unreadable = take_census(listing, config.out, processes)
    _tell(unreadable, config)
    keep = np.flatnonzero(census.readable)
    if not len(keep):
        raise DataError(f"{listing.base}: not one of {len(listing.names)} images can be read")
    shape = config.shape()
    if shape is None:
        if len(census.shapes) > 1:
            (h0, w0), (h1, w1) = census.shapes
            raise DataError(f"{listing.base}: images of several sizes, e.g. {h0}x{w0} and {h1}x{w1}: give --size")
        shape = census.shapes[0]
    names = [listing.names[i] for i in keep]
    return _Images(
        opener=OpenFiles(
            base=listing.base,
            names=names,
            labels=listing.labels[keep],
            shape=shape,
            crop=config.crop,
            batch_size=config.batch_size,
        ),
        source={"kind": "folder", "name": listing.name, "split": config.split, "sha256": census.digest},
        shape=shape,
        count=len(names),
        classes=listing.classes,
        licence="unknown",
    )


def _tell(unreadable: list[tuple[str, str]], config: FolderConfig) -> None:
    if not unreadable:
        return
    shown = "; ".join(f"{name} ({reason})" for name, reason in unreadable[:MAX_NAMED])
    more = f"; and {len(unreadable) - MAX_NAMED} more" if len(unreadable) > MAX_NAMED else ""
    message = f"{len(unreadable)} images cannot be read: {shown}{more}"
    if config.strict:
        raise DataError(f"--strict: {message}")
    print(f"{message}; skipped, all named in {config.out / UNREADABLE_NAME}", file=sys.stderr)

"""``genrep-generate from-folder``: an image folder, or a named dataset, becomes shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest.schema import MAX_SHARDS, field_table
from genrep.errors import DataError
from genrep.files import locked_folder, require_writable
from genrep.images.sets import is_small, list_split, load_images, require_images
from genrep.machine import cores
from genrep.progress import note

from ..pixels import default_encoding, parse_encoding
from ..plans.build_plan import BuildPlan, pair_bytes, shard_pairs, small_page
from ..plans.config import FolderConfig
from ..sources.base import OpenSource
from ..sources.real import UNREADABLE_NAME, Fitting, OpenArrays, OpenFiles, take_census, whole_shapes
from .output_folder import refuse_strangers
from .run import BuildReport, run_build
from .shard import Job
from .workers import WorkerPool, build_here

MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Images:
    """What both kinds of real images, named datasets and folders, are reduced to."""

    opener: OpenSource
    source: dict[str, Any]  # for the recipe: what the images are
    shapes: NDArray[np.int64]  # (N, 2), or (1, 2) where all have one: height and width as stored
    count: int
    classes: tuple[str, ...]
    licence: str


def build_from_folder(config: FolderConfig) -> BuildReport:
    """Build a dataset of real images (``anchor``, ``label``, ``index``), or finish one that an earlier call left.

    Raises:
        DataError: there are no images, they differ in size and no ``size`` is given, or (``strict``) one cannot be read.
        ResumeError: the folder belongs to something else.
    """
    if config.encoding is not None:
        parse_encoding(config.encoding)
    shard_pairs(config.shard_size, MAX_SHARDS, 1.0)
    require_writable(config.out)
    processes = config.processes or cores()
    images = _named(config) if is_small(config.data) else _files(config, processes)
    plan = _plan(config, images)
    job = Job(out=config.out, plan=plan, open_source=images.opener, device="cpu", threads=1)
    in_memory = isinstance(images.opener, OpenArrays)  # not worth a copy in every process
    if in_memory or min(processes, plan.num_shards) == 1:
        return run_build(job, lambda numbers: build_here(job, images.opener(), numbers))
    return run_build(job, WorkerPool(job, min(processes, plan.num_shards)).run)


def _plan(config: FolderConfig, images: _Images) -> BuildPlan:
    height, width = images.shapes.max(axis=0).tolist()
    encoding = config.encoding or default_encoding(height, width)
    parse_encoding(encoding)
    varying = bool((images.shapes != images.shapes[0]).any())
    fields = field_table((height, width), encoding, varying=varying)
    pixels = images.shapes.prod(axis=1)
    mean_bytes = pair_bytes(fields, image_pixels=float(pixels.mean()))
    per_shard, largest = shard_pairs(config.shard_size, images.count, mean_bytes), 3 * int(pixels.max())
    image: dict[str, Any] = {
        "height": None if varying else height,
        "width": None if varying else width,
        "size": config.size,
        "crop": config.crop if config.size else None,
        "encoding": encoding,
    }
    if config.shorter_side is not None:
        image["shorter_side"] = config.shorter_side
    recipe = {
        "source": images.source,
        "image": image,
        "num_pairs": images.count,
        "pairs_per_shard": per_shard,
        "num_positives": 0,
        "seed": 0,
    }
    return BuildPlan(
        recipe=recipe,
        fields=fields,
        classes=images.classes,
        facts={"licence": images.licence, **small_page(fields, per_shard * mean_bytes, largest=largest)},
        largest_sample=largest,
    )


def _named(config: FolderConfig) -> _Images:
    data = load_images(config.data, config.root, config.split, download=config.download)
    images, labels = np.ascontiguousarray(data.images), data.labels
    height, width = images.shape[1:3]
    if config.shape() not in (None, (height, width)):
        raise DataError.naming(
            "{size} {}: {} has images of {}x{}, kept as they are", config.size, config.data, height, width
        )
    if config.shorter_side is not None and config.shorter_side < min(height, width):
        raise DataError.naming(
            "{shorter_side} {}: {} has images of {}x{}, kept as they are",
            config.shorter_side,
            config.data,
            height,
            width,
        )
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    source = {"kind": "named", "name": config.data, "split": config.split, "sha256": digest}
    return _Images(
        opener=OpenArrays(images=images, labels=labels, batch_size=config.batch_size),
        source=source,
        shapes=np.array([[height, width]], dtype=np.int64),
        count=len(images),
        classes=tuple(data.classes),
        licence=data.licence,
    )


def _files(config: FolderConfig, processes: int) -> _Images:
    require_images(config.data)
    listing = list_split(config.data, config.root, config.split)
    with locked_folder(config.out):
        refuse_strangers(config.out)
        census, unreadable = take_census(listing, config.out, processes)
    _tell(unreadable, config)
    keep = np.flatnonzero(census.readable)
    if not len(keep):
        raise DataError(f"{listing.base}: none of the {len(listing.names)} images can be read")
    shapes = _stored_shapes(census.shapes[keep], config, listing.base)
    fitting = Fitting(shape=tuple(shapes[0].tolist()), crop=config.crop, shorter_side=config.shorter_side)
    names = [listing.names[i] for i in keep]
    return _Images(
        opener=OpenFiles(
            base=listing.base,
            names=names,
            labels=listing.labels[keep],
            fitting=fitting,
            batch_size=config.batch_size,
        ),
        source={"kind": "folder", "name": listing.name, "split": config.split, "sha256": census.digest},
        shapes=shapes,
        count=len(names),
        classes=listing.classes,
        licence="unknown",
    )


def _stored_shapes(shapes: NDArray[np.int64], config: FolderConfig, base: Path) -> NDArray[np.int64]:
    """Height and width of the stored images, from those of the files. Raises DataError if they differ and no option decides."""
    shape = config.shape()
    if shape is not None:
        return np.array([shape], dtype=np.int64)
    if config.shorter_side is not None:
        return whole_shapes(shapes, config.shorter_side)
    others = (shapes != shapes[0]).any(axis=1)
    if others.any():
        (h0, w0), (h1, w1) = shapes[0].tolist(), shapes[others.argmax()].tolist()
        raise DataError.naming(
            f"{{}}: images of several sizes, e.g. {h0}x{w0} and {h1}x{w1}: give {{shorter_side}} for whole images, or {{size}}",
            base,
        )
    return shapes[:1]


def _tell(unreadable: list[tuple[str, str]], config: FolderConfig) -> None:
    if not unreadable:
        return
    shown = "; ".join(f"{name} ({reason})" for name, reason in unreadable[:MAX_NAMED])
    more = f"; and {len(unreadable) - MAX_NAMED} more" if len(unreadable) > MAX_NAMED else ""
    message = f"{len(unreadable)} images cannot be read: {shown}{more}"
    if config.strict:
        raise DataError.naming("{strict}: {}", message)
    note(f"{message}; skipped, all named in {config.out / UNREADABLE_NAME}")

"""Datasets of both schema versions whose latents follow from the recipe, stored or not; the rest is a formula of the index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrep.datasets_manifest import Shard, build_manifest, field_table, shard_name, write_manifest, write_shard_record
from genrep.datasets_manifest.layout import in_beton
from genrep.datasets_manifest.tables import write_prompts, write_sources
from genrep.files import sha256_file
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import parse_view
from genrep.generate.views.base import Draw

GROUPS = ("cat", "dog", "cow")
PROMPTS = [(f"a {group}, number {k}", group) for k in range(2) for group in GROUPS]  # row r is of group r % 3
SOURCES = [(f"photo-{k}.jpg", f"{k:064x}") for k in range(4)]
SEED = 3


def picture(index: int, which: int, size: int) -> NDArray[np.uint8]:
    """A smooth image that only this pair has; its positives (``which`` >= 1) are brighter."""
    y, x = np.mgrid[0:size, 0:size]
    phase = np.array([0, 1, 2]) * 0.7 + index
    return np.clip(
        128 + 90 * np.sin(0.1 * (index % 7 + 1) * x[..., None] + 0.2 * y[..., None] + phase) + 8 * which, 0, 255
    ).astype(np.uint8)


def number(name: str, index: int) -> float:
    """The value of a float or int field."""
    base, _, which = name.partition("_")
    k = int(which or 0)
    values = {
        "strength": 0.25 + k + index / 64,
        "weight": float(index % 4 + 1),
        "prompt": (index + k) % len(PROMPTS),
        "source": index % len(SOURCES),
        "label": index % len(GROUPS),
        "index": index,
    }
    return values[base]


def write_drawn(
    write: Callable[..., None],
    folder: Path,
    *,
    count: int = 24,
    per_shard: int = 10,
    positives: int = 1,
    size: int = 16,
    shape: Sequence[int] = (2, 3, 4),
    stored: bool = True,
    real: bool = False,
    version: int = 2,
    number_of: Callable[[str, int], float] = number,
    **extra: Any,
) -> Path:
    """``extra``: of ``field_table``: floats, prompts, sources. ``real``: the anchors have no latents."""
    folder.mkdir(parents=True)
    z = {"z_positive": shape} if real else {"z_anchor": shape}
    table = field_table((size, size), "raw", num_positives=positives, latents_stored=stored, **z, **extra)
    latent, view = LatentSpec(shape=tuple(shape)), parse_view("gaussian:std=0.5")
    indices = np.arange(count)
    anchors = latent.sample(SEED, indices)
    latents = {"z_anchor": anchors.reshape(-1, *shape)}
    for k in range(positives):
        moved = view.transform(anchors, latent, Draw(seed=SEED, indices=indices, k=k))
        latents[f"z_positive_{k}" if k else "z_positive"] = moved.reshape(-1, *shape)
    names = [field["name"] for field in table if field["kind"] == "image"]

    def value(field: dict[str, Any], index: int) -> Any:
        if field["kind"] == "image":
            return picture(index, names.index(field["name"]), size)
        return latents[field["name"]][index] if field["kind"] == "float32" else number_of(field["name"], index)

    shards = []
    for k, first in enumerate(range(0, count, per_shard)):
        path, numbers = folder / shard_name(k), range(first, min(first + per_shard, count))
        write(path, table, [tuple(value(field, index) for field in in_beton(table)) for index in numbers], 1 << 21)
        digest = hashlib.sha256()
        for index in numbers:
            for field in table:
                if field["kind"] == "float32":
                    digest.update(value(field, index).astype("<f4").tobytes())
        facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path), "latents_sha256": digest.hexdigest()}
        shards.append(Shard(name=path.name, first_index=first, count=len(numbers), **facts))
        write_shard_record(folder, shards[-1])
    recipe = {
        **{"num_pairs": count, "pairs_per_shard": per_shard, "seed": SEED, "folder": folder.name},
        **{"latent": latent.to_json(), "views": view.to_json(), **({} if stored else {"latents_stored": False})},
    }
    tables = []
    if extra.get("prompts"):
        tables.append(write_prompts(folder / "prompts.jsonl", PROMPTS))
        recipe["prompts"] = {key: tables[-1][key] for key in ("sha256", "count")}
    if extra.get("sources"):
        tables.append(write_sources(folder / "sources.jsonl", SOURCES))
        recipe["anchors"] = {key: tables[-1][key] for key in ("sha256", "count")}
    write_manifest(folder, build_manifest(recipe, table, GROUPS, shards, {}, tables, schema_version=version))
    return folder

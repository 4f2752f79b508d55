"""Describe a manifest for ``genrep-manifest show``. All output is printable, whatever strings the manifest holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genrep.untrusted import printable

from .layout import STORED, shape_in_words
from .manifest import Manifest, dataset_folder
from .tables import SOURCES_NAME
from .transport import is_address

WIDTH = 22  # of the left column
MAX_VALUE = 160  # characters of a value
# Said in the lines on pairs and shards, tables and fields.
RECIPE_SAID: tuple[str, ...] = ("num_pairs", "num_positives", "pairs_per_shard", "latents_stored")
RECIPE_SAID += tuple(f"{key}.{fact}" for key in ("prompts", "anchors") for fact in ("sha256", "count"))


def contact_sheets(source: str | Path) -> list[str]:
    """Paths of the PNG files in the folder, sorted. At an address, which lists no files: the builder's if it is there."""
    if is_address(str(source)):
        from .finish import SHEET_NAME
        from .transport import remote_file

        found = remote_file(str(source), SHEET_NAME)
        return [found] if found else []
    folder = dataset_folder(source)
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [
            entry.name for entry in entries if entry.name.endswith(".png") and entry.is_file(follow_symlinks=False)
        ]
    return [str(folder / name) for name in sorted(names)]


def summary(source: str | Path, manifest: Manifest) -> dict[str, Any]:
    """Facts that follow from the manifest, for ``show --json``."""
    return {
        "folder": str(source),
        "pairs": manifest.num_pairs,
        "positives_per_anchor": manifest.num_positives,
        "shards": len(manifest.shards),
        "bytes": manifest.num_bytes,
        "contact_sheets": contact_sheets(source),
    }


def facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Name and value of everything in the manifest, unchanged: the caller must cut and escape them.

    The recipe and the build facts have an entry per value, nested keys dotted.
    """
    yield "id", manifest.id
    yield "digest", manifest.digest
    licence = manifest.build.get("licence")
    yield "licence", licence if isinstance(licence, str) else "not stated"
    positives = manifest.num_positives
    kind = f"each with {positives} positive{'s' if positives > 1 else ''}" if positives else "anchors only"
    if manifest.table(SOURCES_NAME) is not None:
        kind = f"real anchors, {kind}"
    yield "pairs", f"{manifest.num_pairs:,}, {kind}"
    per_shard = manifest.recipe["pairs_per_shard"]
    yield "shards", f"{len(manifest.shards)} of {per_shard:,} pairs (the last may hold fewer)"
    yield "bytes", f"{manifest.num_bytes:,} ({manifest.num_bytes / 2**20:,.1f} MiB)"
    for table in manifest.tables:
        size = f"{table['bytes']:,} bytes, sha256 {table['sha256']}"
        yield table["name"], f"{table['count']:,} row{'s' if table['count'] > 1 else ''}, {size}"
    for field in manifest.fields:
        yield f"field {field['name']}", _field(field)
    yield "classes", f"{len(manifest.classes)}: {', '.join(manifest.classes)}" if manifest.classes else "none"
    for key, value in _flat(manifest.recipe):
        if key not in RECIPE_SAID and key.split(".")[0] != "classes":
            yield key, value
    yield from _flat({key: item for key, item in manifest.build.items() if key != "licence"}, "build")


def describe(source: str | Path, manifest: Manifest) -> Iterator[str]:
    """The lines that ``show`` prints."""
    yield _line("dataset", str(source))
    for key, value in facts(manifest):
        yield _line(key, value)
    for path in contact_sheets(source):
        yield _line("contact sheet", path)


def _field(field: dict[str, Any]) -> str:
    stored = field.get("encoding", "") if field.get(STORED, True) else "(not stored: recipe and index give it back)"
    return " ".join(part for part in (field["kind"], shape_in_words(field), stored) if part)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Nested objects as dotted keys; lists and scalars as JSON, texts as they are."""
    if isinstance(value, dict) and (value or not key):
        for name in sorted(value):
            yield from _flat(value[name], f"{key}.{name}" if key else name)
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(key: str, value: str) -> str:
    if len(value) > MAX_VALUE:
        value = value[: MAX_VALUE - 3] + "..."
    return f"{printable(key[:MAX_VALUE]):<{WIDTH}} {printable(value)}"

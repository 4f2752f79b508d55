"""manifest.json and the shard jsons as objects: built, written and read under one schema (docs/format.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.errors import ManifestError
from genrep.files import canonical_json, digest_json, user_path, write_json
from genrep.untrusted import printable

from .schema import (
    SCHEMA_VERSION,
    SHARD_KEYS,
    TABLES_KEY,
    check_manifest,
    check_shard,
    shard_name,
    shard_record_name,
)
from .strict_json import parse_json, read_json

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Manifest",
    "Shard",
    "build_manifest",
    "dataset_folder",
    "parse_manifest",
    "read_manifest",
    "read_manifest_file",
    "read_shard_record",
    "shard_name",
    "shard_record_name",
    "write_manifest",
    "write_shard_record",
]

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20
MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard: what its json says, and its entry in the manifest."""

    name: str  # bare file name, shard-00000.beton
    first_index: int
    count: int  # pairs
    bytes: int  # size of the file
    sha256: str  # of the file
    latents_sha256: str  # over pairs in index order of little-endian float32 z_anchor, z_positive, z_positive_1, …
    facts: dict[str, Any] = field(default_factory=dict)  # how it was made: seconds, device, batch_size, threads, …

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What ``recovery.fingerprints`` made of its images; None in a set that keeps none."""
        return self.facts.get("fingerprint")

    @property
    def number(self) -> int:
        """Its place among the shards, from 0."""
        return int(self.name[len("shard-") : len("shard-") + 5])

    @property
    def record_name(self) -> str:
        """Name of the shard's json: ``shard-00000.json``."""
        return self.name.removesuffix(".beton") + ".json"

    def to_json(self) -> dict[str, Any]:
        """The flat object: the prescribed keys and the facts side by side."""
        prescribed = {key: value for key, value in vars(self).items() if key in SHARD_KEYS}
        if clash := SHARD_KEYS & self.facts.keys():
            raise ValueError(f"facts must not name {sorted(clash)}")
        return {**self.facts, **prescribed}

    @classmethod
    def from_json(cls, value: Any, where: str = "shard") -> Shard:
        """Read the flat object. Raises ManifestError, naming ``where``."""
        check_shard(value, where)
        facts = {key: item for key, item in value.items() if key not in SHARD_KEYS}
        return cls(**{key: value[key] for key in SHARD_KEYS}, facts=facts)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished dataset: what it is (``recipe``), what it holds (``fields``, ``shards``), how it was made (``build``)."""

    id: str  # sha256 of the recipe's canonical JSON
    recipe: dict[str, Any]
    fields: list[dict[str, Any]]  # in the order of the betons
    classes: list[str]  # names of the labels 0, 1, …; empty = no labels
    build: dict[str, Any]
    shards: list[Shard]
    digest: str  # sha256 of the canonical JSON without this key
    tables: list[dict[str, Any]] = field(
        default_factory=list
    )  # files of rows beside the shards: name, sha256, bytes, count
    schema_version: int = SCHEMA_VERSION  # whose rules it follows

    @property
    def num_pairs(self) -> int:
        """Number of samples: an anchor each, with its positives."""
        return sum(shard.count for shard in self.shards)

    @property
    def num_positives(self) -> int:
        """Stored positives per anchor."""
        return len(self.image_fields) - 1

    @property
    def num_bytes(self) -> int:
        """Size of all shards together."""
        return sum(shard.bytes for shard in self.shards)

    def table(self, name: str) -> dict[str, Any] | None:
        """The facts of a table (``prompts.jsonl``, ``sources.jsonl``); None where there is none."""
        return next((table for table in self.tables if table["name"] == name), None)

    @property
    def image_fields(self) -> list[dict[str, Any]]:
        """The fields anchor, positive, positive_1, …"""
        return [entry for entry in self.fields if entry["kind"] == "image"]

    @property
    def latent_fields(self) -> list[dict[str, Any]]:
        """The fields z_anchor, z_positive, z_positive_1, …, stored or not; none in a set of real images, and no z_anchor where
        anchors are real."""
        return [entry for entry in self.fields if entry["kind"] == "float32"]

    @property
    def float_fields(self) -> list[dict[str, Any]]:
        """The fields strength, noise_level, …, weight."""
        return [entry for entry in self.fields if entry["kind"] == "float"]

    def to_json(self) -> dict[str, Any]:
        """The object that manifest.json holds."""
        value = {**vars(self), "shards": [shard.to_json() for shard in self.shards]}
        if not self.tables:
            del value[TABLES_KEY]
        return value


def build_manifest(
    recipe: Mapping[str, Any],
    fields: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    shards: Sequence[Shard],
    build: Mapping[str, Any],
    tables: Sequence[Mapping[str, Any]] = (),
    *,
    schema_version: int = SCHEMA_VERSION,
) -> Manifest:
    """Put a manifest together. ``recipe`` holds num_pairs, pairs_per_shard and seed, so that the id covers them.

    Args:
        tables: what ``tables.write_prompts`` and ``write_sources`` returned, where the fields have a ``prompt`` or ``source``.
        schema_version: other than the newest where an earlier manifest is written again.

    Raises ManifestError for whatever ``read_manifest`` would refuse, so that no unreadable dataset is ever finished.
    """
    given: dict[str, Any] = {
        "schema_version": schema_version,
        "recipe": dict(recipe),
        "fields": [dict(entry) for entry in fields],
        "classes": list(classes),
        "build": dict(build),
        "shards": [shard.to_json() for shard in shards],
        **({TABLES_KEY: [dict(table) for table in tables]} if tables else {}),
    }
    where = "new manifest"
    try:
        value = parse_json(canonical_json(given), where)  # digests are taken of what a reader will see
    except ValueError as fault:
        raise ManifestError(f"{where}: {fault}") from None
    value["id"] = digest_json(value["recipe"])
    value["digest"] = digest_json(value)
    check_manifest(value, where)
    return _from_checked(value)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` atomically and durably: the last act of building a dataset."""
    write_json(Path(folder) / MANIFEST_NAME, manifest.to_json())


def dataset_folder(path: Path | str) -> Path:
    """The folder of the dataset that a user names by the folder or by its manifest.json; ``~`` as in ``user_path``."""
    folder = user_path(path)
    return folder.parent if folder.name == MANIFEST_NAME and not folder.is_dir() else folder


def read_manifest(folder: Path | str) -> Manifest:
    """Read and check ``folder``'s manifest.json. Raises ManifestError, one line naming the file, for anything else."""
    folder = dataset_folder(folder)
    path = folder / MANIFEST_NAME
    if not os.path.lexists(path):
        raise ManifestError(_why_missing(folder))
    return read_manifest_file(path)


def _why_missing(folder: Path) -> str:
    where = printable(str(folder))
    if not os.path.lexists(folder):
        return f"{where}: no such folder; wanted a dataset folder"
    if not folder.is_dir():
        return f"{where}: not a folder; wanted a dataset folder"
    if (folder / "recipe.json").exists():
        return f"{where}/{MANIFEST_NAME}: missing: the build has not finished; run its command again to resume it"
    return f"{where}/{MANIFEST_NAME}: missing: not a dataset folder"


def read_manifest_file(path: Path) -> Manifest:
    """Read and check a manifest, whatever its file's name. Raises ManifestError as ``read_manifest``."""
    value = read_json(path, MAX_MANIFEST_BYTES)
    check_manifest(value, str(path))
    return _from_checked(value)


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Check the bytes of a manifest that came from ``where``. Raises ManifestError, one line that begins with ``where``."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{where}: {len(data)} bytes, wanted at most {MAX_MANIFEST_BYTES}")
    value = parse_json(data, where)
    check_manifest(value, where)
    return _from_checked(value)


def _from_checked(value: dict[str, Any]) -> Manifest:
    parts = {key: item for key, item in value.items() if key != "shards"}
    return Manifest(**parts, shards=[Shard.from_json(shard) for shard in value["shards"]])


def write_shard_record(folder: Path, shard: Shard) -> None:
    """Write the shard's json atomically: now the shard exists. Raises ManifestError for what could not be read back."""
    value = shard.to_json()
    check_shard(value, shard.record_name)
    write_json(Path(folder) / shard.record_name, value)


def read_shard_record(path: Path) -> Shard:
    """Read a shard's json; its name must be the file's. Raises ManifestError."""
    path = Path(path)
    shard = Shard.from_json(read_json(path, MAX_RECORD_BYTES), str(path))
    if shard.record_name != path.name:
        raise ManifestError(f"{path}: it describes {shard.name}")
    return shard

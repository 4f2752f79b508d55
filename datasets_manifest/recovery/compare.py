"""Compare two datasets by their manifests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from genrep.untrusted import printable

from ..fingerprints import difference
from ..manifest import Manifest, Shard

BYTES, FINGERPRINTS, LATENTS, DIFFERENT = "bytes", "fingerprints", "latents", "different"
SAMENESS = (BYTES, FINGERPRINTS, LATENTS, DIFFERENT)  # each less than the one before
WORDS = {
    BYTES: "the same bytes",
    FINGERPRINTS: "the same latents, images that agree with the fingerprints",
    LATENTS: "the same latents, no fingerprints to compare images with",
    DIFFERENT: "other content",
}
MAX_LINES = 50  # of each part
MAX_VALUE = 60  # characters


@dataclass(frozen=True, kw_only=True)
class ShardSameness:
    """How far two shards are the same."""

    name: str
    level: str  # of SAMENESS
    reason: str = ""  # of DIFFERENT

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return vars(self)


def shard_sameness(one: Shard, other: Shard) -> ShardSameness:
    """Compare two shards of one name: their digests, and where these differ their fingerprints."""
    name = one.name
    if (one.first_index, one.count) != (other.first_index, other.count):
        return ShardSameness(name=name, level=DIFFERENT, reason="other pairs")
    if (one.bytes, one.sha256) == (other.bytes, other.sha256):
        return ShardSameness(name=name, level=BYTES)
    if one.latents_sha256 != other.latents_sha256:
        return ShardSameness(name=name, level=DIFFERENT, reason="other latents")
    if one.fingerprint is None or other.fingerprint is None:
        return ShardSameness(name=name, level=LATENTS)
    found = difference(one.fingerprint, other.fingerprint)
    if found is None:
        return ShardSameness(name=name, level=LATENTS)  # of other pairs: another version's choice
    if found.within_tolerance:
        return ShardSameness(name=name, level=FINGERPRINTS)
    reason = f"the same latents, but images that differ by up to {found.largest} levels ({found.mean:.1f} on average)"
    return ShardSameness(name=name, level=DIFFERENT, reason=reason)


def weakest(shards: list[ShardSameness]) -> str:
    """The sameness of a dataset: that of its least similar shard."""
    return max((shard.level for shard in shards), key=SAMENESS.index)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two datasets differ: (key, there, here) for the recipe, the tables and the build."""

    recipe: list[tuple[str, Any, Any]]
    tables: list[tuple[str, Any, Any]]  # fields, classes, and the files of rows
    build: list[tuple[str, Any, Any]]
    shards: list[ShardSameness]  # of the names that both have
    only: tuple[int, int]  # shards that one has alone

    @property
    def same_bytes(self) -> bool:
        """Whether every shard, and its description, is the same byte for byte."""
        return not (self.recipe or self.tables or any(self.only)) and weakest(self.shards) == BYTES

    def lines(self) -> Iterator[str]:
        """What ``diff`` prints."""
        for part in ("recipe", "tables", "build"):
            rows = getattr(self, part)
            for key, one, other in rows[:MAX_LINES]:
                yield f"{part:8} {printable(key[:MAX_VALUE])}: {_value(one)} | {_value(other)}"
            if len(rows) > MAX_LINES:
                yield f"{part:8} and {len(rows) - MAX_LINES} more"
        different = [shard for shard in self.shards if shard.level == DIFFERENT]
        for shard in different[:MAX_LINES]:
            yield f"shards   {shard.name}: {shard.reason}"
        if len(different) > MAX_LINES:
            yield f"shards   and {len(different) - MAX_LINES} more"
        counts = Counter(shard.level for shard in self.shards)
        for level in SAMENESS:
            if counts[level]:
                yield f"shards   {counts[level]} of {len(self.shards)}: {WORDS[level]}"
        for place, count in zip(("A", "B"), self.only):
            if count:
                yield f"shards   {count} only in {place}"
        yield "same" if self.same_bytes else "different"

    def to_json(self) -> dict[str, Any]:
        """For ``diff --json``."""
        return {**vars(self), "shards": [shard.to_json() for shard in self.shards], "same_bytes": self.same_bytes}


def compare(one: Manifest, other: Manifest) -> Comparison:
    """Compare two manifests."""
    tables, others = (_tables(item) for item in (one, other))
    return Comparison(
        recipe=list(_differences(one.recipe, other.recipe, "")),
        tables=[*_differences(tables, others, ""), *_order(one, other)],
        build=list(_differences(one.build, other.build, "")),
        shards=[shard_sameness(first, second) for first, second in zip(one.shards, other.shards)],
        only=(max(0, len(one.shards) - len(other.shards)), max(0, len(other.shards) - len(one.shards))),
    )


def _tables(manifest: Manifest) -> dict[str, Any]:
    """Fields, classes and files of rows; fields and files by their names."""
    return {
        "fields": {
            field["name"]: {key: value for key, value in field.items() if key != "name"} for field in manifest.fields
        },
        "classes": manifest.classes,
        **{table["name"]: table for table in manifest.tables},
    }


def _order(one: Manifest, other: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """The same fields in two orders are two layouts."""
    first, second = ([field["name"] for field in manifest.fields] for manifest in (one, other))
    if first != second and sorted(first) == sorted(second):
        yield "fields", first, second


def _differences(one: Any, other: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Places where two JSON values differ, with dotted keys."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    elif one != other:
        yield key, one, other


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}...")

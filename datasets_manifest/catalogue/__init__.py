"""The catalogue of datasets: one JSON file each, added by pull request (docs/format.md, "The catalogue").

>>> from genrep.datasets_manifest.catalogue import find
>>> find("fashion-gaussian").make["gen"]
'stylegan2_fashion'
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from genrep.errors import DatasetError, ManifestError, one_of
from genrep.untrusted import shown

from ..strict_json import parse_json, want_integer, want_list, want_object, want_sha256, want_text

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
KEYS = frozenset({"title", "licence", "num_pairs", "bytes", "image", "id", "digest", "make", "urls"})
MAKE = frozenset({"gen", "num_pairs"})  # keys that an entry's command needs
OPTIONS = MAKE | {"views", "seed", "classes", "truncation", "num_positives", "encoding", "shard_size"}
SCHEMES = ("https://", "http://", "s3://", "gs://", "hf://")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A dataset of the catalogue."""

    name: str  # of its file
    title: str  # one line
    licence: str
    num_pairs: int
    bytes: int  # of its shards together; where the encoding is JPEG and it is not published: about
    image: list[int]  # height, width
    id: str  # sha256 of the resolved recipe, as in the manifest
    digest: str | None  # of the published manifest; None = not published
    make: dict[str, Any]  # options of genrep-generate dataset that make it; empty = it cannot be made from here
    urls: list[str]  # where it is published

    @property
    def command(self) -> str:
        """The command that makes it here; empty if none does."""
        options = (f"--{key.replace('_', '-')} {value}" for key, value in self.make.items())
        return f"genrep-generate dataset {' '.join(options)}" if self.make else ""

    def lines(self) -> Iterator[str]:
        """What ``list`` prints."""
        size = "x".join(str(side) for side in self.image)
        yield f"{self.name}: {self.title}"
        yield f"    {self.num_pairs:,} pairs of {size}, {self.bytes / 1e6:,.0f} MB, licence {self.licence}, id {self.id[:12]}"
        if self.urls:
            yield f"    genrep-manifest pull {self.name}   (from {', '.join(self.urls)})"
        if self.command:
            yield f"    {self.command}"

    def to_json(self) -> dict[str, Any]:
        """For ``list --json``."""
        return dict(vars(self))


def entries() -> list[Entry]:
    """All entries, by name. Raises ManifestError for a file that is not what docs/format.md describes."""
    files = importlib.resources.files(__name__)
    names = sorted(file.name.removesuffix(".json") for file in files.iterdir() if file.name.endswith(".json"))
    return [parse_entry(name, files.joinpath(f"{name}.json").read_bytes()) for name in names]


def find(name: str) -> Entry:
    """The entry of this name. Raises DatasetError that lists the known names."""
    known = {entry.name: entry for entry in entries()}
    if name not in known:
        raise DatasetError(f"{shown(name)} is not in the catalogue; known: {one_of(name, known)}")
    return known[name]


def parse_entry(name: str, data: bytes) -> Entry:
    """Check an entry's file. Raises ManifestError, which names the entry and the key."""
    where = f"catalogue entry {name}"
    if not NAME.fullmatch(name):
        raise ManifestError(f"{where}: wanted a name of a-z, 0-9 and -")
    value = want_object(parse_json(data, where), where, KEYS, open_ended=False)
    for key in ("title", "licence"):
        if not want_text(value[key], f"{where}: {key}").isprintable():
            raise ManifestError(f"{where}: {key} is {shown(value[key])}, wanted one line")
    for key in ("num_pairs", "bytes"):
        want_integer(value[key], f"{where}: {key}", 1)
    if len(want_list(value["image"], f"{where}: image")) != 2:
        raise ManifestError(f"{where}: image is {shown(value['image'])}, wanted [height, width]")
    for side in value["image"]:
        want_integer(side, f"{where}: image", 1)
    want_sha256(value["id"], f"{where}: id")
    if value["digest"] is not None:
        want_sha256(value["digest"], f"{where}: digest")
    _check_sources(value, where)
    return Entry(name=name, **value)


def _check_sources(value: dict[str, Any], where: str) -> None:
    make, urls = value["make"], want_list(value["urls"], f"{where}: urls")
    want_object(make, f"{where}: make", MAKE if make else frozenset(), open_ended=True)
    for key, item in make.items():
        if key not in OPTIONS or isinstance(item, (dict, list)) or item is None:
            raise ManifestError(
                f"{where}: make: {shown(key)}, wanted one of {', '.join(sorted(OPTIONS))} and its value"
            )
    for url in urls:
        if not isinstance(url, str) or not url.startswith(SCHEMES) or not url.isprintable():
            raise ManifestError(f"{where}: urls has {shown(url)}, wanted an address of {', '.join(SCHEMES)}")
    if not make and not urls:
        raise ManifestError(f"{where}: neither make nor urls says where it comes from")
    if bool(urls) != (value["digest"] is not None):
        raise ManifestError(f"{where}: a published dataset has urls and a digest, another neither")

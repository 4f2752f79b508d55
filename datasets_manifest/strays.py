"""What does not belong into a finished dataset folder, by the names and kinds of its files; and what is not written there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from genrep.errors import ResumeError
from genrep.files import is_clutter
from genrep.untrusted import printable

from .manifest import Manifest
from .schema import MAX_SHARDS

SUFFIXES = (".beton", ".json", ".jsonl", ".png", ".md")
MAX_ENTRIES = 2 * MAX_SHARDS + 1000  # of a folder: the shards, their records, and what may lie beside them


def strays(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each entry that does not belong there; the shards and their records are looked at elsewhere."""
    known = {shard.name for shard in manifest.shards} | {shard.record_name for shard in manifest.shards}
    try:
        with os.scandir(folder) as entries:
            listed = sorted(
                (entry.name, entry.is_file(follow_symlinks=False)) for entry in islice(entries, MAX_ENTRIES)
            )
            more = next(entries, None) is not None
    except OSError as error:
        yield f"{folder}: {error.strerror}"
        return
    if more:
        yield f"{folder}: more than {MAX_ENTRIES} files"
    spelled: dict[str, str] = {}
    for name, regular in listed:
        reason = None if name in known else _fault(name, regular)
        if reason is None and (other := spelled.setdefault(name.casefold(), name)) != name:
            reason = f"differs from {printable(other)} in case only: one file on some systems"
        if reason is not None:
            yield f"{printable(name)}: {reason}"


def refuse_inside(out: Path, folder: Path, *, itself: bool) -> None:
    """Raises ResumeError if ``out`` lies inside a dataset folder, or (``itself``) is that folder, links followed."""
    place, dataset = out.resolve(), folder.resolve()
    if dataset in place.parents or (itself and place == dataset):
        raise ResumeError(f"--out {out}: lies in the dataset, which holds nothing but its own files")


def clutter(folder: Path) -> list[str]:
    """Names of the files that a file manager has left there, sorted: nothing to anybody, and no strays."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, MAX_ENTRIES) if _is_clutter(entry))


def _is_clutter(entry: os.DirEntry[str]) -> bool:
    return is_clutter(entry.name) and entry.is_file(follow_symlinks=False)


def _fault(name: str, regular: bool) -> str | None:
    suffix = os.path.splitext(name)[1]
    if regular and is_clutter(name):
        return None
    if name.startswith("."):
        return "hidden or temporary, does not belong into a finished dataset"
    if not regular:
        return "a folder, link or device, wanted regular files only"
    if suffix not in SUFFIXES:
        return f"wanted only files that end in {', '.join(SUFFIXES)}"
    if suffix == ".beton" or (suffix == ".json" and name.startswith("shard-")):
        return "not in the manifest"
    return None

"""Is a dataset folder what its manifest says? Three levels, each including those before it.

quick  the manifest; every file there, of the stated size, regular, none besides; the shards' jsons; FFCV's tables
bytes  + the sha256 of every shard
full   + every JPEG decodes to its size, and the latents' digests
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import DatasetError, ManifestError
from genrep.files import canonical_json

from . import layout
from .beton import Beton
from .contents import read_field
from .manifest import MANIFEST_NAME, Manifest, Shard, read_manifest, read_shard_record
from .regular import printable
from .schema import ROW_FIELD

LEVELS = ("quick", "bytes", "full")
SUFFIXES = (".beton", ".json", ".jsonl", ".png", ".md")
MAX_FAULTS_PER_SHARD = 10  # broken samples that are named
BLOCK = 1 << 20
BATCH = 256  # samples between two reports of progress

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with a dataset folder."""

    shard: str | None  # the shard's file name; None = the folder, the manifest or a file that is no shard
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}: {self.reason}" if self.shard else self.reason


def verify(folder: Path | str, level: str = "bytes", on_progress: OnProgress | None = None) -> list[Problem]:
    """Check a dataset folder and return everything that is wrong with it: an empty list for a good one.

    ``on_progress(done, total)`` hears of bytes read so far and in all (levels bytes and full). A shard whose tables
    are wrong is not read further. Raises ValueError for an unknown level, and nothing for what lies in the folder.
    """
    folder = Path(folder)
    _check_level(level)
    try:
        manifest = _read_manifest(folder)
    except DatasetError as error:
        return [Problem(shard=None, reason=str(error))]
    return list(_problems(folder, manifest, level, on_progress))


def require_valid(folder: Path | str, level: str = "quick", on_progress: OnProgress | None = None) -> Manifest:
    """The manifest of a folder that passes ``verify``. Raises DatasetError with the first problem otherwise."""
    folder = Path(folder)
    _check_level(level)
    manifest = _read_manifest(folder)
    for problem in _problems(folder, manifest, level, on_progress):
        raise DatasetError(f"{folder / problem.shard}: {problem.reason}" if problem.shard else problem.reason)
    return manifest


def _check_level(level: str) -> None:
    if level not in LEVELS:
        raise ValueError(f"level {level!r}, wanted one of {', '.join(LEVELS)}")


def _read_manifest(folder: Path) -> Manifest:
    if not os.path.isdir(folder):
        raise DatasetError(f"{folder}: not a folder")
    try:
        return read_manifest(folder)
    except ManifestError as error:
        if str(error) == f"{folder / MANIFEST_NAME}: missing":
            raise ManifestError(f"{error}: not a dataset folder, or its build has not finished") from None
        raise


def _problems(folder: Path, manifest: Manifest, level: str, on_progress: OnProgress | None) -> Iterator[Problem]:
    yield from _strays(folder, manifest)
    passes = LEVELS.index(level)
    done, total = 0, passes * manifest.num_bytes

    def report(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, total)

    for shard in manifest.shards:
        before = done
        yield from _record_problems(folder, shard)
        try:
            with _open(folder, manifest, shard) as beton:
                for reason in _shard_faults(beton, manifest, shard, level, report):
                    yield Problem(shard=shard.name, reason=reason)
        except (DatasetError, OSError) as error:
            yield Problem(shard=shard.name, reason=_reason(error, folder / shard.name))
        if passes:
            report(before + passes * shard.bytes - done)  # what a fault cut short counts as done


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    return str(error).removeprefix(f"{path}: ")


def _strays(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    """Files that do not belong into a finished dataset folder."""
    shards = {shard.name for shard in manifest.shards}
    records = {shard.record_name for shard in manifest.shards}
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_file(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        yield Problem(shard=None, reason=f"{folder}: {error.strerror}")
        return
    for name, regular in listed:
        if name in shards or name in records:
            continue  # looked at one by one
        suffix = os.path.splitext(name)[1]
        shown = printable(name)
        if name.startswith("."):
            yield Problem(shard=None, reason=f"{shown}: hidden or temporary, does not belong into a finished dataset")
        elif not regular:
            yield Problem(shard=None, reason=f"{shown}: a folder, link or device, wanted regular files only")
        elif suffix not in SUFFIXES:
            yield Problem(shard=None, reason=f"{shown}: wanted only files that end in {', '.join(SUFFIXES)}")
        elif suffix == ".beton" or (suffix == ".json" and name.startswith("shard-")):
            yield Problem(shard=None, reason=f"{shown}: not in the manifest")


def _record_problems(folder: Path, shard: Shard) -> Iterator[Problem]:
    """The json beside a shard says what the manifest says."""
    path = folder / shard.record_name
    try:
        record = read_shard_record(path)
    except ManifestError as error:
        yield Problem(shard=shard.name, reason=f"{path.name}: {_reason(error, path)}")
        return
    stated, wanted = record.to_json(), shard.to_json()
    if canonical_json(stated) != canonical_json(wanted):
        differing = sorted(key for key in stated.keys() | wanted.keys() if not _same(stated, wanted, key))
        names = ", ".join(printable(key) for key in differing[:5])
        yield Problem(shard=shard.name, reason=f"{path.name} differs from the manifest in {names}")


def _same(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return key in one and key in other and canonical_json(one[key]) == canonical_json(other[key])


def _open(folder: Path, manifest: Manifest, shard: Shard) -> Beton:
    """Open a shard of the stated size whose tables are right and whose labels are classes."""
    beton = Beton(folder / shard.name, manifest.fields, shard.count, shard.first_index)
    if beton.size != shard.bytes:
        with closing(beton):
            raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
    labels = beton.samples["label"]
    wrong = (labels < -1) | (labels >= len(manifest.classes))
    if wrong.any():
        i = int(wrong.argmax())
        with closing(beton):
            raise beton.fault(f"sample {i} has label {labels[i]}, wanted -1 to {len(manifest.classes) - 1}")
    if ROW_FIELD in beton.fields and (beton.samples[ROW_FIELD] < 0).any():
        with closing(beton):
            raise beton.fault(f"sample {int((beton.samples[ROW_FIELD] < 0).argmax())} has a negative {ROW_FIELD}")
    return beton


def _shard_faults(
    beton: Beton, manifest: Manifest, shard: Shard, level: str, report: Callable[[int], None]
) -> Iterator[str]:
    """What the levels above quick find in an open shard."""
    if level == "quick":
        return
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view, offset = memoryview(buffer), 0
    while count := os.preadv(beton.descriptor, [buffer], offset):
        digest.update(view[:count])
        offset += count
        if offset > shard.bytes:
            yield "grew while it was read"
            return
        report(count)
    if digest.hexdigest() != shard.sha256:
        yield f"sha256 is {digest.hexdigest()}, the manifest says {shard.sha256}"
    if level == "full":
        yield from _content_faults(beton, manifest, shard, report)


def _content_faults(beton: Beton, manifest: Manifest, shard: Shard, report: Callable[[int], None]) -> Iterator[str]:
    """Decode every JPEG and digest the latents (raw images need no decoding: their sizes are checked already)."""
    jpegs = [field["name"] for field in manifest.image_fields if layout.is_jpeg(field)]
    latents = [field["name"] for field in manifest.latent_fields]
    digest = hashlib.sha256()
    faults = 0
    for i in range(shard.count):
        for name in latents:
            digest.update(beton.read(i, name).data)
        for name in jpegs:
            try:
                read_field(beton, i, name)
            except DatasetError as error:
                faults += 1
                if faults <= MAX_FAULTS_PER_SHARD:
                    yield _reason(error, beton.path)
        if i % BATCH == BATCH - 1:
            report(BATCH * shard.bytes // shard.count)
    if faults > MAX_FAULTS_PER_SHARD:
        yield f"{faults - MAX_FAULTS_PER_SHARD} more images cannot be decoded"
    if digest.hexdigest() != shard.latents_sha256:
        yield f"latents_sha256 is {digest.hexdigest()}, the manifest says {shard.latents_sha256}"

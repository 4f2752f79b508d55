"""Check a dataset folder against its manifest, at three levels, each of which includes those before it.

quick  the manifest; every file there, of the stated size, regular, none besides; the shards' jsons; FFCV's tables
bytes  + the sha256 of every shard and table of rows
full   + every JPEG decodes to its size; the latents' digests (those not stored are made again); the fingerprints; every line of
       the tables of rows
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial as bound
from itertools import islice
from pathlib import Path
from threading import Event, Lock, RLock
from typing import Any

from genrep.errors import DatasetError, ManifestError, ResumeError, one_of
from genrep.files import canonical_json, is_clutter
from genrep.untrusted import printable

from .manifest import Manifest, Shard, dataset_folder, read_manifest, read_shard_record
from .schema import MAX_SHARDS
from .shard_checks import CheckStopped, Footprint, content_faults, open_shard, sha256_of
from .tables import table_faults

LEVELS = ("quick", "bytes", "full")
MAX_KEY = 60  # characters of a stranger's key that are shown
AHEAD = 16  # shards per thread that are begun before the first of them is reported

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with a dataset folder."""

    shard: str | None  # the shard's file name; None = the folder, the manifest or a file that is no shard
    reason: str
    record: bool = False  # of the json beside the shard, not of the shard

    def __str__(self) -> str:
        return f"{self.shard}: {self.reason}" if self.shard else self.reason


def verify(
    folder: Path | str,
    level: str = "bytes",
    on_progress: OnProgress | None = None,
    *,
    jobs: int = 1,
    partial: bool = False,
) -> list[Problem]:
    """Check a dataset folder and return everything that is wrong with it: an empty list for a good one.

    ``on_progress(done, total)`` gets the bytes read so far and in all (levels bytes and full). ``jobs`` shards are read at
    a time, by threads. ``partial``: missing shards are not a problem. A shard whose tables are wrong is not read
    further. Raises ValueError for an unknown level, and nothing for what lies in the folder.
    """
    folder = dataset_folder(folder)
    _check_level(level)
    try:
        manifest = read_manifest(folder)
    except DatasetError as error:
        return [Problem(shard=None, reason=str(error))]
    return list(_Check(folder, manifest, level, on_progress, partial=partial).problems(jobs))


def require_valid(
    folder: Path | str,
    level: str = "quick",
    on_progress: OnProgress | None = None,
    *,
    jobs: int = 1,
    partial: bool = False,
) -> Manifest:
    """The manifest of a folder that passes ``verify``. Raises DatasetError with the first problem otherwise."""
    folder = dataset_folder(folder)
    _check_level(level)
    manifest = read_manifest(folder)
    with closing(_Check(folder, manifest, level, on_progress, partial=partial).problems(jobs)) as problems:
        for problem in problems:
            raise DatasetError(f"{folder / problem.shard}: {problem.reason}" if problem.shard else problem.reason)
    return manifest


def verify_shard(folder: Path, manifest: Manifest, shard: Shard, level: str = "bytes") -> list[Problem]:
    """What is wrong with one file that should be a shard of ``manifest``; the json beside it is not read."""
    return list(_Check(folder, manifest, level, None, partial=False).shard_problems(shard))


def _check_level(level: str) -> None:
    if level not in LEVELS:
        raise ValueError(f"level {level!r}, wanted one of {one_of(level, LEVELS)}")


class _Check:
    """One pass over a folder. Several threads may check its shards."""

    def __init__(
        self, folder: Path, manifest: Manifest, level: str, on_progress: OnProgress | None, *, partial: bool
    ) -> None:
        self.folder, self.manifest, self.level, self.partial = folder, manifest, level, partial
        self.on_progress = on_progress
        self.passes = LEVELS.index(level)
        self.done, self.total = 0, self.passes * manifest.num_bytes
        self.telling = Lock()
        self.footprint = Footprint(manifest)
        self.large = RLock()  # held by whoever takes much memory: one at a time
        self.stop = Event()

    def problems(self, jobs: int) -> Generator[Problem, None, None]:
        """What is wrong, in order of the shards."""
        for line in strays(self.folder, self.manifest):
            yield Problem(shard=None, reason=line)
        for facts in self.manifest.tables:
            for reason in table_faults(self.folder / facts["name"], facts, self.level):
                yield Problem(shard=None, reason=f"{facts['name']}: {reason}")
        if jobs == 1:
            for shard in self.manifest.shards:
                yield from self._all_of(shard)
            return
        with ThreadPoolExecutor(jobs) as threads:
            begun: deque[Future[list[Problem]]] = deque()
            try:
                for shard in self.manifest.shards:
                    begun.append(threads.submit(self._all_of, shard))
                    if len(begun) == AHEAD * jobs:
                        yield from begun.popleft().result()
                while begun:
                    yield from begun.popleft().result()
            finally:
                self.stop.set()
                threads.shutdown(cancel_futures=True)

    def _all_of(self, shard: Shard) -> list[Problem]:
        """The problems of a shard and of its json."""
        if self.partial and not any(os.path.lexists(self.folder / name) for name in (shard.name, shard.record_name)):
            self._report(self.passes * shard.bytes)
            return []
        told = [0]

        def report(count: int) -> None:
            told[0] += count
            self._report(count)

        found = [*_record_problems(self.folder, shard), *self.shard_problems(shard, report)]
        self._report(self.passes * shard.bytes - told[0])  # what a fault cut short counts as done
        return found

    def shard_problems(self, shard: Shard, report: Callable[[int], None] = lambda count: None) -> Iterator[Problem]:
        """The problems of a shard's file."""
        problem = bound(Problem, shard=shard.name)
        try:
            with ExitStack() as until_the_end:
                until_the_end.enter_context(self._alone(self.footprint.large_records(shard)))
                with self._alone(self.footprint.large_tables(shard)):
                    beton = until_the_end.enter_context(open_shard(self.folder, self.manifest, shard))
                if self.level != "quick":
                    digest = sha256_of(beton, report, self.stop)
                    if digest != shard.sha256:
                        yield problem(reason=f"sha256 is {digest}, the manifest says {shard.sha256}")
                if self.level == "full":
                    with self._alone(self.footprint.large_images):
                        for reason in content_faults(beton, self.manifest, shard, report, self.stop):
                            yield problem(reason=reason)
        except CheckStopped:
            return
        except (DatasetError, OSError) as error:
            yield problem(reason=_reason(error, self.folder / shard.name))

    def _alone(self, large: bool) -> AbstractContextManager[object]:
        """Hold the turn for a large piece: one at a time."""
        return self.large if large else nullcontext()

    def _report(self, count: int) -> None:
        if self.on_progress is not None and self.passes:
            with self.telling:
                self.done += count
                self.on_progress(self.done, self.total)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    return str(error).removeprefix(f"{path}: ")


def _record_problems(folder: Path, shard: Shard) -> Iterator[Problem]:
    """Check that the json beside a shard agrees with the manifest."""
    path = folder / shard.record_name
    try:
        record = read_shard_record(path)
    except ManifestError as error:
        yield Problem(shard=shard.name, reason=f"{path.name}: {_reason(error, path)}", record=True)
        return
    stated, wanted = record.to_json(), shard.to_json()
    if canonical_json(stated) != canonical_json(wanted):
        differing = sorted(key for key in stated.keys() | wanted.keys() if not _same(stated, wanted, key))
        names = ", ".join(printable(key[:MAX_KEY]) for key in differing[:5])
        yield Problem(shard=shard.name, reason=f"{path.name} differs from the manifest in {names}", record=True)


def _same(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return key in one and key in other and canonical_json(one[key]) == canonical_json(other[key])


SUFFIXES = (".beton", ".json", ".jsonl", ".png", ".md")
MAX_ENTRIES = 2 * MAX_SHARDS + 1000  # of a folder: the shards, their records, and what may lie beside them


def strays(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each entry that does not belong there; the shards and their records are checked elsewhere."""
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
            reason = f"differs from {printable(other)} only in case: the two are one file on some systems"
        if reason is not None:
            yield f"{printable(name)}: {reason}"


def refuse_inside(out: Path, folder: Path, *, itself: bool) -> None:
    """Raises ResumeError if ``out`` lies inside a dataset folder, or (``itself``) is that folder, links followed."""
    place, dataset = out.resolve(), folder.resolve()
    if dataset in place.parents or (itself and place == dataset):
        raise ResumeError.naming("{out} {}: lies in the dataset, which holds nothing but its own files", out)


def clutter(folder: Path) -> list[str]:
    """Names of the files that a file manager has left there, sorted. They do not matter and are not strays."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, MAX_ENTRIES) if _is_clutter(entry))


def _is_clutter(entry: os.DirEntry[str]) -> bool:
    return is_clutter(entry.name) and entry.is_file(follow_symlinks=False)


def _fault(name: str, regular: bool) -> str | None:
    suffix = os.path.splitext(name)[1]
    if regular and is_clutter(name):
        return None
    if name.startswith("."):
        return "hidden or temporary, does not belong in a finished dataset"
    if not regular:
        return "a folder, link or device, wanted regular files only"
    if suffix not in SUFFIXES:
        return f"wanted only files that end in {', '.join(SUFFIXES)}"
    if suffix == ".beton" or (suffix == ".json" and name.startswith("shard-")):
        return "not in the manifest"
    return None

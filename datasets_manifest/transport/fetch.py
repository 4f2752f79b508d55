"""Fetch shards and tables of rows into a folder. Each is resumed where it stopped, checked on arrival, and only then named.

Partial files lie in ``.genrep-pull`` inside the folder, each with a note of its source; the folder is removed at the end.
Shards that are already there are read again: no record in the folder is trusted about them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from genrep.errors import DatasetError, ManifestError, ResumeError
from genrep.files import canonical_json, fsync_folder, sha256_file
from genrep.net import Limits, Lost, Patience, RangeRefused, Refused, Stop, Stopped
from genrep.progress import Progress

from ..manifest import Manifest, Shard, read_manifest, read_shard_record, write_shard_record
from ..verify import verify_shard
from .stores import Store, store_of
from .table_files import File, TableFile

HIDDEN = ".genrep-pull"
CHUNK = 1 << 20
MISMATCHES = 3  # times that a shard may come with another sha256: bytes do flip on the way
JOBS = 4


def fetch_shards(
    source: str,
    folder: Path,
    names: Sequence[str],
    *,
    manifest: Manifest | None = None,
    jobs: int = JOBS,
    limits: Limits | None = None,
) -> int:
    """Fetch shards into a dataset folder, replacing files of their names; returns the bytes received.

    Args:
        source: any place that ``pull`` takes.
        folder: of the dataset; whoever calls this holds its lock, where others may write too.
        names: of the shards, ``shard-00003.beton``.
        manifest: what they must be; by default the folder's own.
        jobs: shards at a time.
        limits: patience with the network.

    Raises:
        DatasetError: a shard could not be fetched with the manifest's sha256; the others are in place.
    """
    manifest = manifest or read_manifest(folder)
    known = {shard.name: shard for shard in manifest.shards}
    if unknown := [name for name in names if name not in known]:
        raise DatasetError(f"{folder}: {unknown[0]} is not one of its {len(known)} shards")
    fetch = _open(source, manifest, folder, limits)
    fetch.run([known[name] for name in names], jobs)
    fetch.clear()
    return fetch.fetched


def fetch_tables(
    source: str, folder: Path, names: Sequence[str], *, manifest: Manifest, limits: Limits | None = None
) -> int:
    """Fetch tables of rows (``prompts.jsonl``, ``sources.jsonl``) of a manifest into a folder, as ``fetch_shards``."""
    fetch = _open(source, manifest, folder, limits)
    fetch.run([table for table in TableFile.all_of(manifest) if table.name in names], 1)
    fetch.clear()
    return fetch.fetched


def _open(source: str, manifest: Manifest, folder: Path, limits: Limits | None) -> Fetch:
    """Ready to fetch. Raises DatasetError for a source that cannot be reached."""
    limits, stop = limits or Limits(), Stop()
    try:
        place = store_of(source, limits, stop)
    except Refused as error:
        raise DatasetError(f"{source}: {error}") from None
    return Fetch(place, manifest, folder, limits, stop)


class Fetch:
    """Shards and tables of one dataset from one source into one folder, which is locked."""

    def __init__(self, source: Store, manifest: Manifest, folder: Path, limits: Limits, stop: Stop) -> None:
        self.source, self.manifest, self.folder = source, manifest, folder
        self.limits, self.stop = limits, stop
        self.hidden = folder / HIDDEN
        self.fetched = 0  # bytes that came
        self.kept = 0  # shards that were there
        self._telling = threading.Lock()
        self._checking = threading.Lock()  # the tables of one shard at a time: they may be large
        self._progress: Progress | None = None
        if not self.hidden.is_symlink():
            self.hidden.mkdir(exist_ok=True)
        if self.hidden.is_symlink() or any(path.is_symlink() or not path.is_file() for path in self.hidden.iterdir()):
            raise ResumeError.naming(
                "{out} {}: {} there was not left by a pull: it is a link or a folder; remove it", folder, HIDDEN
            )

    def run(self, shards: Sequence[File], jobs: int) -> None:
        """Fetch the missing shards and tables. Raises DatasetError with the cause if this fails; what has arrived stays."""
        coming = sum(shard.bytes for shard in shards if not self._has_size(shard))
        here = sum(self._part_size(shard) for shard in shards)
        if coming - here > (free := shutil.disk_usage(self.folder).free):
            raise DatasetError.naming(
                "{out} {}: {} bytes are still to fetch, the disk has {} left", self.folder, coming - here, free
            )
        total = sum(shard.bytes for shard in shards)
        with Progress(total, "byte", "fetching", initial=here) as self._progress, ThreadPoolExecutor(jobs) as threads:
            begun = {threads.submit(self._shard, shard): shard for shard in shards}
            try:
                wait(begun, return_when=FIRST_EXCEPTION)
                failed = [future for future in begun if future.done() and future.exception() is not None]
                self._raise([(begun[future], future.exception()) for future in failed])
            except BaseException:
                self.stop.set()
                threads.shutdown(cancel_futures=True)
                raise

    def _raise(self, failures: Sequence[tuple[File, BaseException | None]]) -> None:
        for shard, error in failures:
            if isinstance(error, (Refused, Lost)):
                raise DatasetError(f"{self.source.where}: {shard.name}: {error}")
            if isinstance(error, OSError):
                raise DatasetError.naming(
                    "{out} {}: cannot write {} ({})", self.folder, shard.name, error.strerror or error
                )
            if error is not None and not isinstance(error, Stopped):
                raise error

    def clear(self) -> None:
        """Remove all traces of the work."""
        shutil.rmtree(self.hidden, ignore_errors=True)

    def _has_size(self, shard: File) -> bool:
        path = self.folder / shard.name
        return not path.is_symlink() and path.is_file() and path.stat().st_size == shard.bytes

    def _is_there(self, shard: File) -> bool:
        """Whether the shard is in place with the right bytes."""
        return self._has_size(shard) and sha256_file(self.folder / shard.name) == shard.sha256

    def _shard(self, shard: File) -> None:
        self.stop.check()
        part = self.hidden / shard.name
        if self._is_there(shard):
            self._write_record(shard)
            self._tell(shard.bytes - self._part_size(shard), kept=isinstance(shard, Shard))
            return
        patience = Patience(self.limits, self.stop)
        for _ in range(MISMATCHES):
            self._fill(shard, part, patience)
            found = sha256_file(part)
            if found == shard.sha256:
                break
            part.unlink()
            self._tell(-shard.bytes)
        else:
            raise Refused(f"its sha256 is {found}, the manifest says {shard.sha256}")
        with self._checking:
            fault = self._fault(shard, part)
        if fault:
            part.unlink()
            raise Refused(f"{fault}; the dataset itself is damaged")
        self._place(shard, part)

    def _fault(self, shard: File, part: Path) -> str | None:
        """What is wrong with a file that has the manifest's sha256; None for nothing."""
        if isinstance(shard, TableFile):
            return shard.fault(part)
        problems = verify_shard(self.hidden, self.manifest, shard, "quick")
        return problems[0].reason if problems else None

    def _place(self, shard: File, part: Path) -> None:
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, self.folder / shard.name)
        fsync_folder(self.folder)
        _note_path(part).unlink(missing_ok=True)
        self._write_record(shard)

    def _fill(self, shard: File, part: Path, patience: Patience) -> None:
        """Complete the part, in as many attempts as make progress."""
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            while (size := os.lseek(descriptor, 0, os.SEEK_END)) != shard.bytes:
                if size > shard.bytes:
                    self._cut(descriptor, size, 0)
                try:
                    self._attempt(shard, part, descriptor)
                except Lost as error:
                    reached = os.lseek(descriptor, 0, os.SEEK_END)
                    if isinstance(error, RangeRefused):
                        self._cut(descriptor, reached, 0)
                    patience.again(error, reached)
        finally:
            os.close(descriptor)

    def _attempt(self, shard: File, part: Path, descriptor: int) -> None:
        """One request, from where the part ends."""
        size = os.lseek(descriptor, 0, os.SEEK_END)
        owner = hashlib.sha256(self.source.where.encode()).hexdigest()
        noted = _read_note(part)
        if size and noted[0] != owner:  # from another source, or an unknown one
            size = self._cut(descriptor, size, 0)
        answer = self.source.open(shard.name, size, noted[1] if size else None)
        try:
            if answer.total not in (None, shard.bytes):
                raise Refused(f"{answer.total} bytes, the manifest says {shard.bytes}")
            size = self._cut(descriptor, size, answer.start)
            if size == 0:
                _note_path(part).write_bytes(json.dumps([owner, answer.validator]).encode())
            while size < shard.bytes:
                data = answer.read(min(CHUNK, shard.bytes - size))
                if not data:
                    raise Lost(f"the connection ended after {size} of {shard.bytes} bytes")
                _write(descriptor, data)
                size += len(data)
                self._tell(len(data), came=True)
        finally:
            answer.close()

    def _cut(self, descriptor: int, size: int, start: int) -> int:
        """Keep the first ``start`` of the part's ``size`` bytes; returns ``start``."""
        os.ftruncate(descriptor, start)
        os.lseek(descriptor, start, os.SEEK_SET)
        self._tell(start - size)
        return start

    def _tell(self, count: int, *, came: bool = False, kept: bool = False) -> None:
        with self._telling:
            self.fetched += count if came else 0
            self.kept += kept
            if self._progress is not None and count:
                self._progress.update(count)

    def _part_size(self, shard: File) -> int:
        with suppress(OSError):
            return min((self.hidden / shard.name).stat().st_size, shard.bytes)
        return 0

    def _write_record(self, shard: File) -> None:
        if isinstance(shard, TableFile):
            return
        path = self.folder / shard.record_name
        with suppress(ManifestError):
            if canonical_json(read_shard_record(path).to_json()) == canonical_json(shard.to_json()):
                return
        write_shard_record(self.hidden, shard)
        os.replace(self.hidden / shard.record_name, path)


def _note_path(part: Path) -> Path:
    return part.with_suffix(".note")


def _read_note(part: Path) -> tuple[str | None, str | None]:
    """The source of a part, and which content it belongs to."""
    try:
        owner, validator = json.loads(_note_path(part).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return None, None
    texts = [text if isinstance(text, str) else None for text in (owner, validator)]
    return texts[0], texts[1]


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

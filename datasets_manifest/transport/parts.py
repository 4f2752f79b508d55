"""Shards at an address of which only parts are fetched: the tables, and the values of the samples that are asked for.

A shard becomes a file of its full size with holes, whose tables are checked like any stranger's; what is in the holes is never
read. No sha256 vouches for a part: who wants that pulls the dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from genrep.errors import DatasetError
from genrep.files import faults_named, size_text
from genrep.net import Limits, Lost, Refused, Stop, persist

from .. import layout
from ..beton import Beton
from ..manifest import Manifest, Shard
from ..shard_checks import open_shard
from .fetch import CHUNK
from .stores import store_of

THREADS = 8  # requests at a time
GAP = 32 << 10  # bytes between two wanted parts that cost less than another request
Range = tuple[int, int]  # first byte, and the one behind the last


class NoParts(Exception):
    """The server sends whole files only, or the file changed."""


class RemoteShards:
    """Shards of one dataset at one address.

    Args:
        source: the address.
        manifest: what it holds.
        folder: for the files with holes; the caller's to remove.
        budget: bytes that may come. A shard of a server that sends whole files only comes whole, within that.
    """

    def __init__(
        self, source: str, manifest: Manifest, folder: Path, budget: int, limits: Limits | None = None
    ) -> None:
        self.manifest, self.folder, self.budget = manifest, folder, budget
        self.limits, self.stop = limits or Limits(), Stop()
        try:
            self.source = store_of(source, self.limits, self.stop)
        except Refused as error:
            raise DatasetError(f"{source}: {error}") from None
        self.where = self.source.where
        self.fetched = 0  # bytes that came
        self._whole: set[str] = set()
        self._lock = Lock()

    def open(self, shard: Shard) -> Beton:
        """A shard with checked tables, of which nothing else is there yet. Raises DatasetError."""
        path = self.folder / shard.name
        with self._named(shard):
            try:
                with open(path, "xb") as file:
                    file.truncate(shard.bytes)
            except OSError as error:
                raise DatasetError(f"{path}: no room for {shard.bytes} bytes: {error.strerror}") from None
            self._fetch(shard, tables(self.manifest, shard))
            return open_shard(self.folder, self.manifest, shard)

    def prepare(self, beton: Beton, shard: Shard, samples: Sequence[int], names: Sequence[str]) -> None:
        """Fetch these fields of these samples (positions in the file), so that they can be read. Raises DatasetError."""
        places = (beton.place(i, name) for i in samples for name in names)
        with self._named(shard):
            self._fetch(shard, merged((start, start + size) for start, size in places))

    def forget(self, shard: Shard) -> None:
        """Remove a shard's file; who has it open may go on reading."""
        with suppress(FileNotFoundError):
            (self.folder / shard.name).unlink()

    @contextmanager
    def _named(self, shard: Shard) -> Iterator[None]:
        """Faults name the shard's address and not the file with holes."""
        where = f"{self.where}/{shard.name}"
        try:
            yield
        except (Refused, Lost) as error:
            raise DatasetError(f"{where}: {error}") from None
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(self.folder / shard.name), where)) from None

    def _fetch(self, shard: Shard, ranges: Sequence[Range]) -> None:
        if shard.name in self._whole:
            return
        self._afford(shard, sum(end - start for start, end in ranges))
        descriptor = os.open(self.folder / shard.name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._fetch_all(shard, descriptor, ranges)
        except NoParts:
            self._afford(shard, shard.bytes)
            self._persist(shard, descriptor, (0, shard.bytes))
            self._whole.add(shard.name)
        finally:
            os.close(descriptor)

    def _fetch_all(self, shard: Shard, descriptor: int, ranges: Sequence[Range]) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            begun = [threads.submit(self._persist, shard, descriptor, wanted) for wanted in ranges]
            try:
                for future in begun:
                    future.result()
            except NoParts:
                threads.shutdown(cancel_futures=True)
                raise
            except BaseException:
                self.stop.set()  # nobody waits for what is under way
                threads.shutdown(cancel_futures=True)
                raise

    def _afford(self, shard: Shard, size: int) -> None:
        """Raises DatasetError where so many bytes more would be too many."""
        if self.fetched + size > self.budget:
            why = "; its server sends no parts of files" if size == shard.bytes else ""
            raise DatasetError(
                f"{self.where}/{shard.name}: {size_text(self.fetched + size)} would have to be fetched, wanted at most "
                f"{size_text(self.budget)}{why}. Fetch the dataset (genrep-manifest pull) and name its folder"
            )

    def _persist(self, shard: Shard, descriptor: int, wanted: Range) -> None:
        persist(lambda: self._part(shard, descriptor, wanted), self.limits, self.stop)

    def _part(self, shard: Shard, descriptor: int, wanted: Range) -> None:
        """One request."""
        place, end = wanted
        answer = self.source.open(shard.name, place, size=end - place)
        try:
            if answer.start != place:
                raise NoParts
            if answer.total not in (None, shard.bytes):
                raise Refused(f"{answer.total} bytes, the manifest says {shard.bytes}")
            while place < end:
                data = answer.read(min(CHUNK, end - place))
                if not data:
                    raise Lost(f"the connection ended at byte {place}, wanted those to {end}")
                with faults_named(self.folder / shard.name):
                    os.pwrite(descriptor, data, place)
                place += len(data)
                with self._lock:
                    self.fetched += len(data)
        finally:
            answer.close()


def tables(manifest: Manifest, shard: Shard) -> list[Range]:
    """Where a shard's tables lie: header, descriptors and records at its beginning, the allocation table at its end."""
    fields = manifest.fields
    first = layout.HEADER.size + layout.DESCRIPTOR.size * len(layout.in_beton(fields))
    first += shard.count * layout.record_dtype(fields).itemsize
    last = shard.count * len(layout.stored_fields(fields)) * layout.ALLOCATION.itemsize
    return merged([(0, min(first, shard.bytes)), (max(shard.bytes - last, 0), shard.bytes)])


def merged(ranges: Iterator[Range] | Sequence[Range]) -> list[Range]:
    """The same bytes in fewer ranges, in order: those that touch, overlap or lie close together become one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1] + GAP:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found

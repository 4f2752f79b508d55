"""What a page shows of a dataset, read from its shards: sampled pairs with small pictures, counts of classes, distances.

Shards in a folder have their tables checked and read whole, and a few of their images; of those at an address only parts are
fetched (``transport.parts``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from genrep.errors import DatasetError
from genrep.files import size_text
from genrep.progress import Progress, note

from .. import layout
from ..beton import Beton
from ..contents import read_field
from ..manifest import Manifest, Shard, dataset_folder, read_manifest
from ..recomputed import Recomputed
from ..shard_checks import open_shard
from ..signing import SIGNATURE_NAME
from ..transport import Limits, fetch_tables, is_address, read_remote_manifest, remote_file
from ..transport.parts import RemoteShards, tables
from ..transport.stores import local_path, scheme_of
from .distances import Distances, rounded
from .pictures import largest_kept, reduced
from .sampling import affordable, evenly, latent_bytes, positions
from .texts import Texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_IMAGES = 8  # of a pair, the anchor among them
MEASURED = 2000  # pairs whose latents are read, beside those that are shown
COUNTED = 20_000_000  # pairs whose labels are read; of a larger dataset those of the shards that are shown
MAX_LATENT_BYTES = 512 << 20  # that are read
MAX_LOCAL_BYTES = 4 << 30  # of images and latents
MAX_REMOTE_SHARDS = 32
MAX_REMOTE_TABLES, MAX_REMOTE_BYTES = 24 << 20, 64 << 20  # of tables, and of all, that are fetched


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A sampled pair, as a page has it."""

    index: int
    label: int  # -1 = none
    images: list[NDArray[np.uint8]]  # anchor first; small
    distances: list[float] | None  # of each positive from the anchor
    told: list[
        tuple[str, str]
    ]  # prompts, the real anchor's name, what a view drew: titles and texts, cut and printable


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Everything about a dataset that a page shows."""

    source: str  # what the user named: an address to be printed, or a folder's name
    remote: bool
    manifest: Manifest
    pairs: list[Pair]
    images: int  # of each pair that are shown
    counts: list[int]  # pairs of each class, and last those of none
    counted: int  # pairs whose labels were read
    distances: Distances
    shards: int  # that were opened
    within: int  # that samples were spread over: fewer than the manifest's at an address, and in a folder of a part
    fetched: int  # bytes
    signed: bool


class Opener(Protocol):
    """Where shards come from."""

    fetched: int

    def open(self, shard: Shard) -> Beton:
        """A shard whose tables were checked."""

    def prepare(self, beton: Beton, shard: Shard, samples: Sequence[int], names: Sequence[str]) -> None:
        """Have these fields of these samples at hand."""

    def forget(self, shard: Shard) -> None:
        """Nothing more of it will be asked for."""


class LocalShards:
    """Those of a folder."""

    fetched = 0

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    def open(self, shard: Shard) -> Beton:
        """Checked as ``verify`` does it."""
        return open_shard(self.folder, self.manifest, shard)

    def prepare(self, beton: Beton, shard: Shard, samples: Sequence[int], names: Sequence[str]) -> None:
        """All is there."""

    def forget(self, shard: Shard) -> None:
        """Nothing is kept."""


def gather(source: str, samples: int, *, partial: bool = False, limits: Limits | None = None) -> Gathered:
    """Read what a page shows.

    Args:
        source: a folder, or any address that ``pull`` takes.
        samples: pairs; fewer where the dataset has fewer, or where they would take too many bytes.
        partial: shards that are missing from the folder are no fault.
        limits: patience with the network.

    Raises:
        DatasetError: no finished dataset, or a damaged one, or one of which too much would have to be fetched.
    """
    with ExitStack() as stack:
        if is_address(source) and scheme_of(source) != "file":
            manifest = read_remote_manifest(source, limits=limits)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="genrep-browse-")))
            shards = _within_reach(manifest, source)
            remote_shards = RemoteShards(source, manifest, folder, 2 * MAX_REMOTE_BYTES, limits)
            opener: Opener = remote_shards
            work = _Work(opener, manifest, shards, affordable(manifest, samples, MAX_IMAGES, MAX_REMOTE_BYTES))
            fetched = _fetch_tables(source, manifest, folder, limits)
            name, remote, signed = remote_shards.where, True, remote_file(source, SIGNATURE_NAME) is not None
        else:
            folder = local_path(source) if scheme_of(source) else dataset_folder(source)
            manifest = read_manifest(folder)
            present = _present(folder, manifest, partial)
            opener = LocalShards(folder, manifest)
            work = _Work(opener, manifest, present, affordable(manifest, samples, MAX_IMAGES, MAX_LOCAL_BYTES))
            work.measure(MEASURED)
            name, remote, fetched = folder.resolve().name, False, 0
            signed = os.path.lexists(folder / SIGNATURE_NAME)
        work.run(Texts(manifest, folder))
    return Gathered(
        source=name,
        remote=remote,
        manifest=manifest,
        pairs=work.pairs,
        images=work.images,
        counts=work.counts.tolist(),
        counted=work.counted,
        distances=work.distances,
        shards=work.opened,
        within=len(work.shards),
        fetched=opener.fetched + fetched,
        signed=signed,
    )


def _within_reach(manifest: Manifest, source: str) -> list[Shard]:
    """Shards whose tables are not too much to fetch, spread over the dataset."""
    size = max(sum(end - start for start, end in tables(manifest, shard)) for shard in manifest.shards)
    if size > MAX_REMOTE_TABLES:
        raise DatasetError(
            f"{source}: its shards have tables of {size_text(size)}, wanted at most {size_text(MAX_REMOTE_TABLES)} to "
            "fetch; fetch the dataset, or some shards of it, and name its folder: genrep-manifest pull"
        )
    return evenly(manifest.shards, min(MAX_REMOTE_TABLES // size, MAX_REMOTE_SHARDS))


def _fetch_tables(source: str, manifest: Manifest, folder: Path, limits: Limits | None) -> int:
    """Fetch the tables of rows that are not too large; returns their bytes."""
    names = [facts["name"] for facts in manifest.tables if facts["bytes"] <= MAX_REMOTE_TABLES]
    return fetch_tables(source, folder, names, manifest=manifest, limits=limits) if names else 0


def _present(folder: Path, manifest: Manifest, partial: bool) -> list[Shard]:
    """The shards to look at. Raises DatasetError where there are none."""
    there = [shard for shard in manifest.shards if os.path.lexists(folder / shard.name)]
    if len(there) < len(manifest.shards) and not (partial and there):
        missing = next(shard.name for shard in manifest.shards if not os.path.lexists(folder / shard.name))
        if partial or not there:
            raise DatasetError(f"{folder / missing}: missing")
        raise DatasetError.naming("{}: missing; a part of a dataset is taken with {partial}", folder / missing)
    return there


class _Work:
    """The shards, one after the other."""

    def __init__(self, opener: Opener, manifest: Manifest, shards: list[Shard], samples: int) -> None:
        self.opener, self.manifest, self.shards = opener, manifest, shards
        self.images = min(len(manifest.image_fields), MAX_IMAGES)
        self.shown = positions(shards, samples)
        self.measured = self.shown
        self.distances = Distances(manifest)
        self.latents = [field["name"] for field in manifest.latent_fields] if self.distances.measurable else []
        self.recomputed = Recomputed(manifest)
        self.names = [field["name"] for field in manifest.image_fields[: self.images]]
        longest = max(layout.largest_shape(manifest.image_fields[0])[:2])
        self.side = largest_kept(samples * self.images, longest)
        self.pairs: list[Pair] = []
        self.counts = np.zeros(len(manifest.classes) + 1, np.int64)
        self.counted = self.opened = 0
        self._bound_latents(samples)

    def measure(self, pairs: int) -> None:
        """Measure distances of so many pairs, whether they are shown or not."""
        if self.latents:
            most = MAX_LATENT_BYTES // latent_bytes(self.manifest)
            self.measured = positions(self.shards, min(pairs, most))

    def _bound_latents(self, samples: int) -> None:
        if self.latents and samples * latent_bytes(self.manifest) > MAX_LATENT_BYTES:
            self.latents = []  # of millions of values: nobody's, but a manifest may say so
            self.distances.measurable = False

    def run(self, texts: Texts) -> None:
        """Read everything."""
        self.texts = texts
        total = sum(shard.count for shard in self.shards)
        with Progress(len(self.shards), "shard", "reading") as progress:
            for k, shard in enumerate(self.shards):
                shown, measured = self.shown.get(k, []), self.measured.get(k, [])
                if shown or measured or total <= COUNTED:
                    with self._open(shard) as beton:
                        self._shard(shard, beton, shown, measured)
                progress.update(1)

    @contextmanager
    def _open(self, shard: Shard) -> Iterator[Beton]:
        beton = self.opener.open(shard)
        with closing(beton):
            try:
                yield beton
            finally:
                self.opener.forget(shard)

    def _shard(self, shard: Shard, beton: Beton, shown: list[int], measured: list[int]) -> None:
        self.opened += 1
        self.counted += shard.count
        labels = beton.samples["label"]
        self.counts += np.bincount(np.where(labels < 0, len(self.counts) - 1, labels), minlength=len(self.counts))
        stored = [name for name in self.latents if name in beton.fields]
        self.opener.prepare(beton, shard, shown, [*self.names, *stored])
        found = self._measure(shard, beton, sorted({*shown, *measured}))
        for i in shown:
            images = [reduced(read_field(beton, i, name), self.side) for name in self.names]
            totals = found.get(i)
            self.pairs.append(
                Pair(
                    index=shard.first_index + i,
                    label=int(labels[i]),
                    images=images,
                    distances=None if totals is None else [rounded(total) for total in totals],
                    told=self.texts.of(beton, i),
                )
            )

    def _measure(self, shard: Shard, beton: Beton, chosen: list[int]) -> dict[int, list[float] | None]:
        """Distances of these samples. Latents that are not stored are made again; where that cannot be, none are measured."""
        if not self.latents or not chosen:
            return {}
        found: dict[int, list[float] | None] = {}
        for first in range(0, len(chosen), self.recomputed.batch):
            part = chosen[first : first + self.recomputed.batch]
            try:
                again = self.recomputed.many([shard.first_index + i for i in part])
            except DatasetError as reason:
                note(f"distances in latent space are left out: {reason}")
                self.latents, self.distances.measurable = [], False
                return {}
            for k, i in enumerate(part):
                latents = [again[name][k] if name in again else read_field(beton, i, name) for name in self.latents]
                found[i] = self.distances.add(latents[0], latents[1:])
        return found

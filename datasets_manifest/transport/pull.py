"""``pull``: fetch a dataset, by address or published name, into a folder, whole or in part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.errors import DatasetError, ManifestError, ResumeError, one_of
from genrep.files import digest_json, is_clutter, locked_folder, write_atomic
from genrep.net import Limits, Lost, Missing, Refused, Stop, persist, shown
from genrep.settings import config, setting
from genrep.untrusted import printable

from .. import catalogue
from ..manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Shard, parse_manifest, read_manifest_file
from ..schema import MAX_SHARDS
from ..strict_json import parse_json, read_json
from ..verify import refuse_inside
from .fetch import CHUNK, HIDDEN, JOBS, Fetch
from .stores import FolderStore, Store, scheme_of, store_of
from .table_files import TableFile


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A dataset, the addresses that may have it, and what is known of it beforehand."""

    urls: tuple[str, ...]  # one at least
    id: str | None = None
    digest: str | None = None


def resolve(text: str, digest: str | None = None) -> Wanted:
    """The addresses of a dataset that a user names; a folder that has a published dataset's name is written ``./NAME``.

    ``digest`` is what the user wants of the manifest; the catalogue's must be the same. Raises DatasetError.
    """
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest := digest.lower()):
        raise DatasetError.naming(
            "{digest} {}: wanted the 64 hexadecimal digits that genrep-manifest show prints", digest
        )
    if scheme_of(text) or not catalogue.NAME.fullmatch(text):
        return Wanted(urls=(text,), digest=digest)
    known = {entry.name: entry for entry in catalogue.entries()}
    if text in known:
        return _published(known[text], digest)
    if not Path(text).exists():
        raise DatasetError(f"{shown(text)}: neither a folder nor a published dataset; known: {one_of(text, known)}")
    return Wanted(urls=(text,), digest=digest)


def _published(entry: catalogue.Entry, digest: str | None) -> Wanted:
    if not entry.urls:
        hint = f"; {entry.command} makes it" if entry.command else ""
        raise DatasetError(f"{entry.name}: not published yet{hint}")
    if digest and entry.digest and entry.digest != digest:
        raise DatasetError.naming("{digest} {}: {} is published with {}", digest, entry.name, entry.digest)
    return Wanted(urls=tuple(entry.urls), id=entry.id, digest=digest or entry.digest)


# What a dataset folder may hold besides its shards, their records, tables and the manifest. No sha256 vouches for these.
EXTRAS = (
    *("recipe.json", "build.json", "contact-sheet.png", "README.md", "croissant.json"),
    "manifest.json.minisig.md",
)
MAX_EXTRA_BYTES = 16 << 20
ASK_SECONDS = 10.0  # to wait for the answer whether a file is there
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def parse_shards(text: str) -> tuple[int, ...]:
    """Numbers in order from ``0-9,12``. Raises ValueError, which says what was wanted."""
    numbers: set[int] = set()
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < MAX_SHARDS:
            raise ValueError(f"{part!r}, wanted numbers and ranges like 0-9,12")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


@config
class TransferLimits(Limits):
    """The patience of a transfer, as options of commands."""

    timeout: float = setting(
        default=Limits.timeout,
        least=1,
        most=3600,
        metavar="SECONDS",
        help="Give up on a connection that is silent for this long.",
    )
    retries: int = setting(
        default=Limits.retries,
        least=0,
        most=100,
        metavar="N",
        help="Further attempts after one that made no progress.",
    )


def jobs_setting() -> Any:
    """The setting ``jobs``: shards in transfer at once."""
    return setting(default=JOBS, least=1, most=64, metavar="N", help="Shards to transfer at a time.")


@config
class PullConfig:
    """Settings of ``genrep-manifest pull``."""

    source: str = setting(argument=True, metavar="URL|NAME|DIR")
    out: Path = setting(metavar="DIR", help="Folder to fetch the dataset into.")
    shards: tuple[int, ...] | None = setting(
        default=None,
        metavar="0-9,12",
        parse=parse_shards,
        help="Fetch only these shards.  [default: all]",
    )
    digest: str | None = setting(
        default=None,
        metavar="SHA256",
        text=True,
        help="Refuse a manifest whose digest is not this.  [default: accept any]",
    )
    jobs: int = jobs_setting()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class PullReport:
    """The result of a pull."""

    manifest: Manifest
    shards: int  # of those asked for, which now are all there
    kept: int  # that were there before
    fetched: int  # bytes of shards and tables that came
    left_out: tuple[str, ...]  # what was not taken, and why

    @property
    def partial(self) -> bool:
        """Whether the dataset has more shards than were asked for."""
        return self.shards < len(self.manifest.shards)


def pull(config: PullConfig) -> PullReport:
    """Fetch a dataset, or resume an interrupted pull.

    Raises:
        DatasetError: the dataset cannot be fetched, or does not match its manifest or ``digest``; one line.
        ResumeError: ``out`` holds another dataset, lies inside the source, or another process is at work there.
    """
    stop = Stop()
    source, data, manifest = _find(resolve(config.source, config.digest), config.limits, stop)
    shards = _chosen(manifest, config.shards)
    if isinstance(source, FolderStore):
        refuse_inside(config.out, source.folder, itself=False)
    with locked_folder(config.out):
        _refuse_other(config.out, manifest)
        fetch = Fetch(source, manifest, config.out, config.limits, stop)
        write_atomic(fetch.hidden / MANIFEST_NAME, data)
        fetch.run([*TableFile.all_of(manifest), *shards], config.jobs)
        left_out = _fetch_extras(fetch, config.limits, stop)
        fetch.clear()
        for leftover in config.out.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        write_atomic(config.out / MANIFEST_NAME, data)
    return PullReport(
        manifest=manifest, shards=len(shards), kept=fetch.kept, fetched=fetch.fetched, left_out=tuple(left_out)
    )


def read_remote_manifest(url: str, *, digest: str | None = None, limits: Limits | None = None) -> Manifest:
    """The checked manifest of a dataset anywhere: an address, a folder or a published name.

    Raises DatasetError, one line, also where its digest is not ``digest``.
    """
    return _find(resolve(url, digest), limits or Limits(), Stop())[2]


def remote_file(url: str, name: str) -> str | None:
    """Where a file of a dataset lies, to be printed; None if it is not there, or the place does not answer."""
    try:
        source = store_of(url, Limits(timeout=ASK_SECONDS), Stop())
        source.open(name).close()
    except (DatasetError, Refused, Lost):
        return None
    return f"{source.where}/{name}"


def _find(wanted: Wanted, limits: Limits, stop: Stop) -> tuple[Store, bytes, Manifest]:
    """The first place that has the dataset, with the manifest's bytes and what they say."""
    failure = None
    for url in wanted.urls:
        try:
            source = store_of(url, limits, stop)
            data = _read_whole(source, MANIFEST_NAME, MAX_MANIFEST_BYTES, limits, stop)
            manifest = parse_manifest(data, f"{source.where}/{MANIFEST_NAME}")
            for what, found, known in (("digest", manifest.digest, wanted.digest), ("id", manifest.id, wanted.id)):
                if known is not None and found != known:
                    raise Refused(f"it is another dataset: its {what} is {found}, wanted {known}")
            return source, data, manifest
        except Missing as error:
            failure = failure or DatasetError(f"{shown(url)}: no finished dataset there: {MANIFEST_NAME}: {error}")
        except (Refused, Lost) as error:
            failure = failure or DatasetError(f"{shown(url)}: {MANIFEST_NAME}: {error}")
        except DatasetError as error:
            failure = failure or error
    assert failure is not None  # there is an address at least
    raise failure


def _read_whole(source: Store, name: str, limit: int, limits: Limits, stop: Stop) -> bytes:
    """A small file. Raises Refused, Missing, Lost or Stopped."""

    def attempt() -> bytes:
        answer = source.open(name)
        try:
            if answer.total is not None and answer.total > limit:
                raise Refused(f"{answer.total} bytes, wanted at most {limit}")
            data = bytearray()
            while len(data) <= limit and (more := answer.read(CHUNK)):
                data += more
        finally:
            answer.close()
        if len(data) > limit:
            raise Refused(f"more than the limit of {limit} bytes")
        if answer.total is not None and len(data) < answer.total:
            raise Lost(f"the connection ended after {len(data)} of {answer.total} bytes")
        return bytes(data)

    return persist(attempt, limits, stop)


def _chosen(manifest: Manifest, numbers: Sequence[int] | None) -> list[Shard]:
    if numbers is None:
        return manifest.shards
    if not numbers or max(numbers) >= len(manifest.shards):
        found = max(numbers, default=None)
        raise DatasetError.naming(
            "{shards}: {} was asked for, the dataset has 0 to {}", found, len(manifest.shards) - 1
        )
    return [manifest.shards[number] for number in numbers]


def _refuse_other(folder: Path, manifest: Manifest) -> None:
    """Raises ResumeError if the folder holds anything but this dataset."""
    for path in (folder / MANIFEST_NAME, folder / HIDDEN / MANIFEST_NAME):
        with suppress(ManifestError):  # a damaged one is renewed
            other = read_manifest_file(path)
            if other.digest != manifest.digest:
                raise ResumeError.naming("{out} {}: another dataset is there: {}", folder, _difference(other, manifest))
            return
    recipe = folder / "recipe.json"
    with suppress(ManifestError):
        if digest_json(read_json(recipe, MAX_EXTRA_BYTES)) != manifest.id:
            raise ResumeError.naming("{out} {}: {} there belongs to another dataset", folder, recipe.name)
    known = {MANIFEST_NAME, HIDDEN, *EXTRAS, *(table["name"] for table in manifest.tables)}
    known |= {name for shard in manifest.shards for name in (shard.name, shard.record_name)}
    for path in folder.iterdir():
        if is_clutter(path.name):
            continue
        if path.name not in known and not (path.name.startswith(".") and path.name.endswith(".tmp")):
            raise ResumeError.naming(
                "{out} {}: {} there is not part of this dataset; wanted a new folder", folder, printable(path.name)
            )


def _difference(other: Manifest, manifest: Manifest) -> str:
    """The difference of two datasets, in a few words."""
    one, two = other.to_json(), manifest.to_json()
    what = "recipe" if other.id != manifest.id else ""
    if what:
        one, two = one["recipe"], two["recipe"]
    keys = sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key) and key != "digest")
    named = ", ".join(printable(f"{what}.{key}".lstrip(".")) for key in keys[:5])
    return f"{named} differ{'s' if len(keys) == 1 else ''}"


def _fetch_extras(fetch: Fetch, limits: Limits, stop: Stop) -> list[str]:
    """Fetch the other files of a dataset folder, if the source has them; returns those that were refused, and why."""
    left_out = []
    for name in EXTRAS:
        path = fetch.folder / name
        if path.exists() or path.is_symlink():
            continue
        try:
            data = _read_whole(fetch.source, name, MAX_EXTRA_BYTES, limits, stop)
            if name.endswith(".json"):
                value = parse_json(data, name)
                if name == "recipe.json" and digest_json(value) != fetch.manifest.id:
                    raise Refused("not the manifest's recipe")
        except Missing:
            continue
        except Lost as error:
            raise DatasetError(f"{fetch.source.where}: {name}: {error}") from None
        except (Refused, ManifestError) as error:
            left_out.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
            continue
        temporary = fetch.hidden / name
        temporary.write_bytes(data)
        temporary.replace(path)
    return left_out

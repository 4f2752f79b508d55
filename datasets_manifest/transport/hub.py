"""The Hugging Face Hub: datasets read over plain https, and published through huggingface_hub (an optional extra)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import DatasetError, ResumeError, phrase
from genrep.extras import install
from genrep.net import HttpFolder, Limits, Lost, Refused, Stop, persist, shown
from genrep.progress import Progress, note
from genrep.untrusted import one_line

from ..manifest import MANIFEST_NAME, Manifest
from .table_files import files_of

ENDPOINT = "https://huggingface.co"
# https://huggingface.co/docs/hub/repositories-recommendations
MAX_FILE_BYTES, GOOD_FILE_BYTES = 50 * 10**9, 20 * 10**9
MAX_FILES_PER_FOLDER, MAX_FILES = 10_000, 100_000
OTHER_SIZE = phrase("build it with another {shard_size}")
COMMIT_FILES, COMMIT_BYTES = 50, 10 * 10**9  # of one commit: what an interruption can lose
_PLACE = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?((?:/[\w.-]+)*)/?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class HubPlace:
    """A folder of a dataset repository."""

    repository: str  # ORG/NAME
    revision: str
    folder: str  # inside the repository; empty = its root

    def path(self, name: str) -> str:
        """The path of a file in the repository."""
        return f"{self.folder}/{name}".lstrip("/")


def hub_place(text: str) -> HubPlace:
    """Parse ``hf://datasets/ORG/NAME[@REVISION][/FOLDER]``. Raises DatasetError."""
    found = _PLACE.fullmatch(text)
    if found is None or ".." in text:
        raise DatasetError(f"{shown(text)}: wanted hf://datasets/ORG/NAME, or hf://datasets/ORG/NAME@REVISION/FOLDER")
    return HubPlace(repository=found[1], revision=found[2] or "main", folder=found[3].strip("/"))


def hub_source(text: str, limits: Limits, stop: Stop) -> HttpFolder:
    """A dataset of the Hub, for reading; HF_TOKEN, or the token that huggingface_hub keeps, opens private ones."""
    place = hub_place(text)
    url = f"{hub_endpoint()}/datasets/{place.repository}/resolve/{place.revision}/{place.folder}"
    return HttpFolder(url, limits, stop, hub_headers())


def hub_endpoint() -> str:
    """The address of the Hub, or that of a mirror in HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")


def hub_headers() -> dict[str, str] | None:
    """What opens private repositories: HF_TOKEN, or the token that huggingface_hub keeps; None where there is neither."""
    token = os.environ.get("HF_TOKEN")
    if token is None:
        with suppress(ImportError):
            from huggingface_hub import get_token

            token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else None


def check_advice(manifest: Manifest, num_files: int) -> list[str]:
    """The Hub's advice on sizes and counts: returns warnings, raises DatasetError where it would not take the dataset."""
    largest = max(file.bytes for file in files_of(manifest))
    if largest > MAX_FILE_BYTES:
        raise DatasetError.naming(
            "hf://: a shard of {} bytes, the Hub takes {} per file; {}", largest, MAX_FILE_BYTES, OTHER_SIZE
        )
    if num_files > MAX_FILES:
        raise DatasetError.naming(
            "hf://: {} files, the Hub takes {} per repository; {}", num_files, MAX_FILES, OTHER_SIZE
        )
    if num_files > MAX_FILES_PER_FOLDER:
        raise DatasetError.naming(
            "hf://: {} files, the Hub takes {} per folder; {}", num_files, MAX_FILES_PER_FOLDER, OTHER_SIZE
        )
    if largest > GOOD_FILE_BYTES:
        return [f"a shard of {largest} bytes: the Hub advises at most {GOOD_FILE_BYTES}"]
    return []


def push_to_hub(folder: Path, manifest: Manifest, names: Sequence[str], url: str, limits: Limits) -> tuple[int, int]:
    """Publish a dataset folder that was checked; returns the bytes that were sent and the files that were there.

    ``names``: its files, the manifest last. A repository that does not exist yet is created as private. Shards go in commits
    of a few, the rest and the manifest in the last. Raises DatasetError and ResumeError.
    """
    place, api = hub_place(url), _api(url)
    stop = Stop()
    sha256 = {file.name: file.sha256 for file in files_of(manifest)}
    try:
        persist(lambda: _asked(lambda: _make_repository(api, place)), limits, stop)
        there = persist(lambda: _asked(lambda: _listed(api, place)), limits, stop)
        _refuse_other(folder, there, sha256, url)
        todo = [name for name in names if not _is_same(folder / name, there.get(name))]
        total = sum((folder / name).stat().st_size for name in todo)
        with Progress(total, "byte", "pushing") as progress:
            for batch in _batches(folder, todo, sha256):
                _commit(api, place, folder, batch, sha256, limits)
                progress.update(sum((folder / name).stat().st_size for name in batch))
    except (Refused, Lost) as error:
        raise DatasetError(f"{shown(url)}: {error}") from None
    return total, len(names) - len(todo)


def _api(url: str) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise DatasetError(f"{shown(url)}: needs huggingface_hub; {install('hub')}") from None
    return HfApi()


def _asked(call: Any) -> Any:
    """Call the Hub and return its answer. Raises Refused or Lost."""
    try:
        return call()
    except (Refused, Lost):
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        text = f"{type(error).__name__}: {one_line(str(error))}"
        if isinstance(error, (ValueError, TypeError)) or (status is not None and 400 <= status < 500 and status != 429):
            raise Refused(text) from None
        raise Lost(text) from None


def _make_repository(api: Any, place: HubPlace) -> None:
    if not api.repo_exists(place.repository, repo_type="dataset"):
        api.create_repo(place.repository, repo_type="dataset", private=True, exist_ok=True)
        note(f"{place.repository}: created as private; its page on the Hub can make it public")


def _listed(api: Any, place: HubPlace) -> dict[str, Any]:
    """The files of the folder by their names."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        entries = list(
            api.list_repo_tree(
                place.repository, path_in_repo=place.folder or None, revision=place.revision, repo_type="dataset"
            )
        )
    except EntryNotFoundError:
        return {}
    return {entry.path.rpartition("/")[2]: entry for entry in entries if hasattr(entry, "blob_id")}


def _refuse_other(folder: Path, there: dict[str, Any], sha256: dict[str, str], url: str) -> None:
    for name, entry in there.items():
        ours = name in sha256 or name.startswith("shard-") or name == MANIFEST_NAME
        if ours and not ((folder / name).is_file() and _is_same(folder / name, entry, sha256.get(name))):
            raise ResumeError(
                f"{shown(url)}: another dataset is there: its {one_line(name)} differs; remove it there first"
            )


def _is_same(path: Path, entry: Any, sha256: str | None = None) -> bool:
    """Whether a file of the Hub has these bytes."""
    if entry is None or entry.size != path.stat().st_size:
        return False
    if entry.lfs is not None:
        if sha256 is None:
            with open(path, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return bool(entry.lfs.sha256 == sha256)
    blob = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)  # git's name of it
    blob.update(path.read_bytes())
    return bool(entry.blob_id == blob.hexdigest())


def _batches(folder: Path, names: Sequence[str], sha256: dict[str, str]) -> Iterator[list[str]]:
    """Shards a few at a time, each with its record; all else, tables and the manifest among it, last and together."""
    batch: list[str] = []
    size = 0
    rest = [name for name in names if not name.startswith("shard-")]
    for name in names:
        if name in rest:
            continue
        if name in sha256 and batch and (len(batch) >= COMMIT_FILES or size >= COMMIT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += (folder / name).stat().st_size
    if batch:
        yield batch
    if rest:
        yield rest


def _commit(
    api: Any, place: HubPlace, folder: Path, batch: Sequence[str], sha256: dict[str, str], limits: Limits
) -> None:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(place.path(name), str(folder / name)) for name in batch]
    for name, operation in zip(batch, operations):
        found = operation.upload_info.sha256.hex()  # taken as the library read the file
        if found != sha256.get(name, found):
            raise DatasetError(f"{folder / name}: sha256 is {found}, the manifest says {sha256[name]}")

    def send() -> None:
        api.create_commit(
            place.repository,
            operations,
            commit_message=f"{batch[0]} and {len(batch) - 1} more" if len(batch) > 1 else batch[0],
            repo_type="dataset",
            revision=place.revision,
        )

    persist(lambda: _asked(send), limits, Stop())

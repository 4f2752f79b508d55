"""A store is a filesystem of fsspec: the smallest one of a lab's own."""

from __future__ import annotations

from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from genrep.datasets_manifest import read_manifest
from genrep.datasets_manifest.transport import PullConfig, PushConfig, pull, push


def test_a_store_is_a_filesystem_of_fsspec(tmp_path: Path, raw: Path) -> None:
    class Shelf(LocalFileSystem):  # type: ignore[misc]
        protocol = "shelf"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return super()._strip_protocol(path.removeprefix("shelf://"))

    fsspec.register_implementation("shelf", Shelf, clobber=True)
    (tmp_path / "shelf").mkdir()
    push(PushConfig(folder=raw, target=f"shelf://{tmp_path}/shelf/set"))
    pull(PullConfig(source=f"shelf://{tmp_path}/shelf/set", out=tmp_path / "here"))
    assert read_manifest(tmp_path / "here").digest == read_manifest(raw).digest

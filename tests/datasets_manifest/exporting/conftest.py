"""Exports of small datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genrep.datasets_manifest import Beton, read_manifest
from genrep.datasets_manifest.exporting import ExportConfig, ExportReport, export


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Path, ExportReport]]:
    """``run(folder, format, per_file, name)``: the folder that was written, and the report."""

    def exported(folder: Path, kind: str, per_file: int | None = None, name: str = "out") -> tuple[Path, ExportReport]:
        out = tmp_path / name
        return out, export(ExportConfig(folder=folder, format=kind, out=out, per_file=per_file))

    return exported


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """``tree(folder)``: the bytes of every file below it, by path."""

    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return files


@pytest.fixture
def stored() -> Callable[[Path, int, str], bytes]:
    """``stored(folder, i, name)``: the bytes of an image of the first shard."""

    def read(folder: Path, i: int, name: str) -> bytes:
        manifest = read_manifest(folder)
        with Beton(folder / manifest.shards[0].name, manifest.fields, manifest.shards[0].count, 0) as beton:
            return bytes(beton.read(i, name))

    return read

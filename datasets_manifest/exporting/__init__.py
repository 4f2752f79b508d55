"""Datasets in other formats, for users without FFCV.

>>> from genrep.datasets_manifest.exporting import ExportConfig, export
>>> export(ExportConfig(folder=Path("shards"), format="webdataset", out=Path("tars"))).files
4
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import ResumeError
from genrep.files import is_clutter, locked_folder, write_json
from genrep.progress import Progress
from genrep.settings import config, setting

from ..manifest import Manifest, dataset_folder, read_manifest
from ..strict_json import read_json
from ..verify import refuse_inside
from .formats import FolderFormat, Format, Samples, WebdatasetFormat
from .parquet import ParquetFormat

__all__ = ["FORMATS", "ExportConfig", "ExportReport", "export"]


FORMATS: dict[str, type[Format]] = {"folder": FolderFormat, "webdataset": WebdatasetFormat, "parquet": ParquetFormat}
MAX_STATE_BYTES = 64 << 20


@config
class ExportConfig:
    """Settings of ``genrep-manifest export``."""

    folder: Path = setting(argument=True, metavar="DIR", parse=dataset_folder)
    format: str = setting(choices=FORMATS, help="Format to write.")
    out: Path = setting(metavar="DIR", help="Folder to write to: new, empty, or an interrupted export.")
    per_file: int | None = setting(
        default=None,
        least=1,
        most=1_000_000_000,
        metavar="N",
        help="Samples per tar or parquet file, or per subfolder.  [default: about 256 MB; folder: 1000]",
    )


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did."""

    pairs: int
    files: int  # that hold them
    written_pairs: int  # by this call; fewer where an earlier one had begun, 0 where it had ended


def export(config: ExportConfig) -> ExportReport:
    """Convert a dataset to another format. An interrupted export is resumed; the bytes are the same.

    JPEG images are copied as stored, others become PNG files. Latents that are not stored are made again, and rows of prompts
    and sources get their texts beside them. ``out`` gets an ``export.json``
    (``.export.json`` beside tars) with the recipe, licence, classes and digest of the dataset.

    Raises:
        DatasetError: no finished dataset, a shard that is missing or damaged (see ``verify``), or pyarrow is not installed.
        ResumeError: ``out`` holds something else.
        OSError: the disk is full, names the file.
    """
    manifest = read_manifest(config.folder)
    refuse_inside(config.out, config.folder, itself=True)
    writer = FORMATS[config.format](manifest, config.out, config.per_file)
    samples = Samples(config.folder, manifest)
    with locked_folder(config.out):
        state = _state(config, manifest, writer)
        complete = _claim(config.out, state, writer.state_name)
        todo = [unit for unit in range(writer.units) if not writer.is_done(unit)]
        written = _write(config, samples, writer, todo)
        if todo or not complete:
            writer.finish(samples.range(0, manifest.num_pairs, images=False))
            write_json(config.out / writer.state_name, {**state, "complete": True})
    return ExportReport(pairs=manifest.num_pairs, files=writer.file_count(), written_pairs=written)


def _write(config: ExportConfig, samples: Samples, writer: Format, todo: list[int]) -> int:
    """Write the missing units; returns the number of samples."""
    pairs = samples.manifest.num_pairs
    ranges = {unit: writer.range(unit) for unit in todo}
    total = sum(stop - start for start, stop in ranges.values())
    written = 0
    with Progress(pairs, "pair", f"exporting {config.out}", initial=pairs - total) as progress:
        for unit, (start, stop) in ranges.items():
            writer.write(unit, samples.range(start, stop))
            written += stop - start
            progress.update(stop - start)
    return written


def _state(config: ExportConfig, manifest: Manifest, writer: Format) -> dict[str, Any]:
    """The content of ``export.json`` for a finished export."""
    dataset = {key: getattr(manifest, key) for key in ("id", "digest", "recipe", "classes", "build")}
    return {"format": config.format, "per_file": writer.per_unit, "pairs": manifest.num_pairs, "dataset": dataset}


def _claim(out: Path, state: dict[str, Any], name: str) -> bool:
    """Claim an empty folder for this export, or see that it is claimed; returns whether it was complete. Raises ResumeError."""
    path = out / name
    names = (name, *sorted({kind.state_name for kind in FORMATS.values()} - {name}))
    present = next((out / other for other in names if os.path.lexists(out / other)), None)
    if present is None:
        entries = [name for name in os.listdir(out) if not is_clutter(name)]
        if any(not (name.startswith(".") and name.endswith(".tmp")) for name in entries):
            raise ResumeError.naming(
                "{out} {}: is neither empty nor an export of this program ({} is missing)", out, name
            )
        write_json(path, {**state, "complete": False})
        return False
    found = read_json(present, MAX_STATE_BYTES)
    there = {key: found.get(key) for key in state} if isinstance(found, dict) else {}
    for key in ("format", "per_file"):
        if there.get(key) != state[key]:
            raise ResumeError.naming("{out} {}: an export with {} {}, wanted {}", out, key, there.get(key), state[key])
    if there["dataset"] != state["dataset"]:
        raise ResumeError.naming("{out} {}: an export of another dataset", out)
    os.rename(present, path)  # what an earlier version wrote may have the other name
    return found.get("complete") is True

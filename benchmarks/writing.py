"""Writing shards: our writer and FFCV's own, in turns, in one run; what counts is their ratio.

    python benchmarks/writing.py [--pairs 4000] [--rounds 5]

Both write the same pairs to the same bytes (which is checked): raw at 32 px with two latents of 512 values, JPEG at 256 px.
FFCV's ``DatasetWriter`` has one worker, as its bytes are the same on every run only then; it starts a process and looks every
0.1 s whether it is done. Ours writes in this process, syncs the file and takes its sha256; FFCV's file is synced and read for
its sha256 too, since a shard needs both. CPU times are of both processes.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from genrep.datasets_manifest.beton_writer import BetonWriter
from genrep.datasets_manifest.layout import USUAL_PAGE
from genrep.datasets_manifest.schema import field_table
from genrep.files import sha256_file

BATCH, PICTURES = 64, 64
Fields = list[dict[str, Any]]


class Pairs(Sequence[Any]):
    """Formulas of the index, as FFCV's writer asks for them one by one."""

    def __init__(self, columns: list[Any], count: int) -> None:
        self.columns, self.count = columns, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: Any) -> tuple[Any, ...]:
        return (*(column[i % PICTURES] for column in self.columns), i % 10, i)


def values(fields: Fields) -> list[Any]:
    """A column of images or latents for each stored field. Images compress as photos do, about."""
    random, columns = np.random.default_rng(0), []
    for field in fields:
        if field["kind"] == "image":
            height, width, _ = field["shape"]
            coarse = random.normal(128, 50, (PICTURES, height // 8, width // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
            columns.append((coarse + random.normal(0, 4, coarse.shape)).clip(0, 255).astype(np.uint8))
        elif field["kind"] == "float32":
            columns.append(random.standard_normal((PICTURES, *field["shape"])).astype(np.float32))
    return columns


def ours(path: Path, fields: Fields, columns: list[Any], count: int) -> str:
    """Returns the file's sha256."""
    with BetonWriter(path, fields, count, USUAL_PAGE) as writer:
        for start in range(0, count, BATCH):
            index = np.arange(start, min(start + BATCH, count))
            writer.append([*(column[index % PICTURES] for column in columns), index % 10, index])
        return writer.finish()[1]


def ffcv(path: Path, fields: Fields, columns: list[Any], count: int) -> str:
    """Returns the file's sha256."""
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.writer import DatasetWriter

    kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
        "image": lambda field: (
            RGBImageField()
            if field["encoding"] == "raw"
            else RGBImageField(write_mode="jpg", jpeg_quality=int(field["encoding"].removeprefix("jpeg:")))
        ),
        "float32": lambda field: NDArrayField(np.dtype("<f4"), tuple(field["shape"])),
        "int": lambda field: IntField(),
    }
    writers = {field["name"]: kinds[field["kind"]](field) for field in fields}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        DatasetWriter(str(path), writers, page_size=USUAL_PAGE, num_workers=1).from_indexed_dataset(
            Pairs(columns, count)
        )
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return sha256_file(path)


def cpu() -> float:
    """Seconds that this process and its finished children took."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@click.command()
@click.option("--pairs", default=4000, show_default=True, help="Raw pairs of a file; a tenth of it are JPEGs.")
@click.option("--rounds", default=5, show_default=True, help="Times that each writer has its turn.")
def main(pairs: int, rounds: int) -> None:
    """Print, for each kind of set, ours / FFCV's: medians over the rounds."""
    warnings.simplefilter("ignore")  # of ffcv's dependencies
    sets = {
        "raw, 32 px": (field_table((32, 32), "raw", num_positives=1, z_anchor=[512]), pairs),
        "JPEG, 256 px": (field_table((256, 256), "jpeg:90", num_positives=1, z_anchor=[512]), max(1, pairs // 10)),
    }
    for name, (fields, count) in sets.items():
        columns, ratios = values(fields), []
        with tempfile.TemporaryDirectory() as folder:
            ffcv(Path(folder) / "first", fields, columns, 1)  # it compiles at its import
            for _ in range(rounds):
                times, digests = [], []
                for write in (ours, ffcv):
                    wall, used = time.perf_counter(), cpu()
                    digests.append(write(Path(folder) / "x.beton", fields, columns, count))
                    times.append((time.perf_counter() - wall, cpu() - used))
                assert digests[0] == digests[1], f"{name}: the bytes differ"
                ratios.append([mine / theirs for mine, theirs in zip(*times)])
        wall, used = (statistics.median(column) for column in zip(*ratios))
        click.echo(f"{name}: {count} pairs, ours / FFCV's: {wall:.2f} of the time, {used:.2f} of the CPU time")


if __name__ == "__main__":
    main()

"""Parquet files as pyarrow and Hugging Face's datasets read them: images as {bytes, path}, latents as fixed-size lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from genrep.errors import DatasetError
from genrep.extras import install
from genrep.files import whole_file

from ..layout import IN_RECORDS
from ..manifest import Manifest
from .formats import Format, Sample, pair_bytes, suffix, text_names

ROWS = 1000  # of a row group at most
GROUP_BYTES = 32 << 20  # of a row group, about: what a reader holds in memory


class ParquetFormat(Format):
    """A parquet file per unit, named as the Hub names the files of a split. Needs pyarrow."""

    def __init__(self, manifest: Manifest, out: Path, per_unit: int | None) -> None:
        super().__init__(manifest, out, per_unit)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise DatasetError.naming("{format} parquet needs pyarrow; {}", install("parquet")) from None
        self.pa, self.parquet = pyarrow, pyarrow.parquet
        self.texts = list(text_names(manifest))
        self.types = {field["name"]: self._type(field) for field in manifest.fields}
        self.types |= dict.fromkeys(self.texts, pyarrow.string())
        self.group = max(min(ROWS, GROUP_BYTES // pair_bytes(manifest)), 1)

    def _path(self, unit: int) -> Path:
        return self.out / "data" / f"train-{unit:05d}-of-{self.units:05d}.parquet"

    def is_done(self, unit: int) -> bool:
        """Its file has its name."""
        return self._path(unit).is_file()

    def write(self, unit: int, samples: Iterator[Sample]) -> None:
        """Write a parquet file, row group by row group. Uncompressed, since neither images nor latents get smaller."""
        self._path(unit).parent.mkdir(exist_ok=True)
        told = {
            "huggingface": json.dumps({"info": {"features": features(self.manifest)}}),
            "genrep": self.manifest.digest,
        }
        schema = self.pa.schema(list(self.types.items()), metadata=told)
        numbers = [field["name"] for field in self.manifest.fields if field["kind"] in IN_RECORDS]
        options = {"compression": "none", "use_dictionary": False, "write_statistics": numbers}
        with whole_file(self._path(unit)) as file, self.parquet.ParquetWriter(file, schema, **options) as writer:
            while rows := list(islice(samples, self.group)):
                columns = [self._column(field, rows) for field in self.manifest.fields]
                columns += [self.pa.array([row.texts[name] for row in rows], self.pa.string()) for name in self.texts]
                writer.write_batch(self.pa.record_batch(columns, schema=schema))

    def _type(self, field: dict[str, Any]) -> Any:
        pa = self.pa
        if field["kind"] == "image":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        if field["kind"] == "int":
            return pa.int64()
        if field["kind"] == "float":
            return pa.float64()
        kind = pa.float32()
        for size in reversed(field["shape"]):
            kind = pa.list_(kind, size)
        return kind

    def _column(self, field: dict[str, Any], rows: list[Sample]) -> Any:
        pa, name = self.pa, field["name"]
        if field["kind"] == "int":
            return pa.array([row.integers[name] for row in rows], type=pa.int64())
        if field["kind"] == "float":
            return pa.array([row.floats[name] for row in rows], type=pa.float64())
        if field["kind"] == "image":
            ending = f".{name}{suffix(self.manifest)}"
            paths = [self.key(row.integers["index"]) + ending for row in rows]
            parts = [pa.array([row.images[name] for row in rows], type=pa.binary()), pa.array(paths)]
            return pa.StructArray.from_arrays(parts, fields=list(self.types[name]))
        values = pa.array(np.stack([row.latents[name] for row in rows]).reshape(-1))
        for size in reversed(field["shape"]):
            values = pa.FixedSizeListArray.from_arrays(values, size)
        return values


def features(manifest: Manifest) -> dict[str, Any]:
    """The fields as Hugging Face's datasets describes features: what makes it decode the images and name the labels."""
    described: dict[str, Any] = {}
    for field in manifest.fields:
        if field["kind"] == "image":
            described[field["name"]] = {"_type": "Image"}
        elif field["kind"] == "int":
            described[field["name"]] = {"dtype": "int64", "_type": "Value"}
        elif field["kind"] == "float":
            described[field["name"]] = {"dtype": "float64", "_type": "Value"}
        else:
            feature: dict[str, Any] = {"dtype": "float32", "_type": "Value"}
            for size in reversed(field["shape"]):
                feature = {"feature": feature, "length": size, "_type": "Sequence"}
            described[field["name"]] = feature
    if manifest.classes and len(set(manifest.classes)) == len(manifest.classes):
        described["label"] = {"names": manifest.classes, "_type": "ClassLabel"}
    return described | {name: {"dtype": "string", "_type": "Value"} for name in text_names(manifest)}

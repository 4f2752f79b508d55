"""The exported files, as other people's libraries read them."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.datasets_manifest.exporting import ExportReport

Run = Callable[..., tuple[Path, ExportReport]]
Stored = Callable[[Path, int, str], bytes]
KINDS = pytest.mark.parametrize("kind", ["raw", "jpeg", "real", "prompted", "anchored"])
pytestmark = pytest.mark.usefixtures("known_latents")


def decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@KINDS
def test_folder(originals: dict[str, Path], run: Run, stored: Stored, kind: str) -> None:
    dataset = datasets_manifest.open(originals[kind])
    fields = dataset.manifest.fields
    out, report = run(originals[kind], "folder", 2)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == report.pairs == report.written_pairs == len(dataset)
    images = [field["name"] for field in fields if field["kind"] == "image"]
    found = {str(path.relative_to(out)) for path in out.rglob("*.*g") if path.is_file()}
    assert found == {row[f"{name}_file_name"] for row in rows for name in images}
    assert report.files == len(found) == len(dataset) * len(images)
    arrays = {field["name"]: np.load(out / f"{field['name']}.npy") for field in fields if field["kind"] == "float32"}
    for i, (row, pair) in enumerate(zip(rows, dataset, strict=True)):
        assert (row["index"], row["label"]) == (i, pair["label"])
        assert row.get("class") == (dataset.manifest.classes[pair["label"]] if pair["label"] >= 0 else None)
        for name in images:
            data = (out / row[f"{name}_file_name"]).read_bytes()
            np.testing.assert_array_equal(decode(data), pair[name])
            assert kind != "jpeg" or data == stored(originals[kind], i, name)
        for name, array in arrays.items():
            assert array.dtype == np.float32 and len(array) == len(dataset)
            np.testing.assert_array_equal(array[i], pair[name])
        assert {name: row[name] for name in row if name in texts(dataset, pair)} == texts(dataset, pair)


def texts(dataset: datasets_manifest.Dataset, pair: dict[str, Any]) -> dict[str, Any]:
    """What an export says of a pair besides images, latents, label and index."""
    told: dict[str, Any] = {}
    for field in dataset.manifest.fields:
        name = field["name"]
        if field["kind"] == "float" or name.startswith(("prompt", "source")):
            told[name] = pair[name]
        if name.startswith("prompt"):
            assert dataset.prompts is not None
            told[f"{name}_text"] = dataset.prompts[pair[name]]
            told[f"{name}_group"] = dataset.prompts.group(pair[name])
        if name == "source":
            assert dataset.sources is not None
            told |= {"source_name": dataset.sources[pair[name]], "source_sha256": dataset.sources.sha256(pair[name])}
    return told


READ_TARS = """
import glob, pickle, sys
import webdataset

def read(tars, *decoders):
    samples = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)
    return list(samples.decode(*decoders) if decoders else samples)

tars = [sorted(glob.glob(folder + "/*.tar")) for folder in sys.argv[1:]]
pickle.dump([(read(files), read(files, "rgb8")) for files in tars], sys.stdout.buffer)
"""


@pytest.mark.slow
def test_webdataset_reads_the_tars(originals: dict[str, Path], run: Run, stored: Stored) -> None:
    exports = {kind: run(folder, "webdataset", 2, kind) for kind, folder in originals.items()}
    # In a process of its own: it leaves files open.
    folders = [str(out) for out, _ in exports.values()]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", READ_TARS, *folders], capture_output=True, check=True)
    for (kind, (out, report)), (coded, read) in zip(exports.items(), pickle.loads(done.stdout), strict=True):
        dataset = datasets_manifest.open(originals[kind])
        assert len(list(out.glob("*.tar"))) == report.files == -(-len(dataset) // 2)
        assert len(read) == len(dataset)
        for i, (sample, raw, pair) in enumerate(zip(read, coded, dataset, strict=True)):
            assert sample["__key__"] == f"{i:05d}"
            assert (sample["json"]["index"], sample["json"]["label"]) == (i, pair["label"])
            assert texts(dataset, pair).items() <= sample["json"].items()
            for field in dataset.manifest.fields:
                name = field["name"]
                if field["kind"] == "float32":
                    np.testing.assert_array_equal(sample[f"{name}.npy"], pair[name])
                elif field["kind"] == "image" and kind == "jpeg":
                    assert raw[f"{name}.jpg"] == stored(originals[kind], i, name)
                elif field["kind"] == "image":
                    np.testing.assert_array_equal(sample[f"{name}.png"], pair[name])


@KINDS
def test_pyarrow_reads_the_parquet_files(originals: dict[str, Path], run: Run, stored: Stored, kind: str) -> None:
    dataset = datasets_manifest.open(originals[kind])
    out, report = run(originals[kind], "parquet", 2)
    count = -(-len(dataset) // 2)
    names = [f"train-{k:05d}-of-{count:05d}.parquet" for k in range(count)]
    assert sorted(path.name for path in (out / "data").iterdir()) == names
    assert report.files == count
    rows = [row for name in names for row in pyarrow.parquet.ParquetFile(out / "data" / name).read().to_pylist()]
    assert len(rows) == len(dataset)
    for i, (row, pair) in enumerate(zip(rows, dataset, strict=True)):
        told, fields = texts(dataset, pair), [field["name"] for field in dataset.manifest.fields]
        assert list(row) == [*fields, *(name for name in told if name not in fields)]
        assert told.items() <= row.items()
        assert (row["index"], row["label"]) == (i, pair["label"])
        for field in dataset.manifest.fields:
            value = row[field["name"]]
            if field["kind"] == "image":
                np.testing.assert_array_equal(decode(value["bytes"]), pair[field["name"]])
                assert value["path"].startswith(f"{i:05d}.{field['name']}.")
                assert kind != "jpeg" or value["bytes"] == stored(originals[kind], i, field["name"])
            elif field["kind"] == "float32":
                np.testing.assert_array_equal(np.array(value, np.float32), pair[field["name"]])


def test_the_parquet_schema_tells_hugging_face_what_is_what(originals: dict[str, Path], run: Run) -> None:
    out, _ = run(originals["raw"], "parquet")
    schema = pyarrow.parquet.read_schema(out / "data/train-00000-of-00001.parquet")
    told: dict[str, Any] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(told) == schema.names
    assert told["anchor"] == {"_type": "Image"}
    assert told["label"] == {"names": ["cat", "dog", "cow"], "_type": "ClassLabel"}
    assert told["index"] == {"dtype": "int64", "_type": "Value"}
    value = {"dtype": "float32", "_type": "Value"}
    inner = {"feature": value, "length": 3, "_type": "Sequence"}
    assert told["z_positive"] == {"feature": inner, "length": 2, "_type": "Sequence"}
    assert str(schema.field("z_positive").type).count("fixed_size_list") == 2


def test_names_that_stand_twice_are_no_class_labels(raw: Path, run: Run, rewrite: Callable[..., None]) -> None:
    rewrite(raw, lambda value: value.update(classes=["a", "a", "b"]))
    out, _ = run(raw, "parquet")
    schema = pyarrow.parquet.read_schema(out / "data/train-00000-of-00001.parquet")
    told = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert told["label"] == {"dtype": "int64", "_type": "Value"}


def test_many_samples_are_many_row_groups(
    originals: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genrep.datasets_manifest.exporting import parquet

    monkeypatch.setattr(parquet, "ROWS", 2)
    out, _ = run(originals["raw"], "parquet")
    file = pyarrow.parquet.ParquetFile(out / "data/train-00000-of-00001.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [2, 2, 1]


def test_it_says_whose_data_it_is(originals: dict[str, Path], run: Run) -> None:
    out, _ = run(originals["raw"], "folder")
    manifest = datasets_manifest.read_manifest(originals["raw"])
    told = json.loads((out / "export.json").read_text())
    assert told["complete"] is True
    assert (told["dataset"]["id"], told["dataset"]["digest"]) == (manifest.id, manifest.digest)
    assert told["dataset"]["recipe"] == manifest.recipe

"""Random access to a dataset's pairs, against what was written and against plain FFCV."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep import across, datasets_manifest
from genrep.datasets_manifest import Beton, contents, recomputed
from genrep.datasets_manifest.contents import decode_jpeg, open_dataset
from genrep.errors import DatasetError, ManifestError

Expected = Callable[[list[dict[str, Any]], int], dict[str, Any]]


@pytest.mark.usefixtures("known_latents")
@pytest.mark.parametrize(
    ("kind", "tolerance"), [("raw", 0), ("real", 0), ("jpeg", 10), ("prompted", 0), ("anchored", 0)]
)
def test_every_pair_is_what_was_written(
    originals: dict[str, Path], expected: Expected, kind: str, tolerance: int
) -> None:
    dataset = datasets_manifest.open(originals[kind])
    fields = dataset.manifest.fields
    pairs = list(dataset)
    assert len(pairs) == len(dataset) == dataset.manifest.num_pairs
    for i, pair in enumerate(pairs):
        wanted = expected(fields, i)
        assert list(pair) == [field["name"] for field in fields]
        assert (pair["index"], pair["label"]) == (i, wanted["label"])
        for field in fields:
            value = pair[field["name"]]
            if field["kind"] == "image":
                assert value.dtype == np.uint8 and list(value.shape) == field["shape"] and value.flags.writeable
                assert np.abs(value.astype(int) - wanted[field["name"]]).max() <= tolerance
            elif field["kind"] == "float32":
                assert value.dtype == np.float32 and list(value.shape) == field["shape"]
                np.testing.assert_array_equal(value, wanted[field["name"]])
            else:
                assert type(value) is (float if field["kind"] == "float" else int)
                assert value == wanted[field["name"]]
        np.testing.assert_equal(dataset[i], pair)


def test_texts_and_names_stand_in_their_rows(originals: dict[str, Path], known_latents: object) -> None:
    dataset = open_dataset(originals["prompted"])
    assert dataset.sources is None and dataset.prompts is not None
    pair = dataset[3]
    assert [pair[name] for name in ("prompt", "prompt_1", "prompt_2")] == [2, 3, 0]
    assert [dataset.prompts[pair[name]] for name in ("prompt", "prompt_1", "prompt_2")] == [
        "ein Hund, \u72ac \U0001f415",
        "a cow",
        "a cat",
    ]
    assert (dataset.prompts.group(2), dataset.prompts.group(3)) == ("dog", None)
    dataset = open_dataset(originals["anchored"])
    assert dataset.prompts is None and dataset.sources is not None
    assert [dataset.sources[dataset[i]["source"]] for i in (0, 1)] == ["train/0.jpg", "train/\u00fc <b>.jpg"]
    assert open_dataset(originals["raw"]).prompts is None


def test_a_missing_table_is_told_when_it_is_asked_for(prompted: Path, known_latents: object) -> None:
    (prompted / "prompts.jsonl").unlink()
    dataset = open_dataset(prompted)
    assert dataset[0]["prompt"] == 3
    with pytest.raises(DatasetError, match=r"prompts\.jsonl: missing$"):
        dataset.prompts  # noqa: B018


def test_latents_that_are_not_stored_are_made_again_in_batches_when_all_are_asked_for(
    originals: dict[str, Path], known_latents: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recomputed, "BATCH_VALUES", 3 * 36)
    names = ["z_anchor", "z_positive", "z_positive_1"]
    list(open_dataset(originals["prompted"]))
    assert known_latents == [([0, 1, 2], names), ([3, 4], names)]
    known_latents.clear()
    open_dataset(originals["prompted"])[3]
    assert known_latents == [([3], names)]
    list(open_dataset(originals["anchored"]))
    assert known_latents == [([3], names)]


def test_what_is_made_again_is_what_a_build_stores(fashion_original: Path) -> None:
    dataset = open_dataset(fashion_original)
    fields = [field | ({"stored": False} if field["kind"] == "float32" else {}) for field in dataset.manifest.fields]
    again = recomputed.Recomputed(replace(dataset.manifest, fields=fields))
    for i in (0, 7, 19):
        made = again.one(i)
        assert list(made) == ["z_anchor", "z_positive"]
        for name, values in made.items():
            np.testing.assert_array_equal(values, dataset[i][name])


def test_where_latents_cannot_be_made_again_one_line_says_so(
    originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(across.REACHED, "latents", "genrep_without_generators.latents")
    with pytest.raises(DatasetError) as caught:
        open_dataset(originals["prompted"])[0]
    assert str(caught.value) == (
        "its latents are not stored, and making them again needs genrep_without_generators; install genrep with its generators"
    )
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="its latents are not stored, and cannot be made again here: ") as caught:
        open_dataset(originals["prompted"])[0]  # its recipe is no recipe
    assert "\n" not in str(caught.value)


LATENT = {"shape": [12], "chunks": [12], "law": "truncated_normal", "truncation": 2.0, "scale": 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latent": {**LATENT, "shape": [1 << 40]}}, "latent: shape is [1099511627776], wanted sizes of a product"),
        ({"latent": {**LATENT, "shape": [3, -4]}}, "latent: shape is [3, -4], wanted"),
        ({"latent": {**LATENT, "truncation": 1e-6}}, "truncation is 1e-06, wanted a number >= 0.05"),
        ({"views": {"name": "gaussian", "std": 0.2, "truncation": 1e-9}}, "truncation is 1e-09, wanted a number"),
        ({"views": {"parts": [{"view": {"truncation": "x" * 5000}}]}}, "truncation is 'xxx"),
        ({"latent": {**LATENT, "law": "\x1b[2J"}}, ""),
        ({"latent": {**LATENT, "chunks": [1 << 60, 1]}}, ""),
        ({"views": {"name": "\x1b[2J"}}, ""),
        ({"views": [[[1]]]}, ""),
        ({"views": {"name": "navigator", "digest": "0" * 64}}, ""),
        ({"filter": {}}, ""),
        ({"latent": None}, ""),
    ],
)
def test_a_hostile_recipe_costs_neither_time_nor_memory_and_ends_in_one_line(
    prompted: Path, rewrite: Callable[..., None], change: dict[str, Any], words: str
) -> None:
    good = {"latent": LATENT, "views": {"name": "gaussian", "std": 0.2, "truncation": 2.0}}
    rewrite(prompted, lambda value: value["recipe"].update(**{**good, **change}))
    with pytest.raises(DatasetError, match=r"^its latents are not stored, and ") as caught:
        open_dataset(prompted)[0]
    assert words in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_latents_of_another_shape_are_refused(originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "latents", lambda manifest, indices, names: {name: np.zeros((1, 12)) for name in names})
    with pytest.raises(
        DatasetError, match=r"its recipe makes z_anchor of shape \(12,\), the manifest says \(2, 2, 3\)"
    ):
        open_dataset(originals["prompted"])[0]


@pytest.mark.ffcv
def test_plain_ffcv_decodes_the_same_jpegs(originals: dict[str, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ffcv.libffcv import imdecode
        from ffcv.reader import Reader
    path = originals["jpeg"] / "shard-00000.beton"
    reader, dataset = Reader(str(path)), open_dataset(originals["jpeg"])
    data = np.fromfile(path, np.uint8)
    sizes = dict(zip(reader.alloc_table["ptr"], reader.alloc_table["size"]))
    for i, record in enumerate(reader.metadata):
        for k, field in enumerate(dataset.manifest.fields):
            if field["kind"] == "image":
                start = record[f"f{k}"]["data_ptr"]
                with Beton(path, dataset.manifest.fields, len(reader.metadata), 0) as beton:
                    assert bytes(beton.read(i, field["name"])) == data[start : start + sizes[start]].tobytes()
        start = record["f1"]["data_ptr"]
        out = np.zeros((16, 24, 3), np.uint8)
        imdecode(data[start : start + sizes[start]], out, 16, 24, 16, 24, 0, 0, 1, 1, False, False)
        assert np.abs(out.astype(int) - dataset[i]["positive"]).max() <= 6  # faster arithmetic


def test_positions(originals: dict[str, Path]) -> None:
    dataset = open_dataset(originals["raw"])
    assert [dataset[i]["index"] for i in (4, 0, 3, 2, -1, -5, np.int64(1))] == [4, 0, 3, 2, 4, 0, 1]
    for i in (5, -6, 2**70):
        with pytest.raises(IndexError, match=f"pair {i} of 5"):
            dataset[i]


def test_few_shards_stay_open(originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_OPEN_SHARDS", 1)
    dataset = open_dataset(originals["raw"])
    before = len(os.listdir("/proc/self/fd"))
    assert [dataset[i]["index"] for i in (0, 4, 1, 3)] == [0, 4, 1, 3]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del dataset
    assert len(os.listdir("/proc/self/fd")) == before


def test_pickling_opens_anew(originals: dict[str, Path]) -> None:
    dataset = open_dataset(str(originals["raw"]))
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[4]["index"] == 4


def test_refusals(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="missing"):
        open_dataset(tmp_path)
    os.truncate(raw / "shard-00001.beton", 5000)
    dataset = open_dataset(raw)
    assert dataset[2]["index"] == 2
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: truncated"):
        dataset[3]


def test_a_size_other_than_stated(raw: Path, rewrite: Callable[..., None]) -> None:
    rewrite(raw, lambda value: value["shards"][0].update(bytes=5))
    with pytest.raises(DatasetError, match="the manifest says 5"):
        open_dataset(raw)[0]


def test_a_file_cut_after_it_was_opened(raw: Path) -> None:
    dataset = open_dataset(raw)
    dataset[0]
    os.truncate(raw / "shard-00000.beton", (2 << 20) + 10)
    with pytest.raises(DatasetError, match="sample 0: truncated inside anchor"):
        dataset[0]


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0" + b"\0" * 50, b"BM" + b"\0" * 60, b"\xff" * 999]
)
def test_what_is_no_jpeg(data: bytes) -> None:
    with pytest.raises(ValueError, match="is not a readable JPEG"):
        decode_jpeg(np.frombuffer(data, np.uint8), [8, 8, 3])


def test_exif_is_refused_before_pillow_parses_it() -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x112] = 6
    Image.new("RGB", (8, 8)).save(buffer, format="JPEG", exif=exif)
    with pytest.raises(ValueError, match="carries EXIF data"):
        decode_jpeg(np.frombuffer(buffer.getvalue(), np.uint8), [8, 8, 3])


def progressive(scans: int) -> np.ndarray:
    """A progressive JPEG of 64 x 64 with so many scans, of which all but the first few say nothing new."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 90)).save(buffer, format="JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.rindex(b"\xff\xda")
    assert data.endswith(b"\xff\xd9")
    last = data[start:-2]
    return np.frombuffer(data[:-2] + last * (scans - data.count(b"\xff\xda")) + b"\xff\xd9", np.uint8)


def test_a_jpeg_whose_scans_never_end_is_refused_undecoded() -> None:
    assert decode_jpeg(progressive(64), [64, 64, 3]).shape == (64, 64, 3)
    for scans in (65, 20_000):
        with pytest.raises(ValueError, match=f"is a JPEG of {scans} scans, wanted at most 64"):
            decode_jpeg(progressive(scans), [64, 64, 3])

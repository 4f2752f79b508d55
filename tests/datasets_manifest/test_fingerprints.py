"""Fingerprints: what a shard's images come down to, and what a manifest may say of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.datasets_manifest import read_manifest
from genrep.datasets_manifest.fingerprints import chosen_indices, difference, make_fingerprint, thumbnail
from genrep.datasets_manifest.verify import verify
from genrep.errors import ManifestError

GOOD = {"indices": [0, 2], "size": [1, 2], "thumbnails": base64.b64encode(bytes(12)).decode()}


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (1, 1), (5, 3), (21, 50), (9, 1000)])
def test_a_thumbnail_holds_the_means_of_a_grid(height: int, width: int) -> None:
    image = np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)
    found = thumbnail(image)
    rows, columns = min(8, height), min(8, width)
    assert found.shape == (rows, columns, 3) and found.dtype == np.uint8
    for i in range(rows):
        for j in range(columns):
            part = image[
                i * height // rows : (i + 1) * height // rows, j * width // columns : (j + 1) * width // columns
            ]
            assert np.abs(found[i, j] - part.reshape(-1, 3).mean(axis=0)).max() <= 0.5


def test_a_thumbnail_of_an_exact_grid_is_what_pillow_makes_of_it() -> None:
    image = np.random.RandomState(0).randint(0, 256, (64, 32, 3)).astype(np.uint8)
    pillows = np.array(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX))
    assert np.abs(thumbnail(image).astype(int) - pillows).max() <= 1


def test_the_pairs_are_fixed_and_inside_the_shard() -> None:
    assert chosen_indices(1000, 500, 16) == chosen_indices(1000, 500, 16)
    for first, count, shards in ((0, 1, 1), (7, 2, 1), (10_000, 1000, 5000)):
        indices = chosen_indices(first, count, shards)
        assert indices == sorted(set(indices)) and 1 <= len(indices) <= 4
        assert all(first <= i < first + count for i in indices)
    assert len(chosen_indices(0, 10_000, 5000)) == 4
    assert len(chosen_indices(0, 10_000, 20_000)) == 1
    assert chosen_indices(0, 10_000, 20_001) == []  # the manifest would grow too large


def test_a_build_records_the_thumbnails_of_what_it_stored(fashion: Path) -> None:
    manifest, dataset = read_manifest(fashion), datasets_manifest.open(fashion)
    for shard in manifest.shards:
        fingerprint = shard.fingerprint
        assert fingerprint is not None
        assert fingerprint["indices"] == chosen_indices(shard.first_index, shard.count, 3)
        stored = np.frombuffer(base64.b64decode(fingerprint["thumbnails"]), np.uint8).reshape(-1, 2, 8, 8, 3)
        for i, (anchor, positive) in zip(fingerprint["indices"], stored):
            assert np.array_equal(anchor, thumbnail(dataset[i]["anchor"]))
            assert np.array_equal(positive, thumbnail(dataset[i]["positive"]))
    assert verify(fashion, "full") == []


def test_a_jpegs_fingerprint_is_that_of_its_decoded_image(jpeg: Path) -> None:
    manifest = read_manifest(jpeg)
    shard = manifest.shards[0]
    made = make_fingerprint(jpeg / shard.name, manifest.fields, 0, shard.count, 1)
    assert made is not None and made["size"] == [8, 8]
    dataset = datasets_manifest.open(jpeg)
    raw = np.stack([[thumbnail(dataset[i][name]) for name in ("anchor", "positive")] for i in made["indices"]])
    assert base64.b64decode(made["thumbnails"]) == raw.tobytes()


def test_rounding_and_jpeg_are_within_tolerance_other_images_are_not(fashion: Path) -> None:
    dataset = datasets_manifest.open(fashion)
    images = [dataset[i]["anchor"] for i in range(6)]

    def fingerprint(pictures: list[Any]) -> dict[str, Any]:
        data = np.stack([thumbnail(picture) for picture in pictures]).tobytes()
        return {"indices": [0], "size": [8, 8], "thumbnails": base64.b64encode(data).decode()}

    def coded(picture: Any) -> Any:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="JPEG", quality=90)
        return np.array(Image.open(buffer))

    noise = np.random.RandomState(0)
    rounded = [np.clip(image + noise.randint(-1, 2, image.shape), 0, 255).astype(np.uint8) for image in images]
    for same in (images, rounded, [coded(image) for image in images]):
        found = difference(fingerprint(images), fingerprint(same))
        assert found is not None and found.within_tolerance
    found = difference(fingerprint(images), fingerprint(images[1:] + images[:1]))
    assert found is not None and not found.within_tolerance and found.largest > 50
    assert difference(fingerprint(images), fingerprint(images) | {"indices": [1]}) is None


def test_full_verification_compares_images_with_the_fingerprint(fashion: Path, rewrite: Callable[..., None]) -> None:
    black = base64.b64encode(bytes(4 * 2 * 192)).decode()

    def mutate(manifest: dict[str, Any]) -> None:
        manifest["shards"][0]["fingerprint"].update(indices=[0, 1, 2, 3], thumbnails=black)
        manifest["shards"][1]["fingerprint"].update(indices=[8], thumbnails=base64.b64encode(bytes(192)).decode())

    rewrite(fashion, mutate)
    for k, shard in enumerate(json.loads((fashion / "manifest.json").read_text())["shards"]):
        (fashion / f"shard-0000{k}.json").write_text(json.dumps(shard))
    assert verify(fashion, "bytes") == []
    first, second = [str(problem) for problem in verify(fashion, "full")]
    assert first.startswith("shard-00000.beton: its images differ from its fingerprint by up to ")
    assert second == "shard-00001.beton: its fingerprint is not of this dataset's images"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (None, "fingerprint is None, wanted an object"),
        ({**GOOD, "extra": 1}, "unknown key 'extra'"),
        ({"indices": [0], "size": [1, 1]}, "lacks the key 'thumbnails'"),
        ({**GOOD, "indices": []}, "0 indices, wanted 1 to 8"),
        ({**GOOD, "indices": list(range(9))}, "indices is 3, wanted an integer from 3 to 2"),
        ({**GOOD, "indices": [2, 0]}, "indices is 0, wanted an integer from 3 to 2"),
        ({**GOOD, "indices": [1, 1]}, "indices is 1, wanted an integer from 2"),
        ({**GOOD, "indices": [-1]}, "indices is -1"),
        ({**GOOD, "indices": [3]}, "indices is 3, wanted an integer from 0 to 2"),
        ({**GOOD, "indices": [0.0]}, "indices is 0.0"),
        ({**GOOD, "indices": 10**9}, "indices is 1000000000, wanted a list"),
        ({**GOOD, "size": [1]}, r"size is \[1\], wanted \[rows, columns\]"),
        ({**GOOD, "size": [0, 1]}, "size is 0"),
        ({**GOOD, "size": [1, 9]}, "size is 9"),
        ({**GOOD, "size": [10**9, 10**9]}, "size is 1000000000"),
        ({**GOOD, "thumbnails": ""}, "thumbnails is '', wanted a text"),
        ({**GOOD, "thumbnails": "A" * 1_000_000}, "thumbnails is 'AAA.*wanted 12 or 24 bytes in base64"),
        ({**GOOD, "thumbnails": "A" * 15}, "wanted 12 or 24 bytes"),
        ({**GOOD, "thumbnails": "A" * 12}, "wanted 12 or 24 bytes"),
        ({**GOOD, "thumbnails": "é" * 16}, "wanted 12 or 24 bytes"),
        ({**GOOD, "thumbnails": "AAAA\nAAAAAAAAAAAA"}, "wanted 12 or 24 bytes"),
    ],
)
def test_hostile_fingerprints(folder: Path, rewrite: Callable[..., None], change: Any, match: str) -> None:
    rewrite(folder, lambda value: value["shards"][0].update(fingerprint=change))
    with pytest.raises(ManifestError, match=match) as caught:
        read_manifest(folder)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_a_manifest_with_and_without_fingerprints_is_read(folder: Path, rewrite: Callable[..., None]) -> None:
    rewrite(folder, lambda value: value["shards"][0].update(fingerprint=GOOD))
    assert [shard.fingerprint for shard in read_manifest(folder).shards] == [GOOD, None, None]

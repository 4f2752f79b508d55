"""manifest.json and shard jsons: what is written is read back, and what could not be read is not written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest.manifest import (
    Shard,
    build_manifest,
    read_manifest,
    read_shard_record,
    shard_name,
    shard_record_name,
    write_manifest,
    write_shard_record,
)
from genrep.datasets_manifest.schema import field_table
from genrep.errors import DatasetError, ManifestError
from genrep.files import digest_json

FIELDS = field_table((8, 8), "raw", num_positives=1, z_anchor=[4])
RECIPE: dict[str, Any] = {"num_pairs": 7, "pairs_per_shard": 3, "seed": 2**63, "views": {"std": 0.2, "note": "σ"}}
HEX = "0123456789abcdef" * 4
Entries = Callable[..., list[Shard]]


def test_written_is_read(entries: Entries, folder: Path) -> None:
    manifest = build_manifest(RECIPE, FIELDS, ["a", "b"], entries(3, 3, 1), {"torch": "2.6"})
    assert read_manifest(folder) == manifest
    assert (manifest.num_pairs, manifest.num_positives, manifest.num_bytes) == (7, 1, 3003)
    assert [field["name"] for field in manifest.image_fields] == ["anchor", "positive"]
    assert [field["name"] for field in manifest.latent_fields] == ["z_anchor", "z_positive"]
    assert manifest.shards[2].facts == {"seconds": 1.5, "threads": 1}
    assert os.listdir(folder) == ["manifest.json"]


def test_the_file_is_sorted_readable_json_that_states_its_digest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    value = json.loads(text)
    assert text == json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert value["schema_version"] == 2
    assert value["shards"][0] == {
        "name": "shard-00000.beton",
        "first_index": 0,
        "count": 3,
        "bytes": 1000,
        "sha256": HEX,
        "latents_sha256": HEX[::-1],
        "seconds": 1.5,
        "threads": 1,
    }
    digest = value.pop("digest")
    assert digest == digest_json(value)


def test_the_id_is_the_recipes_and_nothing_elses(entries: Entries) -> None:
    one = build_manifest(RECIPE, FIELDS, [], entries(3, 3, 1), {"device": "cpu"})
    two = build_manifest(dict(reversed(RECIPE.items())), FIELDS, [], entries(3, 3, 1), {"device": "cuda"})
    other = build_manifest(RECIPE | {"seed": 1}, FIELDS, [], entries(3, 3, 1), {"device": "cpu"})
    assert one.id == two.id != other.id
    assert one.digest != two.digest
    frozen = "552cfa856037d5fb332018c34ecbf6d9564c0ccfa95a7f55d66a97d5714336b1"
    assert one.id == frozen  # or every published dataset would change its id


def test_whitespace_and_order_of_the_file_do_not_matter(folder: Path) -> None:
    before = read_manifest(folder)
    value = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(dict(reversed(value.items()))))
    assert read_manifest(folder) == before


def test_names() -> None:
    assert (shard_name(0), shard_name(12345)) == ("shard-00000.beton", "shard-12345.beton")
    assert shard_record_name(7) == "shard-00007.json"
    for k in (-1, 100_000):
        with pytest.raises(ValueError, match="shard number"):
            shard_name(k)


def test_field_tables() -> None:
    names = [
        field["name"] for field in field_table((8, 8), "jpeg:95", num_positives=3, z_anchor=[4], z_positive=[2, 4])
    ]
    images = ["anchor", "positive", "positive_1", "positive_2"]
    assert names == [*images, *(f"z_{name}" for name in images), "label", "index"]
    assert [field["name"] for field in field_table((8, 8), "raw")] == ["anchor", "label", "index"]
    assert field_table((4, 6), "raw", num_positives=1, z_anchor=[4], z_positive=[2, 4])[1:4] == [
        {"name": "positive", "kind": "image", "shape": [4, 6, 3], "encoding": "raw"},
        {"name": "z_anchor", "kind": "float32", "shape": [4]},
        {"name": "z_positive", "kind": "float32", "shape": [2, 4]},
    ]
    with pytest.raises(ManifestError, match="2 images without latents"):
        field_table((8, 8), "raw", num_positives=1)
    with pytest.raises(ManifestError, match="encoding is 'png'"):
        field_table((8, 8), "png")


# --- building refuses what reading would


@pytest.mark.parametrize(
    ("recipe", "counts", "match"),
    [
        ({"num_pairs": 8}, (3, 3, 1), "hold 7 pairs, the recipe's num_pairs is 8"),
        ({"pairs_per_shard": 2}, (3, 3, 1), r"shards\[0\]: count is 3, the recipe's pairs_per_shard is 2"),
        ({"num_pairs": 4}, (1, 3), r"shards\[0\]: count is 1"),
        ({"num_pairs": 4, "pairs_per_shard": 1}, (1, 3), r"shards\[1\]: count is 3"),
        ({"std": float("nan")}, (3, 3, 1), "new manifest: "),
        ({"name": "\ud800"}, (3, 3, 1), "new manifest: "),
        ({"seed": True}, (3, 3, 1), "recipe: seed is True"),
        ({}, (), "0 shards"),
    ],
)
def test_building_refuses_contradictions(
    entries: Entries, recipe: dict[str, Any], counts: tuple[int, ...], match: str
) -> None:
    with pytest.raises(ManifestError, match=match):
        build_manifest(RECIPE | recipe, FIELDS, [], entries(*counts), {})


def test_digests_are_of_what_a_reader_sees(entries: Entries, tmp_path: Path) -> None:
    recipe = RECIPE | {"groups": {10: (1, 2), 9: (3,)}}  # integer keys sort otherwise than texts; tuples become lists
    write_manifest(tmp_path, build_manifest(recipe, FIELDS, [], entries(3, 3, 1), {}))
    assert read_manifest(tmp_path).recipe["groups"] == {"10": [1, 2], "9": [3]}


def test_facts_cannot_overrule_the_prescribed_keys(entries: Entries) -> None:
    shard = entries(1)[0]
    with pytest.raises(ValueError, match="facts must not name"):
        Shard(**{**vars(shard), "facts": {"count": 9}}).to_json()


# --- shard jsons


def test_records(entries: Entries, tmp_path: Path) -> None:
    shard = entries(3, 2)[1]
    write_shard_record(tmp_path, shard)
    assert os.listdir(tmp_path) == ["shard-00001.json"]
    assert read_shard_record(tmp_path / "shard-00001.json") == shard


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "shard-00002.beton"}, "it describes shard-00002.beton"),
        ({"name": "../shard-00001.beton"}, "wanted shard-NNNNN.beton"),
        ({"count": -1}, "count is -1"),
        ({"count": True}, "count is True"),
        ({"sha256": "0"}, "sha256 is '0'"),
    ],
)
def test_hostile_records(entries: Entries, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    path = tmp_path / "shard-00001.json"
    path.write_text(json.dumps(entries(3, 2)[1].to_json() | change))
    with pytest.raises(ManifestError, match=match) as caught:
        read_shard_record(path)
    assert str(caught.value).startswith(str(path))


def test_hostile_record_texts(tmp_path: Path) -> None:
    path = tmp_path / "shard-00001.json"
    for content, match in (
        (b"", "not JSON"),
        (b"[1]", "wanted an object"),
        (b"{}", "lacks the key"),
        (b'{"a":NaN}', "NaN"),
    ):
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=match):
            read_shard_record(path)
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(ManifestError, match="wanted at most 1048576"):
        read_shard_record(path)


def test_no_record_is_written_that_could_not_be_read(entries: Entries, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="count is 0"):
        write_shard_record(tmp_path, entries(0)[0])
    assert os.listdir(tmp_path) == []


def test_refusals_are_dataset_errors() -> None:
    assert issubclass(ManifestError, DatasetError)

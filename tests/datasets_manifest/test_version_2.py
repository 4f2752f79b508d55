"""Schema version 2: sets of prompts, of real anchors, of latents that are not stored; version 1 is read as ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest import layout, read_manifest, write_manifest
from genrep.datasets_manifest.beton import Beton
from genrep.datasets_manifest.finish import finish
from genrep.datasets_manifest.manifest import build_manifest
from genrep.datasets_manifest.schema import field_table
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, ManifestError
from genrep.files import digest_json
from genrep.untrusted import shown

VERSION_1 = Path(__file__).parent / "data/version1"  # as the last version before wrote it
Rewrite = Callable[..., None]


def names(**options: Any) -> list[str]:
    return [field["name"] for field in field_table((8, 8), "raw", **options)]


def test_fields_stand_in_one_order() -> None:
    every = {"floats": ["strength", "weight"], "instances": True, "prompts": 3, "sources": True}
    images = ["anchor", "positive", "positive_1"]
    floats, rows = ["strength", "strength_1", "weight"], ["row", "prompt", "prompt_1", "prompt_2", "source"]
    assert names(num_positives=2, z_anchor=[4, 8, 8], **every) == [
        *images,
        *(f"z_{name}" for name in images),
        *floats,
        *("label", "index"),
        *rows,
    ]
    real = names(num_positives=1, z_positive=[4], floats=["noise_level"], sources=True)
    assert real == ["anchor", "positive", "z_positive", "noise_level", "label", "index", "source"]
    assert names(num_positives=2, z_anchor=[4], prompts=1)[-1] == "prompt"


def test_only_latents_are_marked_as_not_stored() -> None:
    table = field_table((8, 8), "raw", num_positives=1, z_anchor=[4, 2], latents_stored=False, prompts=1)
    assert [field["name"] for field in table if "stored" in field] == ["z_anchor", "z_positive"]
    assert table[2] == {"name": "z_anchor", "kind": "float32", "shape": [4, 2], "stored": False}
    assert [field["name"] for field in layout.in_beton(table)] == ["anchor", "positive", "label", "index", "prompt"]
    assert layout.record_dtype(table).names == ("anchor", "positive", "label", "index", "prompt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"floats": ["label"]}, "a float named 'label'"),
        ({"floats": ["z_strength"]}, "a float named 'z_strength'"),
        ({"floats": ["Strength"]}, "a float named 'Strength'"),
        ({"floats": ["strength", "strength"]}, "strength appears twice"),
        ({"floats": ["a_parameter_too_long"]}, "at most 16 ASCII characters"),
        ({"prompts": 2, "num_positives": 3}, "2 prompts a pair, wanted 0, 1 or 4"),
    ],
)
def test_what_the_table_cannot_hold_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        field_table((8, 8), "raw", **{"num_positives": 1, "z_anchor": [4], **options})


@pytest.mark.parametrize("level", ["quick", "bytes", "full"])
@pytest.mark.parametrize("kind", ["prompted", "anchored"])
def test_sets_of_version_2_are_good(originals: dict[str, Path], kind: str, level: str, known_latents: object) -> None:
    assert verify(originals[kind], level) == []


def test_a_set_that_an_earlier_version_wrote_is_read_checked_and_written_again_as_it_was(tmp_path: Path) -> None:
    manifest = read_manifest(VERSION_1)
    assert manifest.schema_version == 1
    assert manifest.tables == []
    assert verify(VERSION_1, "full") == []
    write_manifest(tmp_path, manifest)
    assert (tmp_path / "manifest.json").read_bytes() == (VERSION_1 / "manifest.json").read_bytes()


def test_a_folder_that_an_earlier_version_began_is_finished_in_version_2_with_the_same_id(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(VERSION_1, tmp_path / "set"))
    before = read_manifest(folder)
    (folder / "manifest.json").unlink()
    after = finish(folder)
    assert (after.schema_version, after.id) == (2, before.id)
    assert [shard.to_json() for shard in after.shards] == [shard.to_json() for shard in before.shards]
    assert verify(folder, "full") == []


def put(*path: Any) -> Callable[[dict[str, Any]], object]:
    """``put("recipe", "seed", 1)`` changes one value of a manifest."""

    def mutate(value: Any) -> None:
        for key in path[:-2]:
            value = value[key]
        value[path[-2]] = path[-1]

    return mutate


@pytest.mark.parametrize(
    ("mutate", "words"),
    [
        (put("tables", []), "unknown key 'tables'"),
        (put("fields", 3, "stored", False), "unknown key 'stored'"),
        (put("fields", 3, {"name": "strength", "kind": "float"}), "whose kind is one of ['float32', 'image', 'int']"),
        (lambda value: value["fields"].append({"name": "prompt", "kind": "int"}), "fields are"),
        (lambda value: value["fields"].append({"name": "source", "kind": "int"}), "fields are"),
        (lambda value: value["fields"].pop(3), "fields are"),
    ],
)
def test_version_1_has_none_of_the_new(tmp_path: Path, rewrite: Rewrite, mutate: Any, words: str) -> None:
    folder = Path(shutil.copytree(VERSION_1, tmp_path / "set"))
    rewrite(folder, mutate)
    with pytest.raises(ManifestError) as caught:
        read_manifest(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


HEX = "0123456789abcdef" * 4
HOSTILE = [
    (put("schema_version", 3), "schema_version is 3, this program reads 1 and 2"),
    (lambda value: value.pop("tables"), "0 tables, wanted prompts.jsonl"),
    (put("tables", []), "0 tables, wanted prompts.jsonl"),
    (put("tables", {}), "tables is {}, wanted a list"),
    (lambda value: value["tables"].append(value["tables"][0]), "2 tables, wanted prompts.jsonl"),
    (put("tables", 0, "name", "../prompts.jsonl"), "name is '../prompts.jsonl', wanted prompts.jsonl"),
    (put("tables", 0, "name", "sources.jsonl"), "wanted prompts.jsonl"),
    (put("tables", 0, "sha256", HEX), "the recipe's prompts.sha256 is"),
    (put("tables", 0, "sha256", "x"), "wanted a sha256"),
    (put("tables", 0, "count", 5), "the recipe's prompts.count is 4"),
    (put("tables", 0, "count", 0), "wanted an integer from 1 to 10000000"),
    (put("tables", 0, "count", 10_000_001), "wanted an integer from 1 to 10000000"),
    (put("tables", 0, "bytes", (16 << 30) + 1), "wanted an integer from 1 to 17179869184"),
    (put("tables", 0, "url", "https://example.com"), "unknown key 'url'"),
    (put("recipe", "prompts", [1]), "the recipe's prompts.sha256 is None"),
    (put("recipe", "prompts", "count", True), "the recipe's prompts.count is True"),
    (lambda value: value["recipe"].pop("latents_stored"), "latents_stored is True, wanted false"),
    (put("recipe", "latents_stored", True), "latents_stored is True, wanted false"),
    (put("recipe", "latents_stored", 0), "latents_stored is 0, wanted false"),
    (put("fields", 3, "stored", True), "stored is True, wanted false or no such key"),
    (put("fields", 3, "stored", 0), "stored is 0, wanted false or no such key"),
    (put("fields", 0, "stored", False), "unknown key 'stored'"),
    (put("fields", 6, "name", "index"), "a float named 'index'"),
    (put("fields", 6, "name", "strength_1"), "strength_1 appears twice"),
    (put("fields", 6, "shape", [1]), "unknown key 'shape'"),
    (lambda value: value["fields"].pop(), "fields are"),  # prompt_2
    (
        lambda value: value["fields"].pop(3),
        "fields are of kinds",
    ),  # z_anchor: anchors are real, but not all has a place
]


@pytest.mark.parametrize(("mutate", "words"), HOSTILE[:-1])
def test_hostile_manifests_are_refused_in_one_line(prompted: Path, rewrite: Rewrite, mutate: Any, words: str) -> None:
    rewrite(prompted, mutate)
    with pytest.raises(ManifestError) as caught:
        read_manifest(prompted)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_floats_and_rows_are_read(originals: dict[str, Path], expected: Callable[..., Any]) -> None:
    manifest = read_manifest(originals["prompted"])
    shard = manifest.shards[1]
    with Beton(originals["prompted"] / shard.name, manifest.fields, shard.count, shard.first_index) as beton:
        assert "z_anchor" not in beton.fields
        for name in ("strength", "strength_1", "weight"):
            wanted = [expected(manifest.fields, i)[name] for i in (3, 4)]
            assert beton.samples[name].tolist() == wanted
            assert beton.samples[name].dtype == np.float64
        assert beton.samples["prompt_2"].tolist() == [expected(manifest.fields, i)["prompt_2"] for i in (3, 4)]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("strength", float("nan"), "sample 0 has strength nan, wanted a finite number"),
        ("strength_1", float("inf"), "sample 0 has strength_1 inf, wanted a finite number"),
        ("weight", -0.5, "sample 0 has weight -0.5, wanted a finite number, 0 at least"),
        ("prompt", 4, "sample 0 has prompt 4, wanted 0 to 3"),
        ("prompt_2", -1, "sample 0 has prompt_2 -1, wanted 0 to 3"),
        ("label", 3, "sample 0 has label 3, wanted -1 to 2"),
    ],
)
def test_values_that_cannot_be_are_told(
    prompted: Path, patch_of: Any, reseal: Callable[..., None], name: str, value: float, words: str
) -> None:
    patch = patch_of(prompted)
    patch.records[name][0] = value
    patch.path.write_bytes(patch.data)
    reseal(prompted)
    assert [problem.reason for problem in verify(prompted, "quick")] == [words]


@pytest.mark.ffcv
@pytest.mark.parametrize("kind", ["prompted", "anchored"])
def test_ffcv_writes_the_same_bytes(originals: dict[str, Path], originals_by_ffcv: dict[str, Path], kind: str) -> None:
    for path in sorted(originals[kind].glob("*.beton")):
        assert path.read_bytes() == (originals_by_ffcv[kind] / path.name).read_bytes()


@pytest.mark.ffcv
def test_ffcv_reads_floats_and_knows_of_no_latent_that_is_not_stored(
    originals: dict[str, Path], expected: Callable[..., Any]
) -> None:
    from ffcv.fields.decoders import FloatDecoder, IntDecoder
    from ffcv.loader import Loader, OrderOption

    manifest = read_manifest(originals["prompted"])
    floats = {field["name"]: [FloatDecoder()] for field in manifest.float_fields}
    pipelines = dict.fromkeys(("anchor", "positive", "positive_1")) | floats | {"prompt": [IntDecoder()]}
    path = str(originals["prompted"] / "shard-00000.beton")
    loader = Loader(path, 3, num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    assert "z_anchor" not in loader.reader.handlers
    names = list(loader.reader.handlers)
    (batch,) = list(loader)
    found = dict(zip([name for name in names if pipelines.get(name, 1) is not None], batch, strict=True))
    for name in (*floats, "prompt"):
        wanted = [expected(manifest.fields, i)[name] for i in range(3)]
        assert np.asarray(found[name]).reshape(-1).tolist() == wanted, name


def unfinished(folder: Path) -> Path:
    """A set of version 2 as it is before its manifest is written."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "recipe.json").write_text(json.dumps(manifest["recipe"]))
    build = {"fields": manifest["fields"], "classes": manifest["classes"], "facts": {}}
    (folder / "build.json").write_text(json.dumps(build))
    (folder / "manifest.json").unlink()
    return folder


@pytest.mark.parametrize("kind", ["prompted", "anchored"])
def test_finish_describes_the_tables(copy_of: Callable[[str], Path], kind: str, known_latents: object) -> None:
    folder = copy_of(kind)
    before = read_manifest(folder)
    after = finish(unfinished(folder))
    assert (after.tables, after.id, after.schema_version) == (before.tables, before.id, 2)
    assert verify(folder, "full") == []


def test_finish_refuses_a_table_that_is_missing_or_another(prompted: Path) -> None:
    table = unfinished(prompted) / "prompts.jsonl"
    right = table.read_bytes()
    table.write_bytes(right + b'{"prompt":"one more"}\n')
    with pytest.raises(DatasetError, match=r"sha256 of prompts\.jsonl is .*, the recipe's prompts.sha256 is"):
        finish(prompted)
    table.unlink()
    with pytest.raises(DatasetError, match=r"prompts.jsonl: missing"):
        finish(prompted)
    assert not (prompted / "manifest.json").exists()
    table.write_bytes(right)
    assert finish(prompted).tables[0]["count"] == 4


def check_of_version_1(value: Any, where: str) -> None:
    """How check_manifest began in version 0.1.0 of the program, word for word."""
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {shown(value)}, wanted an object")
    version = value.get("schema_version")
    if type(version) is not int or version != 1:
        raise ManifestError(f"{where}: schema_version is {shown(version)}, this program reads {1}")


@pytest.mark.parametrize("kind", ["raw", "prompted", "anchored"])
def test_a_program_of_version_1_refuses_version_2_in_one_line(originals: dict[str, Path], kind: str) -> None:
    check_of_version_1(json.loads((VERSION_1 / "manifest.json").read_text()), "manifest.json")
    value = json.loads((originals[kind] / "manifest.json").read_text())
    with pytest.raises(ManifestError) as caught:
        check_of_version_1(value, "manifest.json")
    assert str(caught.value) == "manifest.json: schema_version is 2, this program reads 1"


def test_the_identity_of_a_set_without_new_features_is_what_it_was() -> None:
    manifest = read_manifest(VERSION_1)
    again = build_manifest(manifest.recipe, manifest.fields, manifest.classes, manifest.shards, manifest.build)
    assert (again.id, again.schema_version) == (manifest.id, 2)
    value = again.to_json()
    assert "tables" not in value
    assert digest_json({key: item for key, item in value.items() if key != "digest"}) == again.digest

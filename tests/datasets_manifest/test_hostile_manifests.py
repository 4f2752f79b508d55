"""read_manifest on strangers' files: every one is refused in one line, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest.manifest import (
    read_manifest,
)
from genrep.errors import ManifestError
from genrep.files import digest_json

HEX = "0123456789abcdef" * 4
Mutate = Callable[[dict[str, Any]], object]


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ManifestError, match=match) as caught:
        read_manifest(folder)
    assert str(caught.value).startswith(str(folder / "manifest.json"))
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\x93NUMPY", "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"[]", "wanted an object"),
        (b"null", "wanted an object"),
        (b'"' + b"x" * 10_000 + b'"', "wanted an object"),
        (b"{}", "schema_version is None, this program reads 1 and 2"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' appears twice"),
        (b'{"a": {"\\u001b": 1, "\\u001b": 3}}', r"the key '\\x1b' appears twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": Infinity}', "Infinity is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "the number '1e999' is too large"),
        (b'{"a": -1e999}', "the number '-1e999' is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"a": "\\ud800"}', "is not Unicode"),
        (b'{"\\udfff": 1}', "is not Unicode"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 32 levels"),
        (b"[" + b"{}," * 2_000_000 + b"{}]", "more than 2000000 objects"),
    ],
)
def test_hostile_text(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    refused(tmp_path, match)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "manifest.json", "wb") as file:
        file.truncate(1 << 40)
    refused(tmp_path, "1099511627776 bytes, wanted at most")


def test_missing_link_pipe_and_folder(folder: Path) -> None:
    path = folder / "manifest.json"
    path.rename(folder / "elsewhere.json")
    refused(folder, "manifest.json: missing")
    path.symlink_to("elsewhere.json")
    refused(folder, "symbolic link")
    path.unlink()
    os.mkfifo(path)
    refused(folder, "a folder or device")
    path.unlink()
    path.mkdir()
    refused(folder, "a folder or device")


def test_unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    refused(folder, "Permission denied")


def test_an_edited_manifest(folder: Path, rewrite: Callable[..., None]) -> None:
    rewrite(folder, lambda value: value["recipe"].update(seed=1), seal=False)
    refused(folder, "edited or damaged: its digest is [0-9a-f]{64}, it states [0-9a-f]{64}")


def test_a_wrong_id(folder: Path) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    value["id"] = HEX
    del value["digest"]
    path.write_text(json.dumps(value | {"digest": digest_json(value)}))
    refused(folder, "id is 0123.*, the recipe's digest is")


def put(*path: Any) -> Mutate:
    """``put("shards", 0, "count", -1)`` sets the value at a place."""
    *parents, key, value = path

    def mutate(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for name in parents:
            place = place[name]
        place[key] = value

    return mutate


def remove(*path: Any) -> Mutate:
    def mutate(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]

    return mutate


@pytest.mark.parametrize(
    ("mutate", "match"),
    [
        (put("schema_version", 3), "schema_version is 3, this program reads 1 and 2"),
        (put("schema_version", True), "schema_version is True"),
        (put("schema_version", 1.0), "schema_version is 1.0"),
        (put("schema_version", "1"), "schema_version is '1'"),
        (put("licence", "MIT"), "has the unknown key 'licence'"),
        (put("\x1b[2J", 1), r"unknown key '\\x1b\[2J'"),
        (remove("build"), "lacks the key 'build'"),
        (remove("classes"), "lacks the key 'classes'"),
        (remove("shards"), "lacks the key 'shards'"),
        (put("recipe", []), r"recipe is \[\], wanted an object"),
        (put("build", "x"), "build is 'x', wanted an object"),
        (put("classes", {}), "classes is {}, wanted a list"),
        (put("classes", ["a", 3]), r"classes\[1\] is 3, wanted a text"),
        (put("classes", [""]), r"classes\[0\] is '', wanted a text"),
        (put("fields", {}), "fields is {}, wanted a list"),
        (put("shards", {}), "shards is {}, wanted a list"),
        (put("shards", []), "0 shards"),
        (put("shards", 1, None), r"shards\[1\] is None, wanted an object"),
        # the recipe's numbers
        (remove("recipe", "seed"), "recipe lacks the key 'seed'"),
        (remove("recipe", "num_pairs"), "recipe lacks the key 'num_pairs'"),
        (put("recipe", "seed", -1), "recipe: seed is -1, wanted an integer from 0"),
        (put("recipe", "seed", 2**64), "recipe: seed is"),
        (put("recipe", "seed", 0.0), "recipe: seed is 0.0"),
        (put("recipe", "num_pairs", 0), "recipe: num_pairs is 0"),
        (put("recipe", "num_pairs", 7.0), "recipe: num_pairs is 7.0"),
        (put("recipe", "num_pairs", True), "recipe: num_pairs is True"),
        (put("recipe", "num_pairs", 6), "hold 7 pairs, the recipe's num_pairs is 6"),
        (put("recipe", "num_pairs", 2**63), "recipe: num_pairs is"),
        (put("recipe", "pairs_per_shard", 4), "count is 3, the recipe's pairs_per_shard is 4"),
        (put("recipe", "pairs_per_shard", 10**19), "recipe: pairs_per_shard is"),
        # shards
        (remove("shards", 0, "sha256"), r"shards\[0\] lacks the key 'sha256'"),
        (put("shards", 0, "count", -3), r"shards\[0\]: count is -3"),
        (put("shards", 0, "count", 0), r"shards\[0\]: count is 0"),
        (put("shards", 0, "count", True), r"shards\[0\]: count is True"),
        (put("shards", 0, "count", "3"), r"shards\[0\]: count is '3'"),
        (put("shards", 0, "count", 3.0), r"shards\[0\]: count is 3.0"),
        (put("shards", 0, "count", 2**63), r"shards\[0\]: count is 9223372036854775808"),
        (put("shards", 1, "count", 2), r"shards\[1\]: count is 2, the recipe's"),
        (put("shards", 2, "count", 4), r"shards\[2\]: count is 4, the recipe's"),
        (put("shards", 1, "first_index", 4), r"shards\[1\]: first_index is 4, wanted 3 \(a gap\)"),
        (put("shards", 1, "first_index", 2), r"shards\[1\]: first_index is 2, wanted 3 \(an overlap\)"),
        (put("shards", 0, "first_index", -1), r"shards\[0\]: first_index is -1"),
        (put("shards", 0, "bytes", 0), "bytes is 0"),
        (put("shards", 0, "bytes", -5), "bytes is -5"),
        (put("shards", 0, "bytes", 10**19), "bytes is"),
        (put("shards", 0, "sha256", HEX.upper()), "sha256 is"),
        (put("shards", 0, "sha256", HEX[:-1]), "sha256 is"),
        (put("shards", 0, "sha256", HEX + "\n"), "sha256 is"),
        (put("shards", 0, "sha256", None), "sha256 is None"),
        (put("shards", 0, "latents_sha256", "x" * 64), "latents_sha256 is"),
        # names
        *(
            (put("shards", 0, "name", name), r"shards\[0\]: name is .*wanted shard-NNNNN.beton")
            for name in (
                *("../shard-00000.beton", "/etc/passwd", "/shard-00000.beton", "a/shard-00000.beton", "..", ".", ""),
                *("shard-00000.beton/", "shard-00000.beton\n", "shard-00000.beton\0", "\x1b]0;x\x07", "shard-0.beton"),
                *(
                    "Shard-00000.beton",
                    "shard-00000.BETON",
                    "shard-000000.beton",
                    "shard-٠٠٠٠٠.beton",
                    "C:shard-00000.beton",
                ),
                *("..\\shard-00000.beton", "shard-00000.json", None, 0, ["shard-00000.beton"]),
            )
        ),
        (put("shards", 1, "name", "shard-00000.beton"), "shard-00000.beton appears twice"),
        (put("shards", 1, "name", "shard-00007.beton"), "name is shard-00007.beton, wanted shard-00001.beton"),
        # fields
        (put("fields", []), r"fields are \[\], wanted"),
        (lambda value: value.update(fields=value["fields"] * 200), "1200 fields, wanted at most 1000"),
        (put("fields", 0, "anchor"), r"fields\[0\] is 'anchor', wanted an object"),
        (put("fields", 0, "kind", "pickle"), "whose kind is one of"),
        (put("fields", 0, "kind", []), "whose kind is one of"),
        (put("fields", 0, "extra", 1), "unknown key 'extra'"),
        (remove("fields", 0, "encoding"), "lacks the key 'encoding'"),
        (put("fields", 0, "name", "Anchor"), "fields are"),
        (put("fields", 0, "name", "x" * 17), "at most 16 ASCII"),
        (put("fields", 0, "name", "anchör"), "at most 16 ASCII"),
        (put("fields", 0, "name", 3), "name is 3, wanted a text"),
        (put("fields", 1, "name", "anchor"), "fields are"),
        (put("fields", 1, "name", "positive_1"), "fields are"),
        (lambda value: value["fields"].reverse(), "fields are"),
        (remove("fields", 5), "fields are"),
        (remove("fields", 3), "fields are"),
        (remove("fields", 0), "fields are"),
        (put("fields", 5, {"name": "index", "kind": "float32", "shape": [1]}), "fields are"),
        (lambda value: value["fields"][4].update(name="z_anchor") or value["fields"][2].clear(), r"fields\[2\] is {}"),
        (put("fields", 0, "shape", [8, 8]), r"shape is \[8, 8\], wanted \[height, width, 3\]"),
        (put("fields", 0, "shape", [8, 8, 4]), "wanted .height, width, 3."),
        (put("fields", 0, "shape", [8, 8, 3.0]), "wanted .height, width, 3."),
        (put("fields", 0, "shape", [8, 8, [3]]), "wanted .height, width, 3."),
        (put("fields", 0, "shape", [0, 8, 3]), "shape is 0, wanted an integer from 1"),
        (put("fields", 0, "shape", [8, 65536, 3]), "shape is 65536"),
        (put("fields", 0, "shape", "883"), "shape is '883', wanted a list"),
        (put("fields", 1, "shape", [8, 9, 3]), "positive differs from anchor"),
        (put("fields", 1, "encoding", "jpeg:90"), "positive differs from anchor"),
        (put("fields", 0, "encoding", "jpeg:0"), "encoding is 'jpeg:0'"),
        (put("fields", 0, "encoding", "jpeg:101"), "encoding is 'jpeg:101'"),
        (put("fields", 0, "encoding", "jpeg"), "encoding is 'jpeg'"),
        (put("fields", 0, "encoding", "raw\n"), "encoding is"),
        (put("fields", 0, "encoding", None), "encoding is None"),
        (put("fields", 2, "shape", []), r"shape is \[\]"),
        (put("fields", 2, "shape", [1] * 33), "1 to 32 sizes"),
        (put("fields", 2, "shape", [1 << 20, 1 << 20]), "of a product"),
        (put("fields", 2, "shape", [-4]), "shape is -4"),
        (put("fields", 2, "shape", [True]), "shape is True"),
    ],
)
def test_hostile_manifests(folder: Path, rewrite: Callable[..., None], mutate: Mutate, match: str) -> None:
    rewrite(folder, mutate)
    refused(folder, match)


@pytest.mark.parametrize("key", ["id", "digest"])
@pytest.mark.parametrize("value", [None, 3, "", "x" * 64, HEX.upper()])
def test_hostile_digests(folder: Path, key: str, value: Any) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | {key: value}
    if key == "id":
        del manifest["digest"]
        manifest["digest"] = digest_json(manifest)
    path.write_text(json.dumps(manifest))
    refused(folder, f"{key} is .*wanted a sha256")


def test_flips_never_escape(folder: Path) -> None:
    rng = random.Random(4)
    path = folder / "manifest.json"
    whole, before = path.read_bytes(), read_manifest(folder)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            data[rng.randrange(len(data))] = rng.choice((rng.randrange(256), *b'0-9{}[]",:eE\\'))
        path.write_bytes(data)
        try:
            assert read_manifest(folder) == before  # a change of white space
        except ManifestError as error:
            assert "\n" not in str(error)

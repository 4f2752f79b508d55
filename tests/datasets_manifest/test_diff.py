"""diff: in what two datasets differ, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.recovery.compare import compare

Rewrite = Callable[..., None]
Capture = pytest.CaptureFixture[str]


def diff(capsys: Capture, *paths: Path, status: int) -> list[str]:
    assert invoke(cli.group, ["diff", *map(str, paths)]) == status
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_the_same(raw: Path, originals: dict[str, Path], capsys: Capture) -> None:
    expected = ["shards   2 of 2: the same bytes", "same"]
    assert diff(capsys, raw, originals["raw"], status=0) == expected
    assert diff(capsys, raw / "manifest.json", originals["raw"], status=0) == expected


def test_who_built_it_does_not_count(raw: Path, originals: dict[str, Path], rewrite: Rewrite, capsys: Capture) -> None:
    rewrite(raw, lambda value: value["build"].update(device="cuda", host="\x1b[2Jx"))
    rewrite(raw, lambda value: value["shards"][0].update(seconds=77))
    assert diff(capsys, originals["raw"], raw, status=0) == [
        "build    device: cpu | cuda",
        "build    host: null | '\\x1b[2Jx'",
        "shards   2 of 2: the same bytes",
        "same",
    ]


def test_recipes_and_classes(raw: Path, originals: dict[str, Path], rewrite: Rewrite, capsys: Capture) -> None:
    def mutate(value: dict[str, Any]) -> None:
        value["recipe"]["views"].update(std=0.3, name="uniform")
        value["recipe"]["seed"] = 9
        value["classes"] = ["cat"]

    rewrite(raw, mutate)
    assert diff(capsys, originals["raw"], raw, status=1) == [
        "recipe   seed: 0 | 9",
        "recipe   views.name: gaussian | uniform",
        "recipe   views.std: null | 0.3",
        'tables   classes: ["cat", "dog", "cow"] | ["cat"]',
        "shards   2 of 2: the same bytes",
        "different",
    ]


def test_shards(raw: Path, originals: dict[str, Path], rewrite: Rewrite, capsys: Capture) -> None:
    rewrite(raw, lambda value: value["shards"][0].update(sha256="0" * 64))
    rewrite(raw, lambda value: value["shards"][1].update(sha256="0" * 64, latents_sha256="0" * 64))
    assert diff(capsys, originals["raw"], raw, status=1) == [
        "shards   shard-00001.beton: other latents",
        "shards   1 of 2: the same latents, no fingerprints to compare images with",
        "shards   1 of 2: other content",
        "different",
    ]


def test_sets_of_other_sizes_as_json(originals: dict[str, Path], capsys: Capture) -> None:
    assert invoke(cli.group, ["diff", str(originals["raw"]), str(originals["real"]), "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["only"] == [1, 0] and value["same_bytes"] is False
    assert value["shards"] == [{"name": "shard-00000.beton", "level": "different", "reason": "other pairs"}]
    found = compare(read_manifest(originals["real"]), read_manifest(originals["raw"]))
    assert "shards   1 only in B" in list(found.lines())


def test_what_is_no_dataset(raw: Path, tmp_path: Path, capsys: Capture) -> None:
    assert invoke(cli.group, ["diff", str(raw), str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == f"Error: genrep-manifest: {tmp_path}/manifest.json: missing: not a dataset folder\n"
    )


def test_fields_and_tables_differ_by_name(
    prompted: Path, anchored: Path, originals: dict[str, Path], rewrite: Rewrite, capsys: Capture
) -> None:
    assert diff(capsys, prompted, originals["prompted"], status=0)[-1] == "same"
    lines = diff(capsys, prompted, anchored, status=1)
    assert 'tables   fields.noise_level: null | {"kind": "float"}' in lines
    assert "tables   fields.z_positive.stored: false | null" in lines
    assert any(line.startswith("tables   prompts.jsonl: {") and line.endswith(" | null") for line in lines)
    before = read_manifest(prompted).tables[0]["sha256"]

    def other_prompts(value: dict[str, Any]) -> None:
        value["tables"][0]["sha256"] = value["recipe"]["prompts"]["sha256"] = "ab" * 32

    rewrite(prompted, other_prompts)
    assert diff(capsys, originals["prompted"], prompted, status=1) == [
        f"recipe   prompts.sha256: {before[:57]}... | {'ab' * 28}a...",
        f"tables   prompts.jsonl.sha256: {before[:57]}... | {'ab' * 28}a...",
        "shards   2 of 2: the same bytes",
        "different",
    ]


def test_one_set_in_both_versions_is_the_same(
    originals: dict[str, Path], raw: Path, rewrite: Rewrite, capsys: Capture
) -> None:
    rewrite(raw, lambda value: value.update(schema_version=1))
    assert read_manifest(raw).digest != read_manifest(originals["raw"]).digest
    assert diff(capsys, originals["raw"], raw, status=0)[-1] == "same"

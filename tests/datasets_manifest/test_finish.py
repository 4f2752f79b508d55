"""finish on folders of strangers: what is no build of ours is refused in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.verify import verify

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def unfinished(raw: Path) -> Path:
    """Two shards of a build whose last step is missing."""
    manifest = read_manifest(raw)
    (raw / "manifest.json").unlink()
    (raw / "recipe.json").write_text(json.dumps(manifest.recipe))
    plan = {"fields": manifest.fields, "classes": manifest.classes, "facts": {"licence": "MIT"}}
    (raw / "build.json").write_text(json.dumps(plan))
    return raw


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_recipe_of_more_shards_than_there_can_be(unfinished: Path, capsys: Capture) -> None:
    edit(unfinished / "recipe.json", num_pairs=10**15, pairs_per_shard=1)
    assert invoke(cli.group, ["finish", str(unfinished)]) == 1
    assert capsys.readouterr().err == (
        f"Error: genrep-manifest: {unfinished / 'recipe.json'}: {10**15} pairs in shards of 1 are {10**15} shards, "
        "wanted at most 100000\n"
    )


@pytest.mark.parametrize("seconds", ["x", None, [1], True, {}])
def test_seconds_that_are_no_number_are_not_counted(unfinished: Path, capsys: Capture, seconds: Any) -> None:
    edit(unfinished / "shard-00000.json", seconds=seconds)
    assert invoke(cli.group, ["finish", str(unfinished)]) == 0, capsys.readouterr().err
    assert read_manifest(unfinished).build["seconds"] == 0.5  # of the other shard
    assert verify(unfinished, "full") == []

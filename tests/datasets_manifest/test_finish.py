"""finish on folders of strangers: what is no build of ours is refused in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.verify import verify
from genrep.look.sheets import Band, draw_sheet

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


def test_the_contact_sheet_shows_pairs_of_all_shards_and_their_classes(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import genrep.datasets_manifest.finish as module

    drawn: list[Band] = []
    monkeypatch.setattr(module, "draw_sheet", lambda bands: drawn.extend(bands) or draw_sheet(bands))
    edit(unfinished / "build.json", classes=["a\nb\u202e", "<b>", "x" * 300])
    module.finish(unfinished)
    dataset = list(datasets_manifest.open(unfinished))
    (band,) = drawn
    shown = [picture for row in band.rows for picture in row]
    assert len(shown) == 2 * len(dataset) == 10  # of two shards
    for i, pair in enumerate(dataset):
        np.testing.assert_array_equal(shown[2 * i], pair["anchor"])
        np.testing.assert_array_equal(shown[2 * i + 1], pair["positive"])
    words = [caption for row in band.captions for caption in row]
    assert all("\n" not in text and "\u202e" not in text and len(text) < 90 for text in words)
    for pair, text in zip(dataset, words):
        assert text.startswith(f"{pair['index']}: " if pair["label"] >= 0 else f"pair {pair['index']}")
    assert band.names[:2] == ["anchor", "positive"] and band.block == 2
    with Image.open(unfinished / "contact-sheet.png") as sheet:
        assert sheet.height > 96

"""finish on folders of strangers: what is no build of ours is refused in one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.finish import finish
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError
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


def test_a_sheet_is_captioned_by_prompts_or_names_of_real_anchors(
    copy_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from genrep.datasets_manifest import finish as finishing

    seen: list[Any] = []
    monkeypatch.setattr(finishing, "draw_sheet", lambda bands: seen.extend(bands) or np.zeros((1, 1, 3), np.uint8))
    for kind in ("prompted", "anchored", "raw"):
        folder = copy_of(kind)
        manifest = read_manifest(folder)
        finishing.write_contact_sheet(folder, manifest.fields, manifest.classes, manifest.shards, manifest.tables)
    captions = [[text for row in band.captions for text in row] for band in seen]
    assert captions[0] == ["0: a cow", "1: a cat", '2: a "dog" \\ & <b>coyee</b>', "3: ein Hund, ? ?", "4: a cow"]
    assert captions[1] == [
        "0: train/0.jpg",
        "1: train/u <b>.jpg",
        "2: train/2.jpg",
        "3: train/0.jpg",
        "4: train/u <b>.jpg",
    ]
    assert [band.names[0] for band in seen] == ["anchor", "real anchor", "anchor"]
    assert captions[2][1] == "1: cat"


def test_a_row_that_no_table_has_is_told_while_the_sheet_is_made(prompted: Path, patch_of: Any) -> None:
    patch = patch_of(prompted)
    patch.records["prompt"][1] = 9
    patch.path.write_bytes(patch.data)
    manifest = read_manifest(prompted)
    (prompted / "manifest.json").unlink()
    (prompted / "recipe.json").write_text(json.dumps(manifest.recipe))
    build = {"fields": manifest.fields, "classes": manifest.classes, "facts": {}}
    (prompted / "build.json").write_text(json.dumps(build))
    with pytest.raises(DatasetError, match=r"shard-00000\.beton: sample 1 has prompt 9, wanted 0 to 3"):
        finish(prompted)

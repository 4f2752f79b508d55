"""``source``: datasets beside real images, of which one is a copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_dataset import picture, write_drawn
from PIL import Image

from genrep.cli import invoke
from genrep.errors import ConfigError, DataError
from genrep.papers.cli import group
from genrep.papers.source import measure as module
from genrep.papers.source.config import SourceConfig
from genrep.papers.source.measure import chosen, copy_threshold, figures, measure_sources

COUNT = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write_beton: Callable[..., None]) -> tuple[Path, Path]:
    """A dataset, and an image folder whose training images are its anchors; the test images are noise."""
    folder = tmp_path_factory.mktemp("source")
    shards = write_drawn(write_beton, folder / "shards", count=COUNT)
    noise = np.random.RandomState(0)
    for split in ("train", "test"):
        for index in range(COUNT):
            image = picture(index, 0, 16) if split == "train" else noise.randint(0, 256, (16, 16, 3)).astype(np.uint8)
            path = folder / "real" / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return shards, folder / "real"


@pytest.fixture
def given(folders: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    shards, real = folders
    encoder = {"random_init": True, "arch": "resnet18:width=8", "stem": "cifar"}
    return {"sources": (shards,), "real": str(real), "out": tmp_path / "out", "device": "cpu", **encoder}


def test_a_dataset_of_the_training_images_is_found_to_be_copies(given: dict[str, Any]) -> None:
    result = measure_sources(SourceConfig(**given))
    (copied, held_out) = result.rows.values()
    assert result.protocol["images"] == COUNT
    assert copied["frechet"] == pytest.approx(0, abs=1e-6) and held_out["frechet"] > 0.01
    assert copied["precision"] == copied["recall"] == copied["coverage"] == 1.0
    assert copied["near_real"] == 1.0 and held_out["near_real"] == 0.0
    assert 1 < copied["vendi"] < COUNT
    assert json.loads(result.json.read_text())["rows"] == result.rows
    lines = result.markdown.read_text().splitlines()
    assert lines[-2].startswith(f"| {given['sources'][0]} | ") and lines[-2].endswith(" 100.00 % |")
    assert lines[-1].startswith("| real, test images | ")


def test_the_same_call_computes_no_features_again_and_batches_change_nothing(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure_sources(SourceConfig(**given, images=15))
    other = measure_sources(SourceConfig(**{**given, "cache": False}, images=15, feature_batch=4))
    for name, row in other.rows.items():
        assert row == pytest.approx(first.rows[name], rel=1e-4, abs=1e-6)
    before = first.json.read_bytes()
    monkeypatch.setattr(module, "feature_batches", lambda *_, **__: pytest.fail("computed again"))
    measure_sources(SourceConfig(**given, images=15))
    assert first.json.read_bytes() == before


def test_the_images_are_a_function_of_the_seed() -> None:
    assert chosen(100, 10, 0).tolist() == chosen(100, 10, 0).tolist() != chosen(100, 10, 1).tolist()
    assert chosen(10, 10, 0).tolist() == list(range(10))


def test_near_duplicates_are_counted_by_the_distances_of_real_images() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 4, generator=generator)
    threshold = copy_threshold(real[:100], real)
    own = torch.cdist(real[:100].double(), real.double())
    assert threshold == pytest.approx(float(own.sort(dim=1).values[:, 1].quantile(0.01)), rel=1e-6)
    found = torch.randn(100, 4, generator=generator) + 50
    found[90:] = found[:10] + threshold / 100
    row = figures(real[:100], real, found, threshold)
    assert row["near_duplicates"] == pytest.approx(0.2, abs=0.011) and row["near_real"] == 0
    assert 90 < row["median_to_real"] < 110


def test_what_cannot_be_measured_is_said(
    given: dict[str, Any], tmp_path: Path, write_beton: Callable[..., None]
) -> None:
    with pytest.raises(ConfigError, match="each of them once"):
        SourceConfig(**{**given, "sources": given["sources"] * 2})
    small = write_drawn(write_beton, tmp_path / "small", size=8, count=COUNT)
    with pytest.raises(DataError, match="images of 8x8 pixels where others have 16x16; give size to resize them"):
        measure_sources(SourceConfig(**{**given, "sources": (small,)}))
    assert measure_sources(SourceConfig(**{**given, "sources": (small,)}, size=12)).protocol["images"] == COUNT
    with pytest.raises(DataError, match="neither a folder nor one of"):
        measure_sources(SourceConfig(**{**given, "real": "fashion"}))


def test_the_command_prints_the_table(given: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(given["sources"][0]), "--real", given["real"], "--out", str(given["out"]), "--device", "cpu"]
    assert invoke(group, ["source", *words, "--random-init", "--arch", "resnet18:width=8", "--stem", "cifar"]) == 0
    printed = capsys.readouterr().out
    assert "Fréchet distance" in printed and "source.md" in printed

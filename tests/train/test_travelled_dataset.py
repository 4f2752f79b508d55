"""A dataset that was pushed and pulled trains to the same curve, and a part of it only when told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest.transport import PullConfig, PushConfig, pull, push
from genrep.errors import DatasetError
from genrep.generate import BuildConfig, build_dataset
from genrep.train import TrainConfig, train


def curve(data: Path, out: Path, **options: Any) -> list[tuple[Any, ...]]:
    train(
        TrainConfig(data=data, out=out, batch_size=16, epochs=1, device="cpu", precision="fp32", log_every=1, **options)
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["uniformity"]) for line in lines]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "shards"
    build_dataset(BuildConfig(num_pairs=64, shard_size="16", out=folder, views="gaussian:std=.2", processes=1))
    return folder


@pytest.mark.slow
def test_pushed_pulled_and_trained_on_it_gives_the_same_curve(built: Path, tmp_path: Path) -> None:
    push(PushConfig(folder=built, target=str(tmp_path / "published")))
    pull(PullConfig(source=str(tmp_path / "published"), out=tmp_path / "elsewhere" / "pulled"))
    original = curve(built, tmp_path / "a")
    assert len(original) == 4
    assert curve(tmp_path / "elsewhere" / "pulled", tmp_path / "b") == original


@pytest.mark.slow
def test_a_part_is_taken_only_when_told_so(built: Path, tmp_path: Path) -> None:
    pull(PullConfig(source=str(built), out=tmp_path / "part", shards=(0, 1)))
    with pytest.raises(DatasetError, match=r"shard-00002.beton, shard-00003.beton missing"):
        curve(tmp_path / "part", tmp_path / "a")
    assert len(curve(tmp_path / "part", tmp_path / "b", partial=True)) == 2

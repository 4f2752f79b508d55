"""verify --regenerate: pairs that are made again are what the shards hold, or not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.across import RegenerationConfig
from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.recovery.examine import SampleConfig, SampleReport, compare_sample
from genrep.errors import DatasetError

Patch = Callable[..., Any]


def sample(folder: Path, count: int, seed: int | None = 0, **making: Any) -> SampleReport:
    return compare_sample(SampleConfig(folder=folder, count=count, seed=seed, making=RegenerationConfig(**making)))


def test_a_good_set(fashion: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", str(fashion), "--level", "full", "--regenerate", "5", "--sample-seed", "3"]
    assert invoke(cli.group, command) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == (
        "made again 5 pairs (--sample-seed 3): latents and labels are the same, 10 of 10 images are the same bytes"
    )
    assert out[1].startswith("OK ")


def test_pairs_that_cannot_be_made_again_are_reported(
    fashion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    command = ["verify", str(fashion), "--level", "full", "--regenerate", "2", "--gen", "nosuch"]
    assert invoke(cli.group, [*command, "--report", str(report)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    value = json.loads(report.read_text())
    assert (value["ok"], value["sample"], value["signer"]) == (False, None, None)
    (problem,) = value["problems"]
    assert problem["shard"] is None and "nosuch" in problem["reason"]
    assert f"Error: genrep-manifest: {problem['reason']}\n" == err


def test_the_sample_is_the_seeds_and_reaches_every_pair(fashion: Path) -> None:
    whole = sample(fashion, 10**6)
    assert whole.indices == list(range(20)) and whole.problems == []
    some = sample(fashion, 6, seed=1)
    assert some.indices == sample(fashion, 6, seed=1).indices == sorted(set(some.indices))
    assert len(some.indices) == 6 and some.indices != sample(fashion, 6, seed=2).indices
    assert len({sample(fashion, 3, seed=None).seed for _ in range(3)}) == 3


def test_batches_of_another_size_are_within_rounding(fashion: Path) -> None:
    found = sample(fashion, 20, batch_size=1)
    assert found.problems == [] and found.largest <= 2 and found.images == 40


def test_other_images_latents_and_labels_are_named(fashion: Path, patch_of: Patch) -> None:
    patch = patch_of(fashion, 1)
    records = patch.records
    first, second = int(records["anchor"]["data_ptr"][2]), int(records["anchor"]["data_ptr"][5])
    size = 32 * 32 * 3
    patch.data[first : first + size], patch.data[second : second + size] = (
        patch.data[second : second + size],
        patch.data[first : first + size],
    )
    latent = int(records["z_positive"][3])
    patch.data[latent] ^= 1
    os.chmod(patch.path, 0o644)
    patch.path.write_bytes(patch.data)
    found = [str(problem) for problem in sample(fashion, 20).problems]
    assert [line.split(" differs")[0] for line in found] == [
        "shard-00001.beton: pair 10 made again: anchor",
        "shard-00001.beton: pair 11 made again: z_positive",
        "shard-00001.beton: pair 13 made again: anchor",
    ]


def test_jpeg_and_classes_and_several_positives(tmp_path: Path) -> None:
    from genrep.generate import BuildConfig, build_dataset

    build_dataset(
        BuildConfig(
            gen="stylegan2_fashion_cond",
            out=tmp_path / "cond",
            num_pairs=5,
            shard_size="5",
            num_positives=2,
            classes="3,1",
            encoding="jpeg:90:444",
            processes=1,
            device="cpu",
        )
    )
    found = sample(tmp_path / "cond", 5)
    assert found.problems == [] and found.images == 15 == found.identical_images
    assert sample(tmp_path / "cond", 5, batch_size=1).problems == []


def test_a_part_is_asked_for_what_it_has(fashion: Path, tmp_path: Path) -> None:
    (fashion / "shard-00001.beton").unlink()
    assert sample(fashion, 100).indices == [*range(8), *range(16, 20)]
    for shard in read_manifest(fashion).shards:
        (fashion / shard.name).unlink(missing_ok=True)
    with pytest.raises(DatasetError, match="there are no shards here"):
        sample(fashion, 1)
    shutil.rmtree(fashion)

"""FFCV's own Loader on our shards, with the pipelines that genrep.train hands out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_dataset import write_drawn
from PIL import Image

from genrep import datasets_manifest
from genrep.errors import DatasetError
from genrep.train import PairLoader, ffcv_pipelines

MakeDataset = Callable[..., Path]
PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "ffcv.md").read_text()
interoperation = pytest.mark.ffcv


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """FFCV's loader changes them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def read(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    """Everything of a dataset's shards, by FFCV."""
    from ffcv.loader import Loader, OrderOption

    found: dict[str, list[torch.Tensor]] = {}
    for path in sorted(folder.glob("*.beton")):
        pipelines = ffcv_pipelines(folder, **options)
        settings = {"batch_size": 5, "num_workers": 1, "order": OrderOption.SEQUENTIAL, "drop_last": False}
        for batch in Loader(str(path), pipelines=pipelines, **settings):
            names = [name for name, pipeline in pipelines.items() if pipeline is not None]
            for name, values in zip(names, batch, strict=True):
                found.setdefault(name, []).append(values.clone())
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.slow
@interoperation
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"encoding": "jpeg:95", "size": 24, "positives": 2}], ids=str)
def test_values_and_shapes_are_the_pair_loaders(dataset: MakeDataset, options: dict[str, Any]) -> None:
    folder = dataset(**options, count=11, per_shard=11)  # the last batch has one sample
    theirs = read(folder)
    (ours,) = PairLoader(folder, batch_size=11)
    order = ours["index"].argsort()
    assert list(theirs) == list(ours)
    for name, values in ours.items():
        assert (theirs[name].shape, theirs[name].dtype) == (values.shape, values.dtype), name
        difference = (theirs[name].double() - values[order].double()).abs().max()
        assert difference <= (24 if options and values.dtype == torch.uint8 else 0), name


@pytest.mark.slow
@interoperation
@pytest.mark.filterwarnings("ignore")
def test_images_that_vary_are_brought_to_a_size(tmp_path: Path) -> None:
    from genrep.generate.build.from_folder import FolderConfig, build_from_folder

    (tmp_path / "photos").mkdir()
    for k, size in enumerate([(40, 60), (90, 50), (64, 64)]):
        Image.fromarray(np.full((*size, 3), 60 * k, np.uint8)).save(tmp_path / f"photos/{k}.png")
    folder = tmp_path / "out"
    build_from_folder(FolderConfig(data=str(tmp_path / "photos"), out=folder, processes=1, shorter_side=64))
    images = read(folder, fields=("anchor",), size=(16, 24))["anchor"]
    assert images.shape == (3, 16, 24, 3)
    assert sorted(images[:, 8, 8, 0].tolist()) == [0, 60, 120]
    with pytest.raises(DatasetError, match="vary in size, up to 90 x 64; give size="):
        ffcv_pipelines(folder)


@pytest.mark.slow
@interoperation
@pytest.mark.filterwarnings("ignore")
def test_the_example_of_the_documentation_runs(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "ffcv_pipelines" in text]
    (tmp_path / "shards").symlink_to(dataset(count=16))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/howto/ffcv.md", "exec"), {})
    shapes = capsys.readouterr().out.splitlines()
    assert shapes == ["torch.Size([8, 16, 16, 3]) torch.Size([8])"] * 2


@interoperation
@pytest.mark.filterwarnings("ignore")
def test_what_ffcv_would_trust_is_checked(dataset: MakeDataset, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for path in dataset().iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[: -1 if path.name == "shard-00001.beton" else None])
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: truncated|shard-00001\.beton: .* tables end"):
        ffcv_pipelines(folder)
    with pytest.raises(DatasetError, match=r"no field 'ancor'; it has .*anchor"):
        ffcv_pipelines(dataset(), fields=["ancor"])


@pytest.mark.slow
@interoperation
@pytest.mark.filterwarnings("ignore")
def test_fields_of_version_2_are_the_pair_loaders_but_for_what_no_file_holds(
    write_beton: Callable[..., None], tmp_path: Path
) -> None:
    options = {"positives": 2, "floats": ["strength", "weight"], "prompts": 3, "sources": True}
    folder = write_drawn(write_beton, tmp_path / "made", stored=False, count=11, per_shard=11, **options)
    theirs = read(folder)
    (ours,) = PairLoader(folder, batch_size=11)
    order = ours["index"].argsort()
    assert list(theirs) == [name for name in ours if not name.startswith("z_")]
    for name, values in theirs.items():
        assert values.dtype == ours[name].dtype and torch.equal(values, ours[name][order]), name
    with pytest.raises(DatasetError, match="the field 'z_anchor' is not stored; PairLoader makes it again"):
        ffcv_pipelines(folder, fields=["z_anchor"])
    shaped = write_drawn(write_beton, tmp_path / "stored", count=11, per_shard=11)
    assert read(shaped, fields=("z_anchor",))["z_anchor"].shape == (11, 2, 3, 4)


def test_without_ffcv_the_error_says_what_needs_none(dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ffcv.fields.decoders", None)
    with pytest.raises(DatasetError, match=r"FFCV's Loader needs ffcv .*PairLoader reads the same shards") as caught:
        ffcv_pipelines(dataset())
    assert "\n" not in str(caught.value)
    assert len(datasets_manifest.open(dataset())) == 40

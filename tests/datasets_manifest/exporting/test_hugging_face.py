"""``load_dataset`` of each export: the samples and nothing else, whichever way the folder is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep import datasets_manifest
from genrep.datasets_manifest.exporting import ExportReport

datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed (extra test)")
Run = Callable[..., tuple[Path, ExportReport]]
BUILDERS = {"webdataset": "webdataset", "folder": "imagefolder", "parquet": "parquet"}
pytestmark = pytest.mark.filterwarnings("ignore")  # of its own


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("by_builder", [False, True], ids=["folder alone", "named builder"])
def test_load_dataset_gives_the_samples(
    originals: dict[str, Path], run: Run, tmp_path: Path, kind: str, encoding: str, by_builder: bool
) -> None:
    out, _ = run(originals[encoding], kind, 2)
    cache: dict[str, Any] = {"cache_dir": str(tmp_path / "cache")}
    if by_builder:
        found = datasets.load_dataset(BUILDERS[kind], data_dir=str(out), **cache)
    else:
        found = datasets.load_dataset(str(out), **cache)
    assert list(found) == ["train"]
    pairs = datasets_manifest.open(originals[encoding])
    ending = {"raw": "png", "jpeg": "jpg"}[encoding]
    names = {field["name"]: field["name"] for field in pairs.manifest.image_fields}
    if kind == "webdataset":
        names = {name: f"{name}.{ending}" for name in names}
    rows = list(found["train"])
    assert len(rows) == len(pairs)
    for row, pair in zip(rows, pairs, strict=True):
        for name, column in names.items():
            np.testing.assert_array_equal(np.asarray(row[column]), pair[name])
        facts = row["json"] if kind == "webdataset" else row
        assert (facts["index"], facts["label"]) == (pair["index"], pair["label"])
        if kind != "folder":
            latent = row["z_anchor.npy" if kind == "webdataset" else "z_anchor"]
            np.testing.assert_array_equal(np.asarray(latent, dtype=np.float32), pair["z_anchor"])


def test_the_record_of_an_export_of_an_earlier_version_is_hidden(originals: dict[str, Path], run: Run) -> None:
    out, _ = run(originals["raw"], "webdataset", 2)
    (out / ".export.json").rename(out / "export.json")
    _, report = run(originals["raw"], "webdataset", 2)
    assert report.written_pairs == 0
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".tar") == [".export.json"]

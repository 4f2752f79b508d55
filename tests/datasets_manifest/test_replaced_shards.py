"""A shard that is replaced after it was verified: what was checked is what is read, or it is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep import datasets_manifest
from genrep.datasets_manifest import require_valid
from genrep.errors import DatasetError

Patch = Callable[..., Any]


def readers(folder: Path) -> list[Callable[[], object]]:
    """All that read a dataset, as they would begin after a verification."""
    from genrep.train.data.shards import Shards

    return [lambda: Shards(folder), lambda: datasets_manifest.open(folder)[0]]


@pytest.mark.parametrize("attack", ["pointer", "overlap", "truncated", "longer", "link", "pipe", "gone", "folder"])
def test_a_replacement_that_would_not_have_passed_is_refused(raw: Path, patch_of: Patch, attack: str) -> None:
    require_valid(raw, "bytes")
    path, patch = raw / "shard-00000.beton", patch_of(raw)
    if attack == "pointer":
        patch.records["z_anchor"][0] = 1 << 62
        patch.table["ptr"][0] = 1 << 62
    elif attack == "overlap":
        patch.records["anchor"]["data_ptr"][1] = patch.records["anchor"]["data_ptr"][0]
    data = bytes(patch.data)
    path.unlink()
    if attack == "truncated":
        path.write_bytes(data[:-1])
    elif attack == "longer":
        path.write_bytes(data + bytes(24))
    elif attack == "link":
        (raw.parent / "elsewhere").write_bytes(data)
        path.symlink_to(raw.parent / "elsewhere")
    elif attack == "pipe":
        os.mkfifo(path)
    elif attack == "folder":
        path.mkdir()
    elif attack != "gone":
        path.write_bytes(data)
    for read in readers(raw):
        with pytest.raises(DatasetError, match=r"shard-00000\.beton") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_replacement_after_it_was_opened_is_not_seen(raw: Path, originals: dict[str, Path]) -> None:
    dataset, whole = datasets_manifest.open(raw), datasets_manifest.open(originals["raw"])
    first = dataset[0]["anchor"]
    other = raw.parent / "other"
    other.write_bytes(bytes(100))
    os.replace(other, raw / "shard-00000.beton")
    for i in range(3):
        assert np.array_equal(dataset[i]["anchor"], whole[i]["anchor"])
    assert np.array_equal(first, whole[0]["anchor"])


def test_a_shard_that_is_cut_after_it_was_opened_is_refused(raw: Path) -> None:
    dataset = datasets_manifest.open(raw)
    dataset[0]
    os.truncate(raw / "shard-00000.beton", 1000)
    with pytest.raises(DatasetError, match=r"shard-00000\.beton: sample 1: truncated inside anchor"):
        dataset[1]


def test_a_manifest_that_is_replaced_while_it_is_verified_changes_nothing(
    raw: Path, originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from genrep.datasets_manifest import verify as module

    real = module.open_shard

    def replacing(folder: Path, *rest: Any) -> Any:
        shutil.copy(originals["real"] / "manifest.json", folder / "manifest.json")
        return real(folder, *rest)

    monkeypatch.setattr(module, "open_shard", replacing)
    assert module.verify(raw) == []

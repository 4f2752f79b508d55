"""Several sets as one, sets of which a part is here, folders of images, several positives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.errors import DataError, DatasetError, ManifestError, ResumeError
from genrep.train import PairLoader
from genrep.train.data.sets import open_sets

MakeDataset = Callable[..., Path]


def by_index(loader: PairLoader) -> dict[int, dict[str, torch.Tensor]]:
    found: dict[int, dict[str, torch.Tensor]] = {}
    for batch in loader:
        for i, index in enumerate(batch["index"].tolist()):
            assert index not in found
            found[index] = {name: values[i] for name, values in batch.items()}
    return found


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], *but: str) -> None:
    assert a.keys() == b.keys()
    for name in a.keys() - set(but):
        assert torch.equal(a[name], b[name]), name


@pytest.mark.slow
def test_several_datasets_are_one(dataset: MakeDataset) -> None:
    folders = [dataset(), dataset(count=10, per_shard=3), dataset(encoding="jpeg:95", per_shard=8)]
    together = by_index(PairLoader(folders, batch_size=7, seed=1, workers=2))
    assert sorted(together) == list(range(40 + 10 + 40))
    start = 0
    for folder in folders:
        alone = by_index(PairLoader(folder, batch_size=9))
        for index, sample in alone.items():
            assert_same(together[start + index], sample, "index")
        start += len(alone)


def test_several_datasets_mix_in_one_order_and_resume(dataset: MakeDataset) -> None:
    folders = [dataset(), dataset(count=10, per_shard=3)]
    loader = PairLoader(folders, batch_size=10, fields=("index",))
    first = next(iter(loader))["index"].tolist()
    order = loader.order(0)
    assert first == order[:10].tolist()
    assert len(set(order[:25] < 40)) == 2
    again = PairLoader(folders, batch_size=10, fields=("index",))
    again.load_state_dict(loader.state_dict())
    assert [i for batch in again for i in batch["index"].tolist()] == order[10:].tolist()
    with pytest.raises(ResumeError, match="dataset_id"):
        PairLoader(folders[::-1], batch_size=10).load_state_dict(loader.state_dict())


def test_images_of_other_sizes_are_refused_in_one_line(dataset: MakeDataset) -> None:
    with pytest.raises(DatasetError, match=r"images of 24 x 24, those of .* are 16 x 16$"):
        PairLoader([dataset(), dataset(encoding="jpeg:95", size=24)], batch_size=4)


def test_a_set_without_positives_among_others_gives_its_anchors(dataset: MakeDataset) -> None:
    folders = [dataset(), dataset(positives=0, latents=False)]
    loader = PairLoader(folders, batch_size=8)
    assert loader.fields == ("anchor", "positive", "label", "index")
    for index, sample in by_index(loader).items():
        assert torch.equal(sample["anchor"], sample["positive"]) == (index >= 40)
    with pytest.raises(DatasetError, match=r"has no field 'z_anchor'; it has anchor, label, index"):
        PairLoader(folders, batch_size=8, fields=("z_anchor",))


def without(folder: Path, to: Path, *shards: int) -> Path:
    shutil.copytree(folder, to)
    for k in shards:
        (to / f"shard-{k:05}.beton").unlink()
    return to


def test_a_partial_dataset_only_if_told(dataset: MakeDataset, tmp_path: Path) -> None:
    part = without(dataset(), tmp_path / "part", 1)
    with pytest.raises(
        DatasetError, match=r"part: shard-00001\.beton missing of 3 shards; wanted all, or partial to read"
    ):
        PairLoader(part, batch_size=4)
    loader = PairLoader(part, batch_size=4, partial=True)
    whole = by_index(PairLoader(dataset(), batch_size=4))
    found = by_index(loader)
    assert sorted(found) == [*range(16), *range(32, 40)]
    for index, sample in found.items():
        assert_same(sample, whole[index])
    second = PairLoader([part, dataset()], batch_size=4, partial=True, fields=("index",))
    assert sorted(by_index(second)) == [*range(16), *range(32, 80)]
    with pytest.raises(ResumeError, match="dataset_id"):
        PairLoader(dataset(), batch_size=4).load_state_dict(loader.state_dict())
    last = PairLoader(without(dataset(), tmp_path / "last", 0, 1), batch_size=4, partial=True)
    assert sorted(by_index(last)) == [*range(32, 40)]
    with pytest.raises(DatasetError, match="not one of its 3 shards is here"):
        PairLoader(without(dataset(), tmp_path / "none", 0, 1, 2), batch_size=4, partial=True)


def test_a_damaged_shard_of_a_partial_dataset_is_refused(dataset: MakeDataset, tmp_path: Path) -> None:
    part = without(dataset(), tmp_path / "part", 1)
    shard = part / "shard-00002.beton"
    shard.write_bytes(shard.read_bytes()[:-24])
    with pytest.raises(DatasetError, match=r"shard-00002\.beton: truncated"):
        PairLoader(part, batch_size=4, partial=True)


def test_all_positives_are_stacked(dataset: MakeDataset) -> None:
    each = by_index(PairLoader(dataset(positives=3), batch_size=8))
    stacked = by_index(PairLoader(dataset(positives=3), batch_size=8, positive="all", workers=2))
    for index, sample in stacked.items():
        assert sample.keys() == {"anchor", "positive", "z_anchor", "z_positive", "label", "index"}
        for name in ("positive", "z_positive"):
            wanted = torch.stack([each[index][name], each[index][f"{name}_1"], each[index][f"{name}_2"]])
            assert torch.equal(sample[name], wanted)
    single = next(iter(PairLoader(dataset(), batch_size=8, positive="all")))
    assert single["positive"].shape == (8, 1, 16, 16, 3)
    jpegs = next(iter(PairLoader(dataset(encoding="jpeg:95", size=24, positives=3), batch_size=8, positive="all")))
    assert jpegs["positive"].shape == (8, 3, 24, 24, 3)


def test_stored_and_anchor_leave_the_other_positives_out(dataset: MakeDataset) -> None:
    each = by_index(PairLoader(dataset(positives=3), batch_size=8))
    loader = PairLoader(dataset(positives=3), batch_size=8, positive="stored")
    assert loader.fields == ("anchor", "positive", "z_anchor", "z_positive", "label", "index")
    assert all(torch.equal(sample["positive"], each[i]["positive"]) for i, sample in by_index(loader).items())
    assert PairLoader(dataset(positives=3), batch_size=8, positive="anchor").fields == (
        *("anchor", "z_anchor", "label", "index"),
    )
    with pytest.raises(ValueError, match="positive 'both': wanted one of stored, random, all, anchor"):
        PairLoader(dataset(), batch_size=8, positive="both")
    with pytest.raises(ValueError, match="positive='anchor': the field 'positive' is not read"):
        PairLoader(dataset(), batch_size=8, positive="anchor", fields=("anchor", "positive"))
    with pytest.raises(DatasetError, match=r"1 positives per anchor, another set has 3; positive='all' requires"):
        PairLoader([dataset(), dataset(positives=3)], batch_size=8, positive="all", fields=("positive",))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of several sizes, in two classes."""
    folder = tmp_path / "photos" / "train"
    for k, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            pixels = np.random.RandomState(10 * k + i).randint(0, 256, size=(20 + 3 * i, 31 - i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.{'png' if i % 2 else 'JPEG'}")
    (folder / "dog" / "notes.txt").write_text("no image")
    return folder.parent


@pytest.mark.parametrize("size", [8, (12, 24)])
def test_an_image_folder_gives_what_its_conversion_gives(photos: Path, tmp_path: Path, size: Any) -> None:
    from genrep.generate.build.from_folder import FolderConfig, build_from_folder

    height, width = (size, size) if isinstance(size, int) else size
    config = FolderConfig(
        data=str(photos), out=tmp_path / "shards", size=f"{height}x{width}", encoding="raw", processes=1
    )
    build_from_folder(config)
    loader = PairLoader(photos, batch_size=3, size=size, workers=2)
    assert loader.sets.classes == ("cat", "dog")
    found, wanted = by_index(loader), by_index(PairLoader(tmp_path / "shards", batch_size=3))
    assert sorted(found) == list(range(10))
    for index, sample in found.items():
        assert_same(sample, wanted[index])


def test_an_image_folder_beside_shards_takes_their_size(photos: Path, dataset: MakeDataset) -> None:
    loader = PairLoader([dataset(), photos], batch_size=8)
    assert loader.fields == ("anchor", "positive", "label", "index")
    found = by_index(loader)
    assert len(found) == 50
    assert found[49]["anchor"].shape == (16, 16, 3)
    assert loader.sets.classes == ("a", "b", "c", "cat", "dog")
    assert [int(found[index]["label"]) for index in (40, 44, 45, 49)] == [3, 3, 4, 4]
    with pytest.raises(DatasetError, match=r"default: images of 16 x 16, wanted 32 x 32$"):
        PairLoader([dataset(), photos], batch_size=8, size=32)


def test_photos_of_several_sizes_want_a_size(photos: Path) -> None:
    with pytest.raises(DatasetError, match=r"photos/train: images of several sizes: give a size, or crops"):
        PairLoader(photos, batch_size=8)


def test_an_unreadable_photo_is_named(photos: Path) -> None:
    (photos / "train" / "cat" / "3.png").write_bytes(b"\x89PNG but not really")
    with pytest.raises(DataError, match=r"cat/3\.png: not a readable image"):
        list(PairLoader(photos, batch_size=8, size=8))


def test_bare_images_have_no_label_and_an_empty_class_is_named(photos: Path, tmp_path: Path) -> None:
    batch = next(iter(PairLoader(photos / "train" / "cat", batch_size=5, size=8)))
    assert batch["label"].tolist() == [-1] * 5
    (photos / "train" / "eel").mkdir()
    with pytest.raises(DataError, match="eel: no images"):
        PairLoader(photos, batch_size=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="empty: an empty folder; wanted a dataset, or a folder of images"):
        PairLoader(tmp_path / "empty", batch_size=5)


def test_opened_sets_can_be_given(dataset: MakeDataset) -> None:
    sets = open_sets([dataset(), dataset(count=10, per_shard=3)])
    assert (len(sets), sets.shape, sets.num_positives, sets.classes) == (50, (16, 16, 3), 1, ("a", "b", "c"))
    assert len(PairLoader(sets, batch_size=5)) == 10
    with pytest.raises(ValueError, match="no path given"):
        open_sets([])


def test_a_folder_that_is_missing_or_empty_is_told_what_would_do(tmp_path: Path) -> None:
    for folder, what in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "an empty folder")):
        with pytest.raises(DatasetError, match=f"^{folder}: {what}; wanted a dataset, or a folder of images$"):
            open_sets(folder)

"""PairLoader: FFCV's own values, every index once, a cursor that resumes, tensors that nobody overwrites."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genrep import datasets_manifest
from genrep.datasets_manifest import Beton, read_manifest
from genrep.errors import DatasetError, ManifestError, ResumeError
from genrep.train import PairLoader

MakeDataset = Callable[..., Path]


def indices(loader: PairLoader) -> list[int]:
    return torch.cat([batch["index"] for batch in loader]).tolist()


@pytest.mark.slow
@pytest.mark.ffcv
@pytest.mark.parametrize("options", [{}, {"encoding": "jpeg:95", "size": 24, "positives": 3}], ids=str)
def test_values_are_those_of_plain_ffcv(dataset: MakeDataset, options: dict[str, object]) -> None:
    from ffcv.loader import Loader, OrderOption

    folder, threads = dataset(**options), torch.get_num_threads()
    theirs: dict[int, dict[str, torch.Tensor]] = {}
    one_file = dataset(**options, per_shard=40) / "shard-00000.beton"
    loader = Loader(str(one_file), batch_size=8, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False)
    for batch in loader:
        tensors = {name: values.clone() for name, values in zip(loader.pipeline_specs, batch)}
        for i, index in enumerate(tensors["index"][:, 0].tolist()):
            theirs[index] = {name: values[i] for name, values in tensors.items()}
    torch.set_num_threads(threads)  # FFCV's loader changes them
    seen, accurate = 0, datasets_manifest.open(folder)
    for batch in PairLoader(folder, batch_size=7, workers=2):
        for i, index in enumerate(batch["index"].tolist()):
            seen += 1
            assert batch.keys() == theirs[index].keys()
            for name, values in batch.items():
                wanted = theirs[index][name]
                if options and values.dtype == torch.uint8:  # FFCV's fast DCT is some levels off, Pillow's is not
                    assert (wanted.int() - values[i].int()).abs().max() <= 24, name
                    wanted = torch.from_numpy(accurate[index][name])
                assert torch.equal(values[i], wanted.view_as(values[i])), name
    assert seen == len(theirs) == 40


@pytest.mark.ffcv
@pytest.mark.parametrize("options", [{}, {"encoding": "jpeg:95", "size": 24, "positives": 3}], ids=str)
def test_what_these_tests_read_is_what_ffcv_writes(
    dataset: MakeDataset, dataset_by_ffcv: MakeDataset, options: dict[str, object]
) -> None:
    theirs = dataset_by_ffcv(**options)
    for path in dataset(**options).glob("*.beton"):
        assert path.read_bytes() == (theirs / path.name).read_bytes()


def test_shapes_and_types(dataset: MakeDataset) -> None:
    batch = next(iter(PairLoader(dataset(), batch_size=6)))
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "anchor": ((6, 16, 16, 3), torch.uint8),
        "positive": ((6, 16, 16, 3), torch.uint8),
        "z_anchor": ((6, 5), torch.float32),
        "z_positive": ((6, 5), torch.float32),
        "label": ((6,), torch.int64),
        "index": ((6,), torch.int64),
    }


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40, 64])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_index_once_per_epoch_in_a_pure_order(dataset: MakeDataset, batch_size: int, workers: int) -> None:
    loader = PairLoader(dataset(), batch_size=batch_size, seed=2, fields=("index",), workers=workers)
    epochs = [indices(loader) for _ in range(3)]
    for epoch, found in enumerate(epochs):
        assert sorted(found) == list(range(40))
        assert found == loader.order(epoch).tolist()
    assert epochs[0] != epochs[1] != epochs[2]
    assert len(loader) == -(-40 // batch_size)


def test_kept_batches_stay_as_they_were(dataset: MakeDataset) -> None:
    """FFCV's loader gave 250 distinct samples out of 2000 here: it reuses its buffers."""
    batches = list(PairLoader(dataset(), batch_size=3))
    for batch in batches:
        for index, z in zip(batch["index"].tolist(), batch["z_anchor"]):
            assert z.tolist() == [10 * index + k for k in range(5)]


def test_drop_last(dataset: MakeDataset) -> None:
    loader = PairLoader(dataset(), batch_size=16, fields=("index",), drop_last=True)
    assert len(loader) == 2
    assert [len(batch["index"]) for batch in loader] == [16, 16]
    assert (loader.epoch, loader.position) == (1, 0)
    assert len(PairLoader(dataset(), batch_size=64, fields=("index",), drop_last=True)) == 0


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resume_gives_exactly_the_rest(dataset: MakeDataset, stop: int) -> None:
    first = PairLoader(dataset(), batch_size=8, seed=1, fields=("index",))
    seen = []
    for count, batch in enumerate(first, start=1):
        seen += batch["index"].tolist()
        if count == stop:
            state = first.state_dict()
            break
    second = PairLoader(dataset(), batch_size=5, seed=1, fields=("index",), workers=2)  # another batch size
    second.load_state_dict(state)
    rest = indices(second) if stop < 5 else []
    assert seen + rest == first.order(0).tolist()
    assert indices(second) == first.order(1).tolist()


def test_a_cursor_into_something_else_is_refused(dataset: MakeDataset) -> None:
    state = PairLoader(dataset(), batch_size=8, seed=1).state_dict()
    with pytest.raises(ResumeError, match="seed is 1, this loader's is 2"):
        PairLoader(dataset(), batch_size=8, seed=2).load_state_dict(state)
    with pytest.raises(ResumeError, match="dataset_id"):
        PairLoader(dataset(positives=3), batch_size=8, seed=1).load_state_dict(state)


def test_random_positive_is_one_of_the_stored_and_another_in_other_epochs(dataset: MakeDataset) -> None:
    loader = PairLoader(dataset(positives=3), batch_size=9, positive="random", seed=4)
    chosen = []
    for _ in range(2):
        which = {}
        for batch in loader:
            for index, z, image in zip(batch["index"].tolist(), batch["z_positive"], batch["positive"]):
                which[index] = round(z[0].item()) - 10 * index
                stored = dict(zip((1, 2, 3), loader_row(loader, index)))
                assert np.array_equal(image.numpy(), stored[which[index]])
        chosen.append(which)
    assert set(chosen[0].values()) == {1, 2, 3}
    assert chosen[0] != chosen[1]
    again = PairLoader(dataset(positives=3), batch_size=40, positive="random", seed=4)
    batch = next(iter(again))
    assert {i: round(z[0].item()) - 10 * i for i, z in zip(batch["index"].tolist(), batch["z_positive"])} == chosen[0]


def loader_row(loader: PairLoader, index: int) -> list[np.ndarray]:
    rows = []
    for name in ("positive", "positive_1", "positive_2"):
        out = np.empty((1, 16, 16, 3), dtype=np.uint8)
        loader.sets.read(np.array([index]), loader.sets.outputs([name], None), [out])
        rows.append(out[0])
    return rows


def test_limit_reads_a_fixed_part(dataset: MakeDataset) -> None:
    loader = PairLoader(dataset(), batch_size=4, limit=0.25, seed=3, fields=("index",))
    first, second = indices(loader), indices(loader)
    assert len(first) == 10
    assert sorted(first) == sorted(second) != first


def test_importing_and_decoding_leave_pytorchs_threads_alone(dataset: MakeDataset) -> None:
    threads = torch.get_num_threads()
    next(iter(PairLoader(dataset(encoding="jpeg:95", size=24), batch_size=4)))
    assert torch.get_num_threads() == threads


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_refusals(dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no field 'positive'; it has anchor, label, index"):
        PairLoader(dataset(positives=0, latents=False), batch_size=4, fields=("anchor", "positive"))
    with pytest.raises(ManifestError, match="an empty folder; wanted a dataset"):
        PairLoader(tmp_path, batch_size=4)
    with pytest.raises(ValueError, match="batch_size 0: wanted at least 1"):
        PairLoader(dataset(), batch_size=0)
    cut = copy_of(dataset(), tmp_path / "cut")
    shard = cut / "shard-00001.beton"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"shard-00001.beton.*truncated"):
        PairLoader(cut, batch_size=4)
    unfinished = copy_of(dataset(), tmp_path / "unfinished")
    (unfinished / "manifest.json").unlink()
    with pytest.raises(DatasetError, match=r"manifest.json"):
        PairLoader(unfinished, batch_size=4)


def test_a_jpeg_that_is_none_is_named_not_replaced(dataset: MakeDataset, tmp_path: Path) -> None:
    """FFCV returns another sample's picture for a zeroed JPEG."""
    folder = copy_of(dataset(encoding="jpeg:95", size=24), tmp_path / "zeroed")
    shard = read_manifest(folder).shards[0]
    with Beton(folder / shard.name, read_manifest(folder).fields, shard.count, 0) as beton:
        pointer = int(beton.samples["anchor"]["data_ptr"][3])
    with open(folder / shard.name, "r+b") as file:
        file.seek(pointer)
        file.write(bytes(16))
    with pytest.raises(DatasetError, match=r"shard-00000\.beton: sample 3: anchor, at byte \d+, is not a JPEG"):
        list(PairLoader(folder, batch_size=4))

"""Schema version 2 in batches: latents of any shape, stored or not, numbers of pairs and positives, sets of both versions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drawn_dataset
import numpy as np
import pytest
import torch
from drawn_dataset import number, write_drawn
from numpy.typing import NDArray

from genrep import across, datasets_manifest
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError
from genrep.train import PairLoader

Make = Callable[..., Path]
ALL = {"positives": 3, "floats": ["strength", "weight"], "prompts": 4, "sources": True}


@pytest.fixture
def make(tmp_path: Path, write_beton: Callable[..., None]) -> Make:
    """``make("name", …)``: a folder with that dataset."""
    return lambda name, **options: write_drawn(write_beton, tmp_path / name, **options)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[str], str]]:
    """What was asked of ``genrep.across.latents``, which still answers: indices, names, thread."""
    found: list[tuple[list[int], list[str], str]] = []
    real = across.latents

    def latents(manifest: dict[str, Any], indices: NDArray[np.int64], names: Any) -> Any:
        found.append((indices.tolist(), list(names), threading.current_thread().name))
        return real(manifest, indices, names)

    monkeypatch.setattr(across, "latents", latents)
    return found


def by_index(loader: PairLoader) -> dict[int, dict[str, torch.Tensor]]:
    return {
        index: {name: values[i] for name, values in batch.items()}
        for batch in loader
        for i, index in enumerate(batch["index"].tolist())
    }


def assert_same(a: dict[int, dict[str, torch.Tensor]], b: dict[int, dict[str, torch.Tensor]]) -> None:
    assert a.keys() == b.keys() and len(a) > 1
    for index, sample in a.items():
        assert sample.keys() == b[index].keys()
        for name, values in sample.items():
            assert values.dtype == b[index][name].dtype
            assert torch.equal(values, b[index][name]), (index, name)


@pytest.mark.parametrize("positive", [None, "stored", "random", "all"])
def test_latents_that_are_not_stored_are_those_that_would_be(make: Make, positive: str | None) -> None:
    stored, made = (make(f"{stored}", stored=stored, positives=3) for stored in (True, False))
    assert verify(stored, "full") == verify(made, "full") == []
    options = {"batch_size": 7, "seed": 5, "positive": positive, "workers": 2}
    first, second = PairLoader(stored, **options), PairLoader(made, **options)
    assert first.fields == second.fields and "z_positive" in first.fields
    for _ in range(2):  # of which the second draws other positives
        a, b = by_index(first), by_index(second)
        assert_same(a, b)
    shape = (3, 2, 3, 4) if positive == "all" else (2, 3, 4)
    assert a[0]["z_positive"].shape == shape and a[0]["z_anchor"].shape == (2, 3, 4)
    alone = datasets_manifest.open(stored)[5]
    np.testing.assert_array_equal(alone["z_anchor"], b[5]["z_anchor"].numpy())


def test_a_drawn_positive_has_its_own_latent(make: Make) -> None:
    folder = make("made", stored=False, positives=3)
    data = datasets_manifest.open(make("stored", positives=3))
    loader = PairLoader(folder, batch_size=8, positive="random")
    which = set()
    for index, sample in by_index(loader).items():
        images = [data[index][name] for name in ("positive", "positive_1", "positive_2")]
        (k,) = [k for k, image in enumerate(images) if np.array_equal(image, sample["positive"].numpy())]
        wanted = data[index][("z_positive", "z_positive_1", "z_positive_2")[k]]
        np.testing.assert_array_equal(sample["z_positive"].numpy(), wanted)
        which.add(k)
    assert which == {0, 1, 2}


def test_latents_are_made_in_the_reading_threads_and_only_where_they_are_asked_for(make: Make, calls: Any) -> None:
    folder = make("made", stored=False, positives=2)
    for fields in (("anchor", "positive", "index"), ("label",)):
        list(PairLoader(folder, batch_size=8, fields=fields, workers=2))
    assert calls == []
    batches = list(PairLoader(folder, batch_size=8, fields=("z_positive", "index"), workers=2))
    assert sorted(sorted(indices) for indices, _, _ in calls) == sorted(sorted(b["index"].tolist()) for b in batches)
    assert all(names == ["z_positive"] and thread.startswith("pair-loader") for _, names, thread in calls)
    calls.clear()
    list(PairLoader(folder, batch_size=24, fields=("z_anchor", "z_positive"), positive="all"))
    ((indices, names, _),) = calls  # one computation for all of a batch
    assert sorted(indices) == list(range(24)) and names == ["z_anchor", "z_positive", "z_positive_1"]


def test_memory_of_a_computation_is_bounded(make: Make, calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = by_index(PairLoader(make("stored"), batch_size=24))
    folder = make("made", stored=False)
    monkeypatch.setattr("genrep.train.data.latents.BATCH_VALUES", 2 * 24 * 5)
    assert_same(by_index(PairLoader(folder, batch_size=24)), wanted)
    assert [len(indices) for indices, _, _ in calls] == [5, 5, 5, 5, 4]


def test_a_recipe_that_cannot_be_followed_ends_in_one_line(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make("made", stored=False)
    loader = PairLoader(folder, batch_size=8)

    def missing(*_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'genrep.generate'", name="genrep.generate")

    monkeypatch.setattr(across, "latents", missing)
    with pytest.raises(DatasetError, match=r"made: its latents are not stored, .* genrep\.generate") as caught:
        next(iter(loader))
    assert "\n" not in str(caught.value)
    assert len(list(PairLoader(folder, batch_size=8, fields=("anchor", "positive")))) == 3


def test_numbers_of_pairs_are_tensors_of_one_axis(make: Make) -> None:
    folder = make("numbers", **ALL)
    loader = PairLoader(folder, batch_size=24, fields=("index", "strength", "weight", "prompt", "prompt_2", "source"))
    (batch,) = loader
    for name, values in batch.items():
        assert values.shape == (24,)
        assert values.dtype == (torch.float32 if name in ("strength", "weight") else torch.int64)
        assert values.tolist() == [number(name, index) for index in batch["index"].tolist()]


def test_numbers_of_positives_follow_the_positives(make: Make) -> None:
    folder = make("numbers", **ALL)
    names = ("strength", "prompt_1", "prompt", "weight")
    (batch,) = PairLoader(folder, batch_size=24, fields=("index", *names), positive="all")
    for row, index in enumerate(batch["index"].tolist()):
        assert batch["strength"][row].tolist() == [number(f"strength_{k}", index) for k in range(3)]
        assert batch["prompt_1"][row].tolist() == [number(f"prompt_{k + 1}", index) for k in range(3)]
    assert batch["weight"].shape == batch["prompt"].shape == (24,)
    drawn = PairLoader(folder, batch_size=24, positive="random")
    assert set(drawn.fields) == {
        *("anchor", "positive", "z_anchor", "z_positive", "label", "index"),
        *("strength", "weight", "prompt", "prompt_1", "source"),
    }
    (batch,) = drawn
    data, found = datasets_manifest.open(folder), set()
    for row, index in enumerate(batch["index"].tolist()):
        k = int(batch["strength"][row] - batch["index"][row] / 64 - 0.25)
        assert batch["prompt_1"][row] == number(f"prompt_{k + 1}", index)
        np.testing.assert_array_equal(batch["positive"][row], data[index][f"positive_{k}" if k else "positive"])
        found.add(k)
    assert found == {0, 1, 2}


def test_lone_anchors_leave_out_what_positives_have(make: Make) -> None:
    folder = make("numbers", **ALL)
    loader = PairLoader(folder, batch_size=24, positive="anchor")
    assert loader.fields == ("anchor", "z_anchor", "weight", "label", "index", "prompt", "source")
    with pytest.raises(ValueError, match="positive='anchor': the field 'strength' is not read"):
        PairLoader(folder, batch_size=24, positive="anchor", fields=("strength",))


def test_real_anchors_have_no_latent(make: Make) -> None:
    folder = make("real", real=True, floats=["strength"], sources=True)
    loader = PairLoader(folder, batch_size=24)
    assert loader.fields == ("anchor", "positive", "z_positive", "strength", "label", "index", "source")
    (batch,) = loader
    assert batch["z_positive"].shape == (24, 2, 3, 4)
    with pytest.raises(DatasetError, match="has no field 'z_anchor'"):
        PairLoader(folder, batch_size=8, fields=("z_anchor",))


@pytest.mark.parametrize("options", [{}, {"mix": 0.5}, {"limit": 0.5}, {"shuffle_window": 2}], ids=str)
def test_sets_of_both_versions_with_and_without_latents_are_one(make: Make, options: dict[str, Any]) -> None:
    """Whether a set stores its latents, and which version wrote it, changes nothing of the batches."""
    old, new = make("old", version=1), make("new", count=30)
    made = make("new-made", count=30, stored=False)
    for fields in (None, ("z_anchor", "z_positive", "index", "label")):
        settings = {"batch_size": 7, "seed": 2, "fields": fields, "workers": 2, **options}
        assert_same(by_index(PairLoader([old, new], **settings)), by_index(PairLoader([old, made], **settings)))
    backwards = {"batch_size": 7, "seed": 2, **options}
    assert_same(by_index(PairLoader([new, old], **backwards)), by_index(PairLoader([made, old], **backwards)))


def test_several_sets_give_the_fields_that_all_have(make: Make) -> None:
    folders = [make("old", version=1), make("new", stored=False, floats=["strength", "weight"], prompts=1)]
    assert PairLoader(folders, batch_size=8).fields == (
        *("anchor", "positive", "z_anchor", "z_positive", "label", "index"),
    )
    with pytest.raises(DatasetError, match=r"old: has no field 'weight'; it has anchor, "):
        PairLoader(folders, batch_size=8, fields=("weight",))
    both = [folders[1], make("third", floats=["weight"])]
    weights = by_index(PairLoader(both, batch_size=8, fields=("index", "weight")))
    assert {index: float(sample["weight"]) for index, sample in weights.items()} == {
        index: number("weight", index % 24) for index in range(48)
    }


def test_shapes_that_differ_are_refused_in_one_line(make: Make) -> None:
    folders = [make("a"), make("b", stored=False, shape=(4, 2))]
    with pytest.raises(DatasetError, match=r"b: z_anchor of shape \(4, 2\), another set has \(2, 3, 4\)$"):
        PairLoader(folders, batch_size=8)
    assert len(list(PairLoader(folders, batch_size=8, fields=("anchor", "positive")))) == 6


def test_a_resume_goes_on_where_it_was(make: Make) -> None:
    folder = make("made", stored=False, positives=2)
    options = {"batch_size": 5, "seed": 4, "positive": "random"}
    whole = [batch for _ in range(2) for batch in PairLoader(folder, **options)]
    loader = PairLoader(folder, **options)
    iterator = iter(loader)
    next(iterator), next(iterator)
    again = PairLoader(folder, **{**options, "workers": 3})
    again.load_state_dict(loader.state_dict())
    for wanted, batch in zip(whole[2:5], again, strict=True):
        assert all(torch.equal(batch[name], wanted[name]) for name in wanted)


def test_rows_outside_of_their_table_are_refused(make: Make) -> None:
    def wrong(name: str, index: int) -> float:
        return 6 if (name, index) == ("prompt_1", 13) else number(name, index)

    folder = make("wrong", prompts=2, number_of=wrong)
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: sample 3 has prompt_1 6, wanted 0 to 5$"):
        PairLoader(folder, batch_size=8)


def test_the_tables_of_the_fixture_are_what_the_format_wants(make: Make) -> None:
    assert verify(make("numbers", **ALL, stored=False), "full") == []
    assert len(drawn_dataset.PROMPTS) == 6

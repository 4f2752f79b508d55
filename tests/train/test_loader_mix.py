"""``mix``: exactly that part of one set, the same in every epoch, replaced by images of the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.errors import ResumeError
from genrep.train import PairLoader
from genrep.train.data.order import mixture

MakeDataset = Callable[..., Path]
REAL = 30  # images of the other set


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-coloured images: image i of class ``b`` or ``z`` has the colour i."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("b", "z"):
        (folder / name).mkdir()
    for i in range(REAL):
        pixels = np.full((16, 16, 3), i, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("b" if i < 20 else "z") / f"{i:03}.png")
    return folder


def by_index(loader: PairLoader) -> dict[int, dict[str, torch.Tensor]]:
    return {
        index: {name: values[i] for name, values in batch.items()}
        for batch in loader
        for i, index in enumerate(batch["index"].tolist())
    }


def colour(image: torch.Tensor) -> int | None:
    """The number of a real image, None for one of the other set."""
    value = int(image[0, 0, 0])
    return value if bool((image == value).all()) else None


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.25, 0.5, 1.0])
def test_exactly_that_fraction_is_replaced_and_the_rest_is_as_it_was(
    dataset: MakeDataset, real: Path, fraction: float
) -> None:
    fields = ("anchor", "positive", "label", "index")
    plain = by_index(PairLoader(dataset(), batch_size=8, fields=fields))
    loader = PairLoader([dataset(), real], batch_size=8, fields=fields, mix=fraction)
    assert loader.sets.classes == ("a", "b", "c", "z")
    found = by_index(loader)
    assert sorted(found) == list(range(40))
    replaced = {index for index, sample in found.items() if colour(sample["anchor"]) is not None}
    assert len(replaced) == round(fraction * 40)
    for index, sample in found.items():
        if index in replaced:
            assert torch.equal(sample["positive"], sample["anchor"])  # it has no other: two pixel views of one image
            number = colour(sample["anchor"])
            assert number is not None
            assert sample["label"] == (1 if number < 20 else 3)
        else:
            assert all(torch.equal(sample[name], plain[index][name]) for name in fields)


def test_the_same_places_and_images_in_every_epoch_order_and_rank(dataset: MakeDataset, real: Path) -> None:
    options: dict[str, Any] = {"fields": ("anchor", "index"), "mix": 0.5, "seed": 7}
    loader = PairLoader([dataset(), real], batch_size=8, workers=3, **options)
    first, second = by_index(loader), by_index(loader)
    windowed = by_index(PairLoader([dataset(), real], batch_size=5, shuffle_window=2, **options))
    rank = by_index(PairLoader([dataset(), real], batch_size=8, rank=1, world_size=2, **options))
    assert len(rank) == 20
    for other in (second, windowed, rank):
        assert all(torch.equal(first[index]["anchor"], sample["anchor"]) for index, sample in other.items())
    reseeded = by_index(PairLoader([dataset(), real], batch_size=8, **{**options, "seed": 8}))
    assert any(not torch.equal(first[index]["anchor"], sample["anchor"]) for index, sample in reseeded.items())


def test_no_image_twice_before_each_has_come_once() -> None:
    places, drawn = mixture(1000, 30, 0.1, 3)
    assert len(set(places.tolist())) == len(places) == 100
    assert set(Counter(drawn.tolist()).values()) == {3, 4}
    assert len(set(mixture(1000, 500, 0.1, 3)[1].tolist())) == 100


def test_a_larger_fraction_holds_the_smaller_ones_places() -> None:
    parts = [set(mixture(500, 800, fraction, 1)[0].tolist()) for fraction in (0.05, 0.25, 0.5, 1.0)]
    assert [len(part) for part in parts] == [25, 125, 250, 500]
    assert parts[0] < parts[1] < parts[2] < parts[3]
    assert mixture(500, 800, 0.05, 1)[0].tolist() != mixture(500, 800, 0.05, 2)[0].tolist()


def test_a_limited_set_is_mixed_to_the_same_fraction(dataset: MakeDataset, real: Path) -> None:
    loader = PairLoader([dataset(), real], batch_size=8, fields=("anchor", "index"), mix=0.25, limit=0.5)
    found = by_index(loader)
    assert len(found) == 20
    assert sum(colour(sample["anchor"]) is not None for sample in found.values()) == 5


def test_a_mixture_resumes_as_itself_only(dataset: MakeDataset, real: Path) -> None:
    state = PairLoader([dataset(), real], batch_size=8, fields=("anchor",), mix=0.25).state_dict()
    with pytest.raises(ResumeError, match=r"mix is 0\.25, this loader's is 0\.5"):
        PairLoader([dataset(), real], batch_size=8, fields=("anchor",), mix=0.5).load_state_dict(state)


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_refusals(dataset: MakeDataset, real: Path, fraction: float) -> None:
    with pytest.raises(ValueError, match="wanted a fraction from 0 to 1, of two sets"):
        PairLoader([dataset(), real], batch_size=8, mix=fraction)
    with pytest.raises(ValueError, match=r"mix 0\.5 of 1 sets"):
        PairLoader(dataset(), batch_size=8, mix=0.5)

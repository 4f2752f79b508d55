"""Continuous sampling: every sample once, a function of step and place, whoever makes it and after any interruption."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.across import open_online
from genrep.errors import GeneratorError, RecipeError, ResumeError
from genrep.train.data.online import OnlineLoader


class Formula:
    """A source whose images and latents are their indices."""

    image_shape, classes, labels, latent_shape = (4, 4), ("a", "b"), (0, 1), (3,)
    floats: tuple[str, ...] = ()

    def __init__(self, num_positives: int = 1, identity: str = "x", insane: bool = False, turn: int = 0) -> None:
        self.num_positives, self.identity, self.insane, self.turn = num_positives, identity, insane, turn
        self.recipe: dict[str, Any] = {}
        names = ["anchor", *(f"positive_{k}" if k else "positive" for k in range(num_positives))]
        self.fields = (*names, *(f"z_{name}" for name in names), "label", "index")
        self.made: list[tuple[str, ...]] = []

    def batch(self, indices: NDArray[np.int64], fields: Sequence[str] | None = None) -> dict[str, Tensor]:
        names = tuple(fields or self.fields)
        self.made.append(names)
        index = torch.from_numpy(indices)
        which = {name: number for number, name in enumerate(self.fields)}
        shapes = {name: (4, 4, 3) if "z_" not in name else (3,) for name in names}
        return {
            name: index
            if name in ("index", "label")
            else (index + 1000 * which[name]).view(-1, *[1] * len(shapes[name])).expand(-1, *shapes[name])
            for name in names
        }

    def batches(
        self, batches: Iterable[NDArray[np.int64]], fields: Sequence[str] | None = None
    ) -> Generator[dict[str, Tensor], None, None]:
        for indices in batches:
            yield self.batch(indices, fields)

    def check(self) -> None:
        if self.insane:
            raise GeneratorError("pair 3: image values up to nan")


def collect(loader: OnlineLoader, steps: int) -> list[list[int]]:
    """Indices of so many steps, across epochs."""
    found: list[list[int]] = []
    while len(found) < steps:
        for batch in loader:
            found.append(batch["index"].tolist())
            if len(found) == steps:
                break
    return found


def loader_of(rank: int = 0, world_size: int = 1, **options: Any) -> OnlineLoader:
    settings = {"batch_size": 12, "steps_per_epoch": 5, "fields": ("anchor", "index"), **options}
    return OnlineLoader(settings.pop("source", Formula()), rank=rank, world_size=world_size, **settings)


@pytest.mark.slow
def test_four_ranks_share_no_index_and_no_latent_over_many_epochs():
    """The released code seeds every rank with ``(r + rank) // (epoch + 1)``: by epoch 99 they make the same images."""
    source = open_online("stylegan2_fashion", seed=4)
    latents: dict[int, list[bytes]] = {}
    for rank in range(4):
        loader = OnlineLoader(
            source,
            batch_size=16,
            steps_per_epoch=3,
            fields=("z_anchor", "z_positive", "index"),
            rank=rank,
            world_size=4,
        )
        for _ in range(100):
            for batch in loader:
                for row, index in enumerate(batch["index"].tolist()):
                    both = [batch[name][row].numpy().tobytes() for name in ("z_anchor", "z_positive")]
                    assert index not in latents
                    latents[index] = both
        assert loader.epoch == 100
    assert sorted(latents) == list(range(4800))
    assert len({z for both in latents.values() for z in both}) == 9600


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_see_what_one_process_sees(world_size):
    whole = collect(loader_of(), 12)
    parts = [collect(loader_of(rank, world_size), 12) for rank in range(world_size)]
    for step, indices in enumerate(whole):
        assert [index for part in parts for index in part[step]] == indices
    assert [index for indices in whole for index in indices] == list(range(144))


def test_an_epoch_ends_after_its_steps_and_the_next_goes_on():
    loader = loader_of()
    assert len(loader) == 5
    assert len(list(loader)) == 5
    assert (loader.epoch, loader.position) == (1, 0)
    assert next(iter(loader))["index"].tolist() == list(range(60, 72))
    assert (loader.epoch, loader.position) == (1, 12)


@pytest.mark.parametrize("stop", [1, 4, 5, 7, 10])
def test_a_stop_after_any_step_resumes_with_the_rest_on_another_number_of_ranks(stop):
    uninterrupted = collect(loader_of(), 13)
    first = [loader_of(rank, 3) for rank in range(3)]
    for loader in first:
        collect(loader, stop)
    states = [loader.state_dict() for loader in first]
    assert states[0] == states[1] == states[2]
    resumed = [loader_of(rank, 2) for rank in range(2)]
    for loader in resumed:
        loader.load_state_dict(states[0])
    parts = [collect(loader, 13 - stop) for loader in resumed]
    for step, indices in enumerate(uninterrupted[stop:]):
        assert [index for part in parts for index in part[step]] == indices


@pytest.mark.parametrize("change", [{"source": Formula(identity="y")}, {"batch_size": 6}, {"steps_per_epoch": 4}])
def test_a_cursor_of_another_run_is_refused(change):
    state = loader_of().state_dict()
    with pytest.raises(ResumeError, match=r"loader state: .* this loader's is"):
        loader_of(**change).load_state_dict(state)


def test_no_cursor_is_given_out_beyond_images_that_are_not_sane():
    loader = loader_of(source=Formula(insane=True))
    next(iter(loader))
    with pytest.raises(GeneratorError, match="pair 3"):
        loader.state_dict()
    with pytest.raises(GeneratorError, match="pair 3"):
        list(loader)


@pytest.mark.parametrize(
    ("options", "made", "shapes"),
    [
        ({"positive": "anchor"}, ("anchor", "z_anchor", "label", "index"), {"anchor": (12, 4, 4, 3)}),
        (
            {"positive": "stored"},
            ("anchor", "positive", "z_anchor", "z_positive", "label", "index"),
            {"positive": (12, 4, 4, 3), "z_positive": (12, 3)},
        ),
        (
            {"positive": "random", "fields": ("anchor", "positive", "index")},
            ("anchor", "positive", "index"),
            {"positive": (12, 4, 4, 3)},
        ),
        (
            {"positive": "all", "fields": ("positive", "z_positive")},
            ("positive", "positive_1", "positive_2", "z_positive", "z_positive_1", "z_positive_2"),
            {"positive": (12, 3, 4, 4, 3), "z_positive": (12, 3, 3)},
        ),
        ({"fields": ("anchor", "index")}, ("anchor", "index"), {"anchor": (12, 4, 4, 3)}),
        ({}, Formula(3).fields, {"positive_2": (12, 4, 4, 3)}),
    ],
)
def test_only_what_a_batch_holds_is_made(options, made, shapes):
    source = Formula(num_positives=3)
    batch = next(iter(loader_of(**{"source": source, "fields": None, **options})))
    assert source.made == [made]
    for name, shape in shapes.items():
        assert batch[name].shape == shape
    if options.get("positive") == "all":
        for k in range(3):
            assert torch.equal(
                batch["positive"][:, k], source.batch(np.arange(12))[f"positive_{k}" if k else "positive"]
            )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rank": 2, "world_size": 2}, ValueError, "rank 2: wanted 0 to 1"),
        ({"rank": 1, "world_size": 5}, ValueError, "batch_size 12: wanted a multiple of 5"),
        ({"batch_size": 0}, ValueError, "batch_size 0: wanted at least 1"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch 0"),
        ({"positive": "both"}, ValueError, "positive 'both': wanted one of stored, random, all, anchor"),
        ({"positive": "anchor", "fields": ("positive",)}, ValueError, "positive='anchor'"),
        (
            {"source": Formula(0), "fields": ("positive",)},
            RecipeError,
            "no field 'positive'; there are anchor, z_anchor",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_named(options, error, message):
    with pytest.raises(error, match=message):
        loader_of(**options)


@pytest.mark.parametrize("turn", [5, 12, 17, 1000])
def test_prompts_and_anchors_have_an_order_of_their_own_in_each_turn(turn: int) -> None:
    """As they stand in a folder, a batch would be of one class. Each comes once a turn, and ranks share the batches."""
    whole = collect(loader_of(source=Formula(turn=turn), seed=3), 10)
    found = [index for batch in whole for index in batch]
    for first in range(0, 120 - turn, turn):
        assert sorted(found[first : first + turn]) == list(range(first, first + turn))
        assert found[first : first + turn] != list(range(first, first + turn))
    assert len(set(found)) == 120 and max(found) < max(120, turn) + turn
    if turn == 12:
        assert [index % turn for index in whole[0]] != [index % turn for index in whole[1]]
    parts = [collect(loader_of(rank, 3, source=Formula(turn=turn), seed=3), 10) for rank in range(3)]
    assert [[index for part in step for index in part] for step in zip(*parts)] == whole
    assert collect(loader_of(source=Formula(turn=turn), seed=4), 10) != whole


def test_a_resumed_turn_goes_on_in_its_order() -> None:
    whole = collect(loader_of(source=Formula(turn=17), seed=3), 12)
    loader = loader_of(source=Formula(turn=17), seed=3)
    begun = collect(loader, 7)
    again = loader_of(source=Formula(turn=17), seed=3)
    again.load_state_dict(loader.state_dict())
    assert begun + collect(again, 5) == whole
    with pytest.raises(ResumeError, match="seed"):
        loader_of(source=Formula(turn=17), seed=4).load_state_dict(loader.state_dict())
    assert "seed" not in loader_of().state_dict()  # which without prompts and anchors decides nothing

"""Online pairs are those of the dataset of the same recipe, made only as far as they are asked for."""

import sys
import threading

import numpy as np
import pytest
import torch

from genrep.errors import GeneratorError, RecipeError
from genrep.generate import BuildConfig
from genrep.generate.plans.resolve import make_plan
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.sources.online import open_online
from genrep.generate.sources.open import OpenPairs
from genrep.generate.weights.load import open_generator


def offline(first, count, batch_size, **options):
    """What the builder makes of a range, in batches of one size: by field."""
    config = BuildConfig(num_pairs=1000, batch_size=batch_size, **options)
    recipe = load_recipe(config.gen)
    loaded = open_generator(recipe, None, "cpu", config.generator_options())
    plan = make_plan(config, recipe, loaded)
    source = OpenPairs(config=config, plan=plan, device="cpu").around(recipe, loaded.generator)
    batches = list(source.batches(first, count))
    columns = zip(*(batch.columns(plan.fields) for batch in batches))
    return {field["name"]: np.concatenate(column) for field, column in zip(plan.fields, columns)}


def online(first, count, batch_size, **options):
    """The same online."""
    source = open_online(**options)
    steps = [np.arange(start, start + batch_size) for start in range(first, first + count, batch_size)]
    batches = list(source.batches(steps))
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


RECIPES = [
    {"gen": "stylegan2_fashion"},
    {"gen": "stylegan2_fashion_cond", "num_positives": 2, "seed": 5, "truncation": 0.7, "classes": "3-5"},
    {"gen": "stylegan2_fashion", "views": "hierarchical:over=layers,0-1=none,2-7=independent", "seed": 1},
    {"gen": "stylegan2_fashion", "views": "none"},
    {"gen": "toygen:conditional", "views": "mix:gaussian=.5,independent=.5"},
    {"gen": "toygen:instances", "num_positives": 3},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe['gen']} {recipe.get('views', '')}")
def test_pairs_are_the_builders_bit_for_bit(folder, recipe):
    found, wanted = online(16, 24, 8, **recipe), offline(16, 24, 8, **recipe)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(found[name], values), name


def test_latents_depend_on_no_batch_and_images_by_rounding_only(folder):
    options = {"gen": "stylegan2_fashion_cond", "seed": 2}
    whole, parts = online(0, 24, 24, **options), online(0, 24, 3, **options)
    for name in ("z_anchor", "z_positive", "label", "index"):
        assert np.array_equal(whole[name], parts[name])
    levels = np.abs(whole["positive"].astype(int) - parts["positive"])
    assert levels.max() <= 1
    assert (levels > 0).mean() < 1e-3


@pytest.mark.parametrize("gen", ["toygen:plain", "toygen:conditional", "toygen:instances"])
@pytest.mark.parametrize("keep", [0.5, 0.25])
def test_a_filter_keeps_what_it_keeps_offline(folder, filter_file, gen, keep):
    options = {"gen": gen, "filter": f"keep={keep},weights={filter_file}"}
    found, wanted = online(40, 160, 16, **options), offline(40, 160, 16, **options)
    for name, values in wanted.items():
        assert np.array_equal(found[name], values), name
    plain = online(40, 160, 16, gen=gen)
    assert np.array_equal(plain["label"], found["label"])  # as balanced as without a filter
    assert not np.array_equal(plain["z_anchor"], found["z_anchor"])


def test_half_of_the_candidates_are_kept_if_only_the_filters_file_is_named(folder, filter_file):
    source = open_online("onlinegen:counting", filter=filter_file)
    asked = sys.modules["onlinegen"].asked
    asked.clear()
    assert source.batch(np.arange(64))["index"].tolist() == list(range(64))
    assert asked == [64] * 4  # 128 candidates, of which 64 become anchors, and their positives


def test_a_block_that_several_batches_share_is_judged_once(folder, filter_file):
    source = open_online("onlinegen:counting", filter=filter_file)
    asked = sys.modules["onlinegen"].asked
    asked.clear()
    for _ in source.batches(np.arange(128).reshape(8, 16)):
        pass
    assert sorted(asked) == [16] * 16 + [64] * 4


def test_only_the_images_that_are_asked_for_are_generated(folder):
    source = open_online("onlinegen:counting_conditional", num_positives=2)
    asked = sys.modules["onlinegen"].asked
    for fields, calls in (
        (("anchor", "index"), 1),
        (("anchor", "positive_1", "index"), 2),
        (("z_anchor", "z_positive", "label"), 0),
        (None, 3),
    ):
        asked.clear()
        batch = source.batch(np.arange(5), fields)
        assert asked == [5] * calls
        assert tuple(batch) == (fields or source.fields)
    whole, second = source.batch(np.arange(5)), source.batch(np.arange(5), ["positive_1", "z_positive_1"])
    assert all(torch.equal(whole[name], second[name]) for name in second)


def test_latents_of_the_next_batches_are_drawn_while_the_caller_has_one(folder, monkeypatch):
    source, drawn, enough = open_online("toygen:plain"), [], threading.Event()
    original = source.latents.draw

    def draw(indices, views):
        drawn.append((int(indices[0]), threading.current_thread() is threading.main_thread()))
        if len(drawn) == 3:
            enough.set()
        return original(indices, views)

    monkeypatch.setattr(source.latents, "draw", draw)
    batches = source.batches(np.arange(40).reshape(10, 4))
    assert next(batches)["index"].tolist() == [0, 1, 2, 3]
    assert enough.wait(10)
    assert drawn[:3] == [(0, False), (4, False), (8, False)]
    batches.close()
    assert len(drawn) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("online-latents")]


def test_a_batch_keeps_what_it_held_and_is_no_view_of_the_callers_indices(folder):
    source, indices = open_online("stylegan2_fashion"), np.arange(4)
    first = source.batch(indices)
    kept = {name: values.clone() for name, values in first.items()}
    indices += 100
    source.batch(indices)
    assert all(torch.equal(first[name], kept[name]) for name in kept)


def test_an_autocast_of_the_caller_does_not_reach_the_generator(folder):
    source = open_online("onlinegen:linear")
    wanted = source.batch(np.arange(16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = source.batch(np.arange(16))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_facts_are_the_recipes(folder):
    source = open_online(
        "stylegan2_fashion_cond", views="hierarchical:over=layers,0-1=none,2-7=gaussian", classes="2,4"
    )
    assert source.image_shape == (32, 32)
    assert source.num_positives == 1
    assert source.labels == (2, 4)
    assert source.classes[4] == "Coat"
    assert source.latent_shape == (128,)
    batch = source.batch(np.arange(2))
    assert batch["z_positive"].ndim == 3  # the groups' own z
    plain = open_online("toygen:plain", views="none")
    assert (plain.labels, plain.classes, plain.num_positives) == ((), (), 0)
    assert plain.fields == ("anchor", "z_anchor", "label", "index")
    assert plain.batch(np.arange(2))["label"].tolist() == [-1, -1]


def test_identity_is_that_of_everything_the_pairs_depend_on(folder, filter_file):
    base = {"gen": "toygen:conditional", "views": "gaussian:std=.2", "seed": 1}
    identity = open_online(**base).identity
    assert open_online(**base).identity == identity
    for change in (
        {"gen": "toygen:plain"},
        {"views": "gaussian:std=.3"},
        {"seed": 2},
        {"num_positives": 2},
        {"classes": "0-1"},
        {"filter": filter_file},
    ):
        assert open_online(**{**base, **change}).identity != identity, change


def test_a_field_that_the_views_do_not_give_is_refused(folder):
    with pytest.raises(RecipeError, match=r"^views none: have no field 'positive'; there are anchor, z_anchor"):
        open_online("toygen:plain", views="none").batch(np.arange(2), ["anchor", "positive"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gen": "nosuch"}, "^gen 'nosuch': unknown generator"),
        ({"gen": "toygen:plain", "seed": -1}, "^seed -1"),
        ({"gen": "toygen:plain", "num_positives": 0}, "^num_positives 0"),
        ({"gen": "toygen:plain", "filter": "nosuch.safetensors"}, "no such filter"),
        ({"gen": "toygen:plain", "classes": "0-3"}, "^classes"),
    ],
)
def test_options_that_name_no_source_are_refused_in_one_line(folder, options, message):
    from genrep.errors import GenRepError

    with pytest.raises(GenRepError, match=message) as caught:
        open_online(**options)
    assert "\n" not in str(caught.value)


def insane_pair(seed=0):
    from genrep.generate import LatentSpec

    return int(np.argmax(LatentSpec(dim=6).sample(seed, np.arange(1000))[:, 0] > 1.5))


def test_an_image_that_is_not_finite_ends_the_batch_and_names_the_pair(folder):
    source, pair = open_online("onlinegen:late_nan", views="none"), insane_pair()
    with pytest.raises(GeneratorError, match=f"late_nan: pair {pair}: image values up to nan"):
        for _ in source.batches(np.arange(1000).reshape(250, 4)):
            pass


class Passed:
    """An event of a GPU that is behind."""

    def __init__(self):
        self.passed = self.waited = False

    def query(self):
        return self.passed

    def synchronize(self):
        self.waited = self.waited or not self.passed
        self.passed = True


def test_values_that_a_gpu_has_not_done_are_not_waited_for_but_at_the_end(folder, monkeypatch):
    source, events = open_online("onlinegen:late_nan", views="none"), []
    monkeypatch.setattr(source._copier, "event", lambda: events.append(Passed()) or events[-1])
    pair = insane_pair()
    batches = source.batches(iter(np.arange(1000).reshape(250, 4)))
    for _ in range(pair // 4 + 3):
        next(batches)  # none of them has come
    assert not any(event.waited for event in events)
    for event in events:
        event.passed = True
    with pytest.raises(GeneratorError, match=f"pair {pair}:"):
        next(batches)

    source._judged.clear()
    source.batch(np.array([pair]))
    with pytest.raises(GeneratorError, match=f"pair {pair}:"):
        source.check()
    assert events[-1].waited


@pytest.mark.parametrize(
    ("gen", "message"),
    [
        ("toygen:tiring", "generator toygen:tiring raised at pairs 0 to 3: ValueError: no more ideas"),
        ("toygen:hungry", "out of memory"),
    ],
)
def test_a_generator_that_fails_is_one_line(folder, gen, message):
    with pytest.raises(GeneratorError, match=message) as caught:
        open_online(gen).batch(np.arange(32) if "hungry" in gen else np.arange(4))
    assert "\n" not in str(caught.value)


def test_a_candidate_that_is_not_finite_ends_the_run_and_leaves_no_thread(folder, filter_file):
    source = open_online("onlinegen:late_nan", filter=filter_file)
    with pytest.raises(GeneratorError, match=r"candidate \d+ of filter: image values up to nan"):
        list(source.batches(np.arange(640).reshape(10, 64)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("online-latents")]

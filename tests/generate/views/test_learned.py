"""Navigators and steered walks: what they compute, what a recipe says of them, and which files are refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from genrep.errors import GenRepError, RecipeError
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import Draw, GeneratorFacts, parse_view, view_from_json
from genrep.generate.views.base import affine
from genrep.generate.views.navigators import load_walk
from genrep.generate.views.walks import WALKS

from .conftest import draw

STEERED = LatentSpec(dim=16)


def through_json(view, **arguments):
    return view_from_json(json.loads(json.dumps(view.to_json(), allow_nan=False)), **arguments)


# Navigators


@pytest.mark.parametrize("dim", [120, 512])
def test_a_navigator_moves_a_latent_to_the_same_bits_in_any_batch(dim, navigator):
    latent = LatentSpec(dim=dim)
    view = parse_view(f"navigator:weights={navigator(dim, max_distance=1.5)}")
    z = latent.sample(0, np.arange(64))
    whole = view.transform(z, latent, draw(64))
    for batch in (1, 7):
        parts = [view.transform(z[i : i + batch], latent, draw(1)) for i in range(0, 64, batch)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(view.transform(z[::-1], latent, draw(64))[::-1], whole)


def test_an_affine_map_is_the_same_across_its_blocks_and_right():
    random = np.random.RandomState(0)
    x, weight, bias = (random.standard_normal(shape).astype(np.float32) for shape in ((700, 96), (96, 100), 100))
    whole = affine(x, weight, bias)
    assert np.array_equal(np.concatenate([affine(x[i : i + 1], weight, bias) for i in range(0, 700, 50)]), whole[::50])
    assert np.abs(whole - (x.astype(np.float64) @ weight + bias)).max() < 1e-4


@pytest.mark.parametrize(("activation", "max_distance"), [("relu", None), ("none", None), ("relu", 0.5)])
def test_a_navigator_computes_what_the_trained_network_does(activation, max_distance, navigator, chunked):
    path = navigator(120, activation=activation, max_distance=max_distance, hidden=40)
    view = parse_view(f"navigator:weights={path}")
    z = chunked.sample(0, np.arange(32))
    expected = torch.from_numpy(z) + load_walk(path).walk(torch.from_numpy(z))
    moved = view.transform(z, chunked, draw(32))
    assert np.abs(moved - expected.numpy()).max() < 1e-5
    if max_distance is not None:
        assert np.linalg.norm((moved - z).astype(np.float64), axis=1).max() <= max_distance + 1e-6
        assert view.to_json()["max_distance"] == 0.5


def test_a_navigator_of_chunks_moves_these_alone(navigator, chunked):
    view = parse_view(f"navigator:weights={navigator(40, chunks='2-3')}")
    view.check(chunked, GeneratorFacts())
    z = chunked.sample(0, np.arange(8))
    moved = view.transform(z, chunked, draw(8))
    same = moved == z
    assert same[:, :40].all() and same[:, 80:].all() and not same[:, 40:80].any()
    inside = view_from_json(
        {"name": "hierarchical", "over": "chunks", "parts": [{"chunks": "2-3", "view": view.to_json()}]},
        paths={file.digest: file.path for file in view.files()},
    )
    inside.check(chunked, GeneratorFacts())
    assert np.array_equal(inside.transform(z, chunked, draw(8)), moved)


def test_a_navigator_of_w_layers_gets_a_latent_of_its_own(navigator):
    latent = LatentSpec(dim=8)
    view = parse_view(f"navigator:weights={navigator(8, layers='2-3')}")
    z = latent.sample(0, np.arange(5))
    assert view.w_groups == ((2, 3),) and view.positive_shape(latent) == (1, 8)
    view.check(latent, GeneratorFacts(num_layers=4))
    moved = view.transform(z, latent, draw(5))
    assert moved.shape == (5, 1, 8) and not (moved[:, 0] == z).any()
    inside = parse_view_of_part("layers", "2-3", view)
    inside.check(latent, GeneratorFacts(num_layers=4))
    assert np.array_equal(inside.transform(z, latent, draw(5)), moved)


def parse_view_of_part(over, part, view):
    return view_from_json(
        {"name": "hierarchical", "over": over, "parts": [{over: part, "view": view.to_json()}]},
        paths={file.digest: file.path for file in view.files()},
    )


@pytest.mark.parametrize(
    ("settings", "latent", "facts", "message"),
    [
        ({"dim": 100}, LatentSpec(dim=120), GeneratorFacts(), "T moves 100 components, the latent has 120"),
        (
            {"dim": 40, "chunks": "2-2"},
            LatentSpec(dim=120, chunks=(20,) * 6),
            GeneratorFacts(),
            "T moves 40 components, chunks 2-2 of the latent have 20",
        ),
        (
            {"dim": 20, "chunks": "6"},
            LatentSpec(dim=120, chunks=(20,) * 6),
            GeneratorFacts(),
            "chunks 6: this generator has chunks 0 to 5",
        ),
        ({"dim": 8, "layers": "2-3"}, LatentSpec(dim=8), GeneratorFacts(), "this generator has no W"),
        ({"dim": 8, "layers": "2-9"}, LatentSpec(dim=8), GeneratorFacts(num_layers=8), "layers 0 to 7"),
    ],
)
def test_a_navigator_that_does_not_fit_is_refused_in_one_line(settings, latent, facts, message, navigator):
    view = parse_view(f"navigator:weights={navigator(**settings)}")
    with pytest.raises(RecipeError) as error:
        view.check(latent, facts)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "over", "part"),
    [
        ({"dim": 40, "chunks": "2-3"}, "chunks", "1-2"),
        ({"dim": 120, "chunks": "2-3"}, "layers", "2-3"),
        ({"dim": 40, "layers": "2-3"}, "chunks", "2-3"),
        ({"dim": 120, "layers": "2-3"}, "layers", "4-5"),
    ],
)
def test_a_navigator_in_the_place_of_another_is_refused(settings, over, part, navigator, chunked):
    view = parse_view_of_part(over, part, parse_view(f"navigator:weights={navigator(**settings)}"))
    with pytest.raises(RecipeError, match=r"its view navigator is for (chunks|layers) 2-3"):
        view.check(chunked, GeneratorFacts(num_layers=16))


def test_a_recipe_holds_the_digest_and_not_the_place(navigator, tmp_path):
    path = navigator(8, chunks="0-1")
    view = parse_view(f"navigator:weights={path}")
    elsewhere = tmp_path / "elsewhere.safetensors"
    elsewhere.write_bytes(path.read_bytes())
    assert str(tmp_path) not in json.dumps(view.to_json())
    assert parse_view(f"navigator:weights={elsewhere}") == view
    assert parse_view(f"navigator:weights={navigator(8, chunks='0-1', seed=1)}") != view
    assert parse_view(f"navigator:weights={navigator(8, chunks='1-2')}") != view
    assert [file.path for file in view.files()] == [path]


def test_a_view_of_a_recipe_stands_without_its_file_until_it_shall_draw(navigator):
    latent = LatentSpec(dim=8)
    view = parse_view(f"navigator:weights={navigator(8)}")
    again = through_json(view)
    assert again == view and hash(again) == hash(view)
    again.check(latent, GeneratorFacts())
    z = latent.sample(0, np.arange(2))
    with pytest.raises(RecipeError, match=f"with the tensors {view.to_json()['digest'][:12]}…: navigator:weights=FILE"):
        again.transform(z, latent, draw(2))
    found = through_json(view, paths={view.files()[0].digest: view.files()[0].path})
    assert np.array_equal(found.transform(z, latent, draw(2)), view.transform(z, latent, draw(2)))


def test_a_file_other_than_the_one_stated_is_refused(navigator):
    stated = parse_view(f"navigator:weights={navigator(8)}").to_json()
    view = view_from_json({**stated, "weights": str(navigator(8, seed=1))})
    with pytest.raises(RecipeError, match=r"navigator-8-1.* has digest [0-9a-f]{64}, the recipe states "):
        view.to_json()


# Steered walks


def alphas(moved, z, count=5):
    """α of shift_x, shift_y, zoom, rotate_2d, rotate_3d, read off the components that only they move."""
    return {name: (moved - z)[:, 2 * i] for i, name in enumerate(list(WALKS_IN_FILE)[:count])}


WALKS_IN_FILE = ("shift_x", "shift_y", "zoom", "rotate_2d", "rotate_3d", "color")


def test_steered_latents_are_anchors_plus_walks_with_genreps_strengths(walks):
    view = parse_view(f"steered:walks={walks}")
    view.check(STEERED, GeneratorFacts())
    z = np.zeros((6000, 16), dtype=np.float32)
    moved = view.transform(z, STEERED, draw(6000))
    found = alphas(moved, z)
    assert np.allclose(moved[:, 1:10:2], 2 * moved[:, 0:10:2]) and not moved[:, 13:].any()
    for name, steps in (("shift_x", 10), ("shift_y", 10), ("rotate_2d", 6), ("rotate_3d", 6)):
        values, counts = np.unique(np.round(found[name] * steps), return_counts=True)
        assert values.tolist() == list(range(-steps, steps + 1))
        assert np.abs(found[name] * steps - np.round(found[name] * steps)).max() < 1e-6
        assert np.abs(counts / 6000 * (2 * steps + 1) - 1).max() < 0.25
    factor = np.exp(found["zoom"])
    assert 0.25 <= factor.min() < 0.26 and 3.99 < factor.max() <= 4.0
    assert abs((factor < 1).mean() - 0.5) < 0.02
    assert abs(factor[factor < 1].mean() - 0.625) < 0.01 and abs(factor[factor > 1].mean() - 2.5) < 0.05
    color = moved[:, 10:13]
    assert np.abs(color).max() <= 0.5 and abs(color.std() - 1 / np.sqrt(12)) < 0.005
    strengths = np.stack([*found.values(), *color.T])
    assert np.abs(np.corrcoef(strengths) - np.eye(8)).max() < 0.05


def test_only_and_scale_choose_walks_without_changing_their_strengths(walks):
    z = STEERED.sample(0, np.arange(50))
    every = parse_view(f"steered:walks={walks}").transform(z, STEERED, draw(50))
    view = parse_view(f"steered:walks={walks},only=zoom+shift_x,scale=2")
    moved = view.transform(z, STEERED, draw(50))
    assert view.to_json()["only"] == parse_view(f"steered:walks={walks},only=shift_x+zoom").to_json()["only"]
    for name, walked in alphas(moved, z).items():
        assert np.allclose(walked, 2 * alphas(every, z)[name] if name in ("zoom", "shift_x") else 0, atol=1e-5)


def test_a_steered_row_is_the_same_bit_for_bit_in_any_batch(walks):
    view, z = parse_view(f"steered:walks={walks}"), STEERED.sample(0, np.arange(64))
    whole = view.transform(z, STEERED, draw(64))
    rows = [view.transform(z[i : i + 1], STEERED, Draw(seed=0, indices=np.array([i]))) for i in range(64)]
    assert np.array_equal(np.concatenate(rows), whole)
    other = view.transform(z, STEERED, draw(64, k=1))
    assert not (other == whole).all(1).any()


def test_steered_values_are_pinned(walks):
    z, pairs = np.zeros((1, 16), dtype=np.float32), Draw(seed=1, indices=np.array([12345]))
    moved = parse_view(f"steered:walks={walks}").transform(z, STEERED, pairs)[0]
    assert moved[[0, 2, 4, 6, 8, 10, 11, 12]].tolist() == PINNED


PINNED = [
    -0.5,
    -0.30000001192092896,
    -0.8544037342071533,
    -1.0,
    -0.1666666716337204,
    -0.3232615888118744,
    -0.3962060213088989,
    0.3030129373073578,
]


def test_a_steered_view_survives_the_manifest(walks):
    view = parse_view(f"steered:walks={walks},only=zoom")
    assert through_json(view) == view != parse_view(f"steered:walks={walks}")
    assert view.files()[0].path == walks
    with pytest.raises(RecipeError, match=r"needs its file with the tensors .*steered:walks=FILE"):
        through_json(view).transform(np.zeros((1, 16), dtype=np.float32), STEERED, draw(1))


def test_walks_of_another_latent_are_refused(walks):
    with pytest.raises(RecipeError, match="its walks have 16 components, the latent 120"):
        parse_view(f"steered:walks={walks}").check(LatentSpec(dim=120), GeneratorFacts())


def test_a_walk_that_the_file_lacks_is_refused(walks):
    with pytest.raises(RecipeError, match="has no walk hue, it holds"):
        parse_view(f"steered:walks={walks},only=hue").to_json()


def test_a_folder_stands_for_the_walks_in_it(walks):
    assert parse_view(f"steered:walks={walks.parent}") == parse_view(f"steered:walks={walks}")


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        ({}, {"genrep": "navigator/1"}, "genrep = 'navigator/1', wanted 'walks/1'"),
        ({}, {"dim": "17"}, "its metadata say dim = '17'"),
        ({"spin": np.zeros(16, np.float32)}, {}, "holds ['spin'], wanted some of rotate_3d, "),
        ({"zoom": np.zeros((16, 2), np.float32)}, {}, "zoom has shape (16, 2)"),
        ({"zoom": np.full(16, np.nan, np.float32)}, {}, "zoom holds NaN or infinity"),
        (None, {}, "not a readable safetensors file"),
    ],
)
def test_files_that_hold_no_walks_are_refused_in_one_line(change, metadata, message, walks):
    content = load_file(walks)
    if change is None:
        walks.write_bytes(walks.read_bytes()[:100])
    else:
        save_file({**content, **change}, walks, {"genrep": "walks/1", "dim": "16", **metadata})
    with pytest.raises(GenRepError) as error:
        parse_view(f"steered:walks={walks}").to_json()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_walks_cannot_be_used_as_a_navigator_nor_the_reverse(walks, navigator, tmp_path):
    for text in (f"navigator:weights={walks}", f"steered:walks={navigator(16)}", f"steered:walks={tmp_path}/no"):
        with pytest.raises(GenRepError) as error:
            parse_view(text).check(STEERED, GeneratorFacts())
        assert "\n" not in str(error.value)


def test_every_kind_of_walk_draws_from_numbers_of_its_own():
    taken = [number for walk in WALKS.values() for number in range(walk.first, walk.first + walk.uniforms)]
    assert sorted(taken) == list(range(len(taken)))

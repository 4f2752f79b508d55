"""Hierarchical and mixed views."""

import json

import numpy as np
import pytest

from genrep.errors import RecipeError
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import Draw, GeneratorFacts, parse_view, view_from_json

from .conftest import draw

GAUSSIAN = {"name": "gaussian", "std": 1.0, "truncation": 2.0}
W_LATENT = LatentSpec(dim=64)


def correlation(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_hls_random_view_of_bigbigan_leaves_chunk_0_bit_identical(chunked):
    z = chunked.sample(0, np.arange(1000))
    moved = parse_view("hl-random-bigbigan").transform(z, chunked, draw(1000))
    assert np.array_equal(moved[:, :20], z[:, :20])
    noise = moved[:, 20:] - z[:, 20:]
    assert abs(noise.std() - 0.8796) < 0.005 and np.abs(noise).max() <= 2.0 + 1e-6


def test_each_chunk_has_its_own_view_and_noise(chunked):
    view = parse_view("hierarchical:over=chunks,1=gaussian,2=gaussian,4-5=independent")
    z = chunked.sample(0, np.arange(1000))
    moved = view.transform(z, chunked, draw(1000))
    noise = [moved[:, 20 * i : 20 * i + 20] - z[:, 20 * i : 20 * i + 20] for i in range(6)]
    assert not noise[0].any() and not noise[3].any()
    assert abs(noise[1].std() - 0.2 * 0.8796) < 0.005
    assert correlation(noise[1], noise[2]) < 0.02
    assert correlation(moved[:, 80:], z[:, 80:]) < 0.02 and abs(moved[:, 80:].std() - 0.8796) < 0.01
    view.check(chunked, GeneratorFacts())  # chunks 0 to 3 are shared: no class needed


def test_resampling_every_chunk_needs_classes(chunked):
    view = parse_view("hierarchical:over=chunks,0-2=independent,3-5=independent")
    with pytest.raises(RecipeError, match="needs a class-conditional generator"):
        view.check(chunked, GeneratorFacts())
    view.check(chunked, GeneratorFacts(num_classes=3))


def test_groups_of_layers_get_latents_of_their_own_that_share_no_noise():
    view = parse_view("hl-random-stylegan2-car")
    assert view.w_groups == ((0, 3), (8, 11), (12, 15)) and view.positive_shape(W_LATENT) == (3, 64)
    z = W_LATENT.sample(0, np.arange(1000))
    moved = [view.transform(z, W_LATENT, draw(1000, k)) for k in (0, 1)]
    assert moved[0].shape == (1000, 3, 64) and moved[0].dtype == np.float32
    noise = [m - z[:, None] for m in moved]
    truncated = 0.5396  # standard deviation of a normal truncated at one sigma
    for group, std in enumerate((0.3, 0.8, 0.8)):
        assert abs(noise[0][:, group].std() - std * truncated) < 0.01
        assert np.abs(noise[0][:, group]).max() <= std + 1e-6
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert correlation(noise[0][:, a], noise[0][:, b]) < 0.02
    for group in range(3):
        assert correlation(noise[0][:, group], noise[1][:, group]) < 0.02


def test_a_groups_noise_does_not_depend_on_the_other_groups(chunked):
    z = chunked.sample(0, np.arange(8))
    few = parse_view("hierarchical:over=chunks,2=gaussian").transform(z, chunked, draw(8))
    many = parse_view("hierarchical:over=chunks,1=independent,2=gaussian").transform(z, chunked, draw(8))
    assert np.array_equal(few[:, 40:60], many[:, 40:60])


@pytest.mark.parametrize("name", ["hl-random-bigbigan", "mix:gaussian=.3,independent=.2,hl-random-bigbigan=.5"])
def test_a_row_is_the_same_bit_for_bit_in_any_batch(name, chunked):
    view, z = parse_view(name), chunked.sample(0, np.arange(64))
    whole = view.transform(z, chunked, draw(64))
    for batch in (1, 7):
        parts = [
            view.transform(z[i : i + batch], chunked, Draw(seed=0, indices=np.arange(i, min(i + batch, 64))))
            for i in range(0, 64, batch)
        ]
        assert np.array_equal(np.concatenate(parts), whole)


def test_a_mix_takes_each_view_as_often_as_its_weight_says(chunked):
    view = parse_view("mix:none=3,uniform=1,independent=2")
    z = chunked.sample(0, np.arange(6000))
    moved = view.transform(z, chunked, draw(6000))
    distance = np.abs(moved - z).max(1)
    shares = [(distance == 0).mean(), ((distance > 0) & (distance <= 0.347)).mean(), (distance > 0.347).mean()]
    assert np.abs(np.array(shares) - [1 / 2, 1 / 6, 1 / 3]).max() < 0.02


def test_each_positive_of_a_pair_chooses_for_itself(chunked):
    view = parse_view("mix:none=1,independent=1")
    z = chunked.sample(0, np.arange(4000))
    kept = [(view.transform(z, chunked, draw(4000, k)) == z).all(1) for k in (0, 1)]
    assert abs((kept[0] & kept[1]).mean() - 0.25) < 0.03


def test_a_choice_does_not_betray_the_noise_that_follows(chunked):
    view = parse_view("mix:gaussian=1,genrep-gaussian-conditional=1")
    z = chunked.sample(0, np.arange(4000))
    noise = view.transform(z, chunked, draw(4000)) - z
    large = np.abs(noise).max(1) > 0.41
    assert np.abs((noise[large] / 0.8796).mean(0)).max() < 4.5 / np.sqrt(large.sum())


def test_mixed_views_of_layers_keep_their_shape():
    table = {
        "name": "mix",
        "parts": [
            {
                "weight": 1,
                "view": {"name": "hierarchical", "over": "layers", "parts": [{"layers": "2-3", "view": view}]},
            }
            for view in (GAUSSIAN, "uniform")
        ],
    }
    view = view_from_json(table)
    z = W_LATENT.sample(0, np.arange(50))
    assert view.w_groups == ((2, 3),)
    assert view.transform(z, W_LATENT, draw(50)).shape == (50, 1, 64)


def test_views_of_different_shapes_cannot_be_mixed():
    view = parse_view("mix:gaussian=1,hl-random-stylegan2-car=1")
    with pytest.raises(RecipeError, match="gaussian and hierarchical do not move the same W layers"):
        view.check(LatentSpec(dim=512), GeneratorFacts(num_layers=16))


def test_composed_views_survive_the_manifest():
    for text in ("hl-random-bigbigan", "hl-random-stylegan2-car", "mix:hl-random-bigbigan=.25,genrep-gaussian-car=2"):
        view = parse_view(text)
        again = view_from_json(json.loads(json.dumps(view.to_json(), allow_nan=False)))
        assert again == view and again.to_json() == view.to_json()


def test_a_preset_stands_in_the_recipe_in_full():
    assert parse_view("hl-random-bigbigan").to_json() == {
        "name": "hierarchical",
        "over": "chunks",
        "parts": [{"chunks": "0", "view": None}, {"chunks": "1-5", "view": GAUSSIAN}],
    }


def test_values_are_pinned(chunked):
    z, pairs = np.zeros((1, 120), dtype=np.float32), Draw(seed=1, indices=np.array([7]), k=2)
    moved = parse_view("hl-random-bigbigan").transform(z, chunked, pairs)
    assert moved[0, 20:24].tolist() == PINNED_CHUNKS
    latent = LatentSpec(dim=2)
    groups = parse_view("hl-random-stylegan2-car").transform(z[:, :2], latent, pairs)
    assert groups[0].ravel().tolist() == PINNED_GROUPS
    choices = parse_view("mix:gaussian=1,uniform=2,none=3").chosen(draw(12))
    assert choices.tolist() == PINNED_CHOICES


PINNED_CHUNKS = [0.006410106550902128, -0.1310138702392578, 0.20065389573574066, -0.1551045924425125]
PINNED_GROUPS = [
    *[-0.012916660867631435, -0.0033931962680071592],
    *[0.7616469860076904, -0.7015473246574402],
    *[0.5346403121948242, -0.47006431221961975],
]
PINNED_CHOICES = [2, 1, 1, 2, 2, 2, 2, 1, 0, 2, 1, 1]

"""Latent views against the laws that they claim."""

import json

import numpy as np
import pytest

from genrep.errors import RecipeError
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import NAMES, parse_view, view_from_json
from genrep.generate.views.base import Draw

LATENT = LatentSpec(dim=120, law="truncated_normal", truncation=2.0)


def draw(count, k=0, seed=0):
    return Draw(seed=seed, indices=np.arange(count), k=k)


def test_gaussian_noise_has_the_truncated_law_in_units_of_sigma():
    z = LATENT.sample(0, np.arange(2000))
    w = parse_view("gaussian:std=.5,truncation=2").transform(z, LATENT, draw(2000)) - z
    assert np.abs(w).max() <= 1.0 + 1e-6  # +-t sigma
    assert abs(w.std() - 0.8796 * 0.5) < 0.002
    assert abs(w.mean()) < 0.003
    assert np.abs(z + w).max() > 2.3  # the sum is not truncated again


def test_an_untruncated_gaussian_has_its_nominal_deviation():
    z = np.zeros((2000, 120), dtype=np.float32)
    w = parse_view("gaussian:std=.25,truncation=inf").transform(z, LATENT, draw(2000))
    assert abs(w.std() - 0.25) < 0.002
    assert np.abs(w).max() > 0.9


def test_positives_are_independent_of_anchors_and_of_each_other():
    z = LATENT.sample(0, np.arange(500))
    view = parse_view("gaussian:std=1,truncation=2")
    first, second = (view.transform(z, LATENT, draw(500, k)) - z for k in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first.ravel(), z.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    "text", ["gaussian:std=.2,truncation=2", "gaussian:std=.2,truncation=inf", "independent", "none"]
)
def test_a_view_survives_the_manifest(text):
    view = parse_view(text)
    assert view_from_json(json.loads(json.dumps(view.to_json(), allow_nan=False))) == view


def test_a_row_depends_on_its_index_alone():
    z = LATENT.sample(0, np.arange(64))
    for text in ("gaussian:std=.2,truncation=2", "independent"):
        view = parse_view(text)
        row = view.transform(z[9:10], LATENT, Draw(seed=0, indices=np.array([9])))
        assert np.array_equal(view.transform(z, LATENT, draw(64))[9:10], row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spiral", "unknown view 'spiral'; known: " + ", ".join(NAMES)),
        ("gaussian:std=x", "std='x' is not a number"),
        ("gaussian:std=.1,std=.2", "repeats a key"),
        ("gaussian:,", "is not one key=value"),
        ("gaussian:std=0", "std=0.0"),
        ("gaussian:std=inf", "std=inf"),
        ("gaussian:truncation=0", "truncation=0.0"),
        ("none:std=1", "none has no parameter 'std'"),
    ],
)
def test_bad_views_are_refused(text, message):
    with pytest.raises(RecipeError) as error:
        parse_view(text)
    assert message in str(error.value)


def test_a_latent_law_states_what_it_draws():
    scaled = LatentSpec(dim=64, law="truncated_normal", truncation=2.0, scale=0.4)
    z = scaled.sample(0, np.arange(10_000))
    assert 0.75 < np.abs(z).max() <= 0.8 + 1e-6
    assert abs(z.std() - 0.8796 * 0.4) < 0.002
    with pytest.raises(RecipeError, match="only truncated_normal has one, and needs it"):
        LatentSpec(dim=4, law="normal", truncation=2.0)
    with pytest.raises(RecipeError, match="sum to 4"):
        LatentSpec(dim=4, chunks=(1, 2))

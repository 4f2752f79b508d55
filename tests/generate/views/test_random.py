"""Views without parameters to learn, against their laws."""

import numpy as np
import pytest

from genrep.errors import RecipeError
from genrep.generate.generators.base import LatentSpec
from genrep.generate.views import Draw, GeneratorFacts, parse_view
from genrep.generate.views.base import row_sums, sin_cos

from .conftest import draw

LATENT = LatentSpec(dim=120, law="truncated_normal", truncation=2.0)
TEXTS = ("gaussian:std=.2", "gaussian:truncation=inf", "uniform:radius=.5", "angular", "angular:law=sum", "independent")


@pytest.mark.parametrize("text", TEXTS)
def test_a_row_is_the_same_bit_for_bit_in_any_batch(text):
    view, z = parse_view(text), LATENT.sample(3, np.arange(64))
    whole = view.transform(z, LATENT, draw(64, k=1, seed=3))
    for batch in (1, 7):
        parts = [
            view.transform(z[i : i + batch], LATENT, Draw(seed=3, indices=np.arange(i, min(i + batch, 64)), k=1))
            for i in range(0, 64, batch)
        ]
        assert np.array_equal(np.concatenate(parts), whole)
    shuffled = np.random.RandomState(0).permutation(64)
    assert np.array_equal(view.transform(z[shuffled], LATENT, Draw(seed=3, indices=shuffled, k=1)), whole[shuffled])
    assert whole.dtype == np.float32 and view.positive_shape(LATENT) == (120,)


@pytest.mark.parametrize("text", TEXTS)
def test_positives_of_one_anchor_are_drawn_independently(text):
    view, z = parse_view(text), LATENT.sample(0, np.arange(500))
    noise = [view.transform(z, LATENT, draw(500, k)) - z * ("independent" not in text) for k in (0, 1)]
    if "angular" in text:  # what both have of z itself, a turned latent shares
        noise = [n - z * ((n * z).sum(1) / (z * z).sum(1))[:, None] for n in noise]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


def test_uniform_noise_fills_its_interval_evenly():
    z = LATENT.sample(0, np.arange(1000))
    u = (parse_view("uniform:radius=.5").transform(z, LATENT, draw(1000)) - z).ravel()
    assert np.abs(u).max() <= 0.5 + 1e-6
    assert u.min() < -0.4999 and u.max() > 0.4999
    assert abs(u.std() - 0.5 / np.sqrt(3)) < 0.001
    assert np.abs(np.quantile(u, [0.1, 0.25, 0.75, 0.9]) - [-0.4, -0.25, 0.25, 0.4]).max() < 0.005


def angles_and_norms(text, count=4000):
    z = LATENT.sample(0, np.arange(count)).astype(np.float64)
    moved = parse_view(text).transform(z.astype(np.float32), LATENT, draw(count)).astype(np.float64)
    norms = np.linalg.norm(z, axis=1), np.linalg.norm(moved, axis=1)
    cosine = (z * moved).sum(1) / (norms[0] * norms[1])
    return z, moved, np.arccos(np.clip(cosine, -1, 1)), norms


def test_angular_turns_by_a_folded_normal_angle_and_keeps_the_norm_to_rounding():
    _, _, angles, (before, after) = angles_and_norms("angular:std=.4")
    assert np.abs(after / before - 1).max() < 2e-7
    assert abs(np.sqrt((angles**2).mean()) - 0.4) < 0.015
    assert abs(angles.mean() - 0.4 * np.sqrt(2 / np.pi)) < 0.015


def test_angular_turns_towards_no_direction_in_particular():
    z, moved, _, _ = angles_and_norms("angular:std=.4")
    orthogonal = moved - z * ((moved * z).sum(1) / (z * z).sum(1))[:, None]
    unit = orthogonal / np.linalg.norm(orthogonal, axis=1)[:, None]
    assert np.abs(unit.mean(0)).max() < 4.5 / np.sqrt(120 * len(unit))
    assert np.abs(unit.T @ unit / len(unit) * 120 - np.eye(120)).max() < 0.15


def test_angular_turns_beyond_a_right_angle_without_losing_norm():
    _, _, angles, (before, after) = angles_and_norms("angular:std=3")
    assert np.abs(after / before - 1).max() < 2e-7
    assert angles.max() > 3.0


def test_genreps_angular_is_a_sum_with_the_norm_of_the_anchor():
    z, moved, angles, (before, after) = angles_and_norms("genrep-angular")
    assert np.abs(after / before - 1).max() < 2e-7
    noisy = parse_view("gaussian:std=1").transform(z.astype(np.float32), LATENT, draw(len(z))).astype(np.float64)
    assert np.abs(moved - noisy * (before / np.linalg.norm(noisy, axis=1))[:, None]).max() < 1e-6
    assert abs(angles.mean() - np.pi / 4) < 0.02  # both have the same deviation


def test_a_latent_of_zeros_stays_finite():
    z = np.zeros((3, 120), dtype=np.float32)
    for law in ("angle", "sum"):
        assert np.array_equal(parse_view(f"angular:law={law}").transform(z, LATENT, draw(3)), z)


def test_sine_and_cosine_are_right_for_every_angle():
    angles = np.linspace(-12, 12, 10_001)
    sine, cosine = sin_cos(angles)
    assert np.abs(sine - np.sin(angles)).max() < 1e-14
    assert np.abs(cosine - np.cos(angles)).max() < 1e-14


@pytest.mark.parametrize("width", [1, 2, 3, 7, 120, 513])
def test_row_sums_add_every_column_once(width):
    values = np.random.RandomState(0).randint(-1000, 1000, (5, width)).astype(np.float64)
    assert np.array_equal(row_sums(values)[:, 0], values.sum(1))


def test_values_are_pinned():
    latent = LatentSpec(dim=3)
    z, pairs = np.array([[0.5, -1.0, 2.0]], dtype=np.float32), Draw(seed=1, indices=np.array([12345]), k=1)
    found = {text: parse_view(text).transform(z, latent, pairs)[0].tolist() for text in TEXTS[:5]}
    assert found == PINNED


PINNED = {
    "gaussian:std=.2": [0.34520694613456726, -0.7018004059791565, 1.847988486289978],
    "gaussian:truncation=inf": [0.34520694613456726, -0.7018004059791565, 1.847988486289978],
    "uniform:radius=.5": [0.24388742446899414, -1.0487959384918213, 2.248603105545044],
    "angular": [0.4929240047931671, -0.9867408275604248, 2.0083248615264893],
    "angular:law=sum": [0.39416828751564026, -0.8013380765914917, 2.1100921630859375],
}


@pytest.mark.parametrize(
    ("text", "facts", "message"),
    [
        ("independent", GeneratorFacts(), "needs a class-conditional generator"),
        ("mix:gaussian=1,independent=1", GeneratorFacts(), "needs a class-conditional generator"),
        ("hierarchical:0=gaussian", GeneratorFacts(num_layers=8), "is not divided into chunks"),
        ("hierarchical:over=layers,0-3=gaussian", GeneratorFacts(), "it has no W layers"),
        ("hl-random-stylegan2-car", GeneratorFacts(num_layers=14), "layers 12-15: this generator has layers 0 to 13"),
    ],
)
def test_a_view_that_a_generator_cannot_have_is_refused_in_one_line(text, facts, message):
    with pytest.raises(RecipeError) as error:
        parse_view(text).check(LATENT, facts)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_one_component_cannot_be_turned():
    with pytest.raises(RecipeError, match="no direction"):
        parse_view("angular").check(LatentSpec(dim=1), GeneratorFacts())


def test_what_a_generator_can_have_is_not_refused(chunked):
    parse_view("independent").check(LATENT, GeneratorFacts(num_classes=2))
    parse_view("hl-random-bigbigan").check(chunked, GeneratorFacts())
    parse_view("hl-random-stylegan2-car").check(LatentSpec(dim=512), GeneratorFacts(num_layers=16))


@pytest.mark.parametrize(
    ("name", "std", "length"),  # of a component, and of w, as the papers' laws have them
    [
        ("genrep-gaussian", 0.1759, None),  # N^t(0, .2, 2): the component of N^t(0, 1, 2) is .8796
        ("genrep-gaussian-conditional", 0.8796, None),
        ("hl-random-bigbigan-baseline", 0.0440, None),
        ("hl-random-stylegan2-car-baseline", 0.0738, 1.67),  # N^t(0, .15, .9) of 512 components
    ],
)
def test_presets_have_the_papers_spread(name: str, std: float, length: float | None) -> None:
    latent = LatentSpec(dim=512)
    indices = np.arange(400)
    z = latent.sample(0, indices)
    w = parse_view(name).transform(z, latent, Draw(seed=0, indices=indices, k=0)) - z
    assert w.std() == pytest.approx(std, rel=0.01)
    assert length is None or np.linalg.norm(w, axis=1).mean() == pytest.approx(length, rel=0.01)

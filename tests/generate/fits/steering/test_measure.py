"""Effects: of images that do exactly what they should, of walks that are known, and of the embedded generator."""

import math

import numpy as np
import pytest
import torch

from genrep.generate.fits import steering_measure as measure
from genrep.generate.fits.config import SteerConfig
from genrep.generate.fits.frozen import open_frozen
from genrep.generate.fits.pictures import save_curves, save_sheet
from genrep.generate.fits.steering import fit_steer
from genrep.generate.fits.steering_measure import Curve, content_weights, describe, is_gray, measure_walks, nearest_zoom
from genrep.generate.fits.steering_targets import ROWS
from genrep.look.sheets import GAP, LINE, MARGIN, TILE

CPU = torch.device("cpu")


def true_walks():
    """Of discgen: see conftest.py."""
    walks = torch.zeros(len(ROWS), 8)
    walks[0, 0] = walks[1, 1] = 4 * 100 / 256
    walks[2, 2] = -2.0
    walks[5, 3] = walks[6, 4] = walks[7, 5] = 1.0
    return walks


def test_known_walks_have_the_effects_of_their_strengths(discs):
    curves = {curve.name: curve for curve in measure_walks(discs, true_walks(), images=16, seed=0, batch=10)}
    assert list(curves) == [*ROWS[:3], "zoom_extent", *ROWS[3:]]
    middle = slice(3, 6)  # the three strengths about 0, where discs stay in the frame
    for name in ("shift_x", "shift_y"):
        curve = curves[name]
        assert curve.rises
        assert curve.alphas[0] == pytest.approx(-39.06, abs=0.01)
        np.testing.assert_allclose(curve.effects[middle], curve.targets[middle], rtol=0.1, atol=0.1)
        np.testing.assert_allclose(curve.targets[middle], curve.alphas[middle], rtol=0.2, atol=0.1)
    for name in ("zoom", "zoom_extent"):
        assert curves[name].alphas[4] == pytest.approx(1)
        assert curves[name].effects[4] == pytest.approx(1, abs=1e-6)
    assert curves["zoom"].rises  # not by as much as it should: the walk scales discs about their own middles
    np.testing.assert_allclose(curves["zoom_extent"].effects[middle], curves["zoom_extent"].alphas[middle], rtol=0.15)
    for name in ("color_red", "color_green", "color_blue"):
        np.testing.assert_allclose(curves[name].effects, curves[name].alphas, atol=1e-4)
        np.testing.assert_allclose(curves[name].targets, curves[name].alphas, atol=1e-6)
    assert not curves["rotate_2d"].rises and max(map(abs, curves["rotate_2d"].effects)) < 1e-3  # a walk of zeros


def test_effects_do_not_depend_on_the_batch(discs):
    curves = [measure_walks(discs, true_walks(), images=12, seed=3, points=3, batch=batch) for batch in (12, 5)]
    for one, other in zip(*curves):
        np.testing.assert_allclose(one.effects, other.effects, atol=1e-4)


def bar(angle, size=32):
    """An image of a bar, turned counterclockwise as seen."""
    middles = torch.arange(size) + 0.5 - size / 2
    y, x = torch.meshgrid(-middles, middles, indexing="ij")
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return torch.exp(-((along / 8) ** 2) - (across / 2.5) ** 2)[None]


def test_turned_bars_are_measured_in_degrees():
    before, after = (describe(bar(angle), torch.zeros(1, 3)) for angle in (0.3, 0.3 + math.radians(20)))
    total = complex(measure._contributions("rotate_2d", before, after).sum())
    assert measure._effect("rotate_2d", total, 1) == pytest.approx(20, abs=0.5)


def test_a_side_that_turns_away_is_measured_as_falling_height():
    even, tapered = torch.zeros(1, 32, 32), torch.zeros(1, 32, 32)
    for column in range(4, 28):
        even[0, 10:22, column] = 1
        tapered[0, 6 + (column - 4) // 4 : 26 - (column - 4) // 4, column] = 1
    contents = [describe(weights, torch.zeros(1, 3)) for weights in (even, tapered)]
    assert measure._contributions("rotate_3d", *contents) > 0.05
    assert measure._contributions("rotate_3d", contents[0], contents[0]) == 0


@pytest.mark.parametrize("view", [0.5, 0.8, 1.0, 1.6, 3.0])
def test_registration_finds_a_zoom_between_its_candidates(view):
    def blob(scale):
        middles = torch.arange(48) + 0.5 - 24
        y, x = torch.meshgrid(middles / scale, middles / scale, indexing="ij")
        return (torch.exp(-((x - 3) ** 2 + y**2 / 2) / 30) + torch.exp(-((x + 6) ** 2 + (y - 4) ** 2) / 8))[None]

    found = nearest_zoom(blob(1.0), blob(1 / view))
    assert float(found.exp()) == pytest.approx(view, rel=0.04)
    assert not bool(nearest_zoom(torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)).any())


def test_weights_are_the_distance_from_the_borders_colour_at_most_64_pixels_wide():
    images = torch.full((1, 3, 256, 128), 0.5)
    images[:, :, 100:140, 40:80] = -0.5
    weights = content_weights(images, measure._border(images))
    assert weights.shape == (1, 64, 32)
    assert weights[0, 30, 15] == pytest.approx(1.0) and weights[0, 5, 5] == 0


def test_gray_generators_are_measured_and_shown_in_one_colour(disc_folder):
    source = open_frozen("discgen:gray", None, CPU)
    assert is_gray(source, 0) and not is_gray(open_frozen("discgen:plain", None, CPU), 0)
    curves = measure_walks(source, true_walks(), images=8, seed=0, points=3)
    assert [curve.name for curve in curves][-1] == "color"
    np.testing.assert_allclose(curves[-1].effects, curves[-1].alphas, atol=1e-4)
    save_sheet(disc_folder / "gray.png", source, true_walks(), 0)
    save_curves(disc_folder / "curves.png", curves, "gray")
    from PIL import Image

    with Image.open(disc_folder / "gray.png") as sheet:
        assert sheet.height > 6 * 3 * TILE


def test_the_sheet_shows_the_anchors_in_the_middle_and_content_at_the_sides(discs, tmp_path):
    from PIL import Image

    save_sheet(tmp_path / "sheet.png", discs, true_walks(), 0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(float).sum(axis=2)
    top, pitch = MARGIN + LINE + GAP, TILE + GAP  # the first row of images
    cells = [pixels[top : top + TILE, MARGIN + pitch * i : MARGIN + pitch * i + TILE] for i in range(7)]
    places = [float((cell.sum(axis=0) @ np.arange(TILE)) / cell.sum()) for cell in cells]
    assert places[2] + 6 < places[3] < places[4] - 6  # at the sides discs have left the frame


def test_a_curve_that_does_not_rise_says_so():
    curve = Curve(name="zoom", unit="", alphas=(0.5, 1.0, 2.0), effects=(0.5, 1.0, 1.0), targets=(0.5, 1.0, 2.0))
    assert not curve.rises and not curve.to_json()["rises"]


@pytest.fixture(scope="module")
def fashion(tmp_path_factory, rows_of):
    """A short run on the embedded generator, with twenty times the usual rate: its result, and effects at five strengths."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("fashion")
    settings = {"samples": 3520, "lr": 0.02, "checkpoint_samples": 10**6, "measure_images": 0}
    result = fit_steer(SteerConfig(gen="stylegan2_fashion", out=out, device="cpu", **settings))
    source = open_frozen("stylegan2_fashion", None, CPU)
    curves = measure_walks(source, rows_of(result.path), images=96, seed=0, points=5)
    torch.set_num_threads(threads)
    return result, {curve.name: curve for curve in curves}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shift_x", "shift_y", "zoom", "color"])
def test_on_the_embedded_generator_effects_rise_with_the_strength(fashion, name):
    curve = fashion[1][name]
    assert curve.rises, curve


@pytest.mark.slow
def test_on_the_embedded_generator_the_walks_come_nearer_to_the_targets(fashion):
    assert fashion[0].last["loss"] < 0.95 * fashion[0].last["loss_still"]

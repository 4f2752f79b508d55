"""Dead leaves: against a loop over pixels and leaves, and the laws of what a latent says."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from genrep.errors import RecipeError
from genrep.generate.generators.procedural import dead_leaves
from genrep.generate.generators.procedural.dead_leaves import open_plain, radius_table


def latents(generator, count, seed=0):
    return torch.from_numpy(generator.latent.sample(seed, np.arange(count)))


def contains(kind, dx, dy, radius, cosine, sine, proportion):
    """The definition of a shape: whether it holds a point at (dx, dy) from its centre."""
    if kind == dead_leaves.CIRCLE:
        return math.hypot(dx, dy) <= radius
    if kind == dead_leaves.RECTANGLE:
        angle = math.atan(0.2 + 1.6 * proportion)
        return abs(dx) <= radius * math.cos(angle) and abs(dy) <= radius * math.sin(angle)
    if kind == dead_leaves.SQUARE:
        return max(abs(dx), abs(dy)) <= radius / math.sqrt(2)
    along, across = dx * cosine + dy * sine, -dx * sine + dy * cosine
    if kind == dead_leaves.ORIENTED:
        return max(abs(along), abs(across)) <= radius / math.sqrt(2)
    behind = 0.9 * proportion  # a triangle with its apex on the circle and its base across, at -behind
    half_base = radius * math.sqrt(1 - behind**2)
    share = (radius - along) / (radius + radius * behind)  # 0 at the apex, 1 at the base
    return along >= -radius * behind and abs(across) <= half_base * share


@pytest.mark.slow
@pytest.mark.parametrize("shapes", ["circles", "squares", "oriented", "mixed"])
def test_a_pixel_has_the_colour_of_the_first_leaf_that_contains_it(shapes):
    generator = open_plain(height=13, width=17, shapes=shapes, leaves=24, smallest=0.08)
    z = latents(generator, 5)
    leaves, images = generator.decode(z), generator.synthesize(z)
    differ = 0
    for b in range(len(z)):
        for row in range(13):
            for column in range(17):
                found = 24
                for i in range(24):
                    dx, dy = column + 0.5 - float(leaves.x[b, i]), row + 0.5 - float(leaves.y[b, i])
                    parameters = (leaves.radius, leaves.cosine, leaves.sine, leaves.proportion)
                    if contains(int(leaves.kind[b, i]), dx, dy, *(float(each[b, i]) for each in parameters)):
                        found = i
                        break
                differ += not torch.equal(images[b, :, row, column], leaves.colours[b, found])
    assert differ <= 1  # of 1,105: a centre on a boundary, where float32 and float64 decide


def test_what_a_latent_says_has_the_laws_of_the_paper():
    generator = open_plain(height=50, width=100, leaves=2000)
    leaves = generator.decode(latents(generator, 10))
    for values, most in ((leaves.x, 100), (leaves.y, 50), ((leaves.colours + 1), 2)):
        quantiles = torch.quantile(values.flatten()[:20_000], torch.tensor([0.1, 0.5, 0.9])) / most
        assert quantiles.tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    assert torch.bincount(leaves.kind.flatten(), minlength=5).tolist() == pytest.approx([4000] * 5, rel=0.06)
    torch.testing.assert_close(leaves.cosine**2 + leaves.sine**2, torch.ones_like(leaves.sine))
    angles = torch.atan2(leaves.sine, leaves.cosine).flatten()
    assert torch.histc(angles, 8, -math.pi, math.pi).tolist() == pytest.approx([2500] * 8, rel=0.08)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_radii_have_the_stated_density(exponent):
    generator = open_plain(height=64, width=64, leaves=4000, size_exponent=exponent)
    radii = generator.decode(latents(generator, 10)).radius.flatten().double().numpy() / 64
    assert radii.min() >= 0.03 - 1e-6
    assert radii.max() <= 1 + 1e-6
    edges = np.array([0.03, 0.04, 0.06, 0.1, 0.2, 0.4, 1.0])
    found = np.histogram(radii, edges)[0] / len(radii)
    wanted = []
    for low, high in pairwise(edges):  # the integral of the density, by the rule of the midpoint
        points = low + (np.arange(20_000) + 0.5) * (high - low) / 20_000
        wanted.append((points**-exponent - (1.0 if exponent else 0.0)).sum() * (high - low) / 20_000)
    wanted = np.array(wanted) / sum(wanted)
    assert np.abs(found - wanted).max() < 4 * 0.5 / math.sqrt(len(radii))
    assert np.all(np.abs(found - wanted) <= 5 * np.sqrt(wanted / len(radii)) + 1e-6)


def test_the_table_of_radii_rises_from_0_to_1():
    below, radii = radius_table(3.0, 0.03, 1.0)
    assert (below[0], below[-1]) == (0, 1)
    assert np.all(np.diff(radii) > 0)
    assert np.all(np.diff(below) >= 0)


def test_an_image_is_the_same_in_any_batch_and_for_any_number_of_leaves_at_a_time(monkeypatch):
    generator = open_plain(height=40, width=24, leaves=100)
    z = latents(generator, 9)
    together = generator.synthesize(z)
    assert torch.equal(together, torch.cat([generator.synthesize(row[None]) for row in z]))
    monkeypatch.setattr(dead_leaves, "CANDIDATES", 100)
    assert torch.equal(together, generator.synthesize(z))


def test_what_no_leaf_covers_has_the_last_colour():
    generator = open_plain(height=16, width=16, leaves=1, smallest=0.01, largest=0.011)
    z = latents(generator, 3)
    behind = generator.decode(z).colours[:, 1]
    assert float((generator.synthesize(z) == behind[:, :, None, None]).float().mean()) > 0.98


def test_a_leaf_beyond_the_image_and_one_that_fills_it():
    generator = open_plain(height=8, width=8, shapes="circles", leaves=2, largest=4.0)
    z = torch.zeros(1, generator.latent.dim)
    z[0, 4:6] = torch.tensor([-9.0, 9.0])  # sizes: the smallest on top of the largest
    leaves = generator.decode(z)
    assert leaves.radius[0].tolist() == pytest.approx([0.24, 32], rel=0.02)
    first = generator.first_leaf(leaves)
    assert first.unique().tolist() == [1]  # the small one lies between the pixels' centres


def test_colours_alone_have_a_gradient():
    generator = open_plain(height=16, width=16, leaves=20)
    z = latents(generator, 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.synthesize(z).square().sum(), z)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient[:, :-63].abs().max()) == 0
    assert float(gradient[:, -63:].abs().max()) > 0


def test_gaussian_positives_resemble_their_anchor():
    generator = open_plain(height=32, width=32)
    z = latents(generator, 16)
    near = generator.synthesize(z + 0.1 * latents(generator, 16, seed=1))
    other = generator.synthesize(latents(generator, 16, seed=2))
    anchor = generator.synthesize(z)
    assert float((near - anchor).square().mean()) < 0.6 * float((other - anchor).square().mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 7}, "height 7: wanted a whole number from 8 to 4096"),
        ({"width": True}, "width True: wanted a whole number"),
        ({"shapes": "hearts"}, "shapes 'hearts': known: circles"),
        ({"leaves": 0}, "leaves 0: wanted a whole number from 1"),
        ({"size_exponent": -1}, "size_exponent -1: wanted a number from 0"),
        ({"smallest": 0.5, "largest": 0.2}, "largest 0.2: wanted a number from 0.505"),
        ({"smallest": "x"}, "smallest 'x': wanted a number"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(RecipeError) as caught:
        open_plain(**options)
    assert message in str(caught.value)

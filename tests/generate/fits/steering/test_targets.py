"""Targets and masks against plain loops, one transform after the other, one pixel at a time."""

import itertools
import math

import numpy as np
import pytest
import torch

from genrep.generate.fits.steering_targets import ROWS, UNITS, draw_alphas, inverse_stages, masked_error, warp

H, W = 12, 10


def alphas_of(**strengths):
    row = torch.zeros(1, len(ROWS))
    for name, value in strengths.items():
        row[0, ROWS.index(name)] = value
    return row


def forward_rotate_3d(x, y, degrees, height, width):
    """Project, turn, move, project, with 4 x 4 matrices: the released rotate_along_axis, with its plane at the origin."""
    phi, f, dx = math.radians(degrees), math.hypot(height, width), -degrees / 5 * width / 256
    to_3d = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
    turn = np.array(
        [
            [math.cos(phi), 0, -math.sin(phi), 0],
            [0, 1, 0, 0],
            [math.sin(phi), 0, math.cos(phi), 0],
            [0, 0, 0, 1],
        ]
    )
    move = np.array([[1, 0, 0, dx], [0, 1, 0, 0], [0, 0, 1, f], [0, 0, 0, 1]])
    to_2d = np.array([[f, 0, 0, 0], [0, f, 0, 0], [0, 0, 1, 0]])
    u, v, depth = to_2d @ move @ turn @ to_3d @ np.array([x, y, 1])
    return u / depth, v / depth


def forward_rotate_2d(x, y, degrees):
    """Counterclockwise as seen, y pointing down."""
    angle = math.radians(degrees)
    return math.cos(angle) * x + math.sin(angle) * y, -math.sin(angle) * x + math.cos(angle) * y


def forward_zoom_shift(x, y, view, right, down):
    return x / view + right, y / view + down


@pytest.mark.parametrize("size", [(12, 10), (9, 16)])
def test_homographies_bring_a_transformed_point_back(size):
    height, width = size
    rows = torch.from_numpy(draw_alphas(3, np.arange(40)))
    zoom_shift, flat, deep = (stage.double().numpy() for stage in inverse_stages(rows, height, width))
    for i, row in enumerate(rows.double().tolist()):
        for x, y in ((0.0, 0.0), (width / 2, -height / 3), (-width / 5, height / 2)):
            u, v = forward_rotate_3d(x, y, 60 * row[4], height, width)
            s, t = forward_rotate_2d(u, v, 30 * row[3])
            p, q = forward_zoom_shift(s, t, math.exp(row[2]), row[0] * width * 100 / 256, row[1] * height * 100 / 256)
            for stage, point, wanted in ((zoom_shift, (p, q), (s, t)), (flat, (s, t), (u, v)), (deep, (u, v), (x, y))):
                found = stage[i] @ np.array([*point, 1])
                assert found[2] > 0
                np.testing.assert_allclose(found[:2] / found[2], wanted, atol=2e-4)


def brute_force(image, row):
    """Target and mask by following each pixel back through the transforms. image (3, H, W)."""
    _, height, width = image.shape
    stages = [stage[0].double().numpy() for stage in inverse_stages(row, height, width)]
    target, mask = np.zeros(image.shape), np.zeros((height, width), dtype=bool)
    for i, j in itertools.product(range(height), range(width)):
        point, known = np.array([j + 0.5 - width / 2, i + 0.5 - height / 2, 1.0]), True
        for stage in stages:
            point = stage @ point
            point = point / point[2] if point[2] > 1e-9 else np.array([1e9, 1e9, 1])
            x, y = point[0] + width / 2 - 0.5, point[1] + height / 2 - 0.5  # in indices
            known &= -1e-3 <= x <= width - 1 + 1e-3 and -1e-3 <= y <= height - 1 + 1e-3
        mask[i, j] = known
        if known:
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            a, b = x - left, y - top
            for c in range(3):
                p = image[c]
                upper = p[top, left] * (1 - a) + p[top, left + 1] * a
                lower = p[top + 1, left] * (1 - a) + p[top + 1, left + 1] * a
                target[c, i, j] = upper * (1 - b) + lower * b + row[0, 5 + c]
    return target, mask


def test_targets_and_masks_are_those_of_plain_loops():
    rows = torch.from_numpy(draw_alphas(0, np.arange(24)))
    images = torch.rand(24, 3, H, W, generator=torch.Generator().manual_seed(0)) * 2 - 1
    target, mask = warp(images, rows)
    assert target.dtype == torch.float32 and mask.dtype == torch.bool
    for i in range(24):
        wanted, known = brute_force(images[i].double().numpy(), rows[i : i + 1])
        np.testing.assert_array_equal(mask[i, 0].numpy(), known)
        np.testing.assert_allclose(target[i].numpy()[:, known], wanted[:, known], atol=1e-3)
    assert 0.2 < mask.float().mean() < 0.8


def test_the_mask_is_that_of_sampling_ones_when_one_transform_acts():
    ones = torch.ones(1, 3, H, W)
    for strengths in ({"shift_x": 0.7}, {"zoom": 0.9}, {"rotate_2d": -0.8}, {"rotate_3d": 1.0}, {"zoom": -1.0}):
        target, mask = warp(ones, alphas_of(**strengths))
        assert torch.equal(mask[0, 0], target[0, 0] > 0.999), strengths


def test_a_corner_lost_by_a_rotation_stays_lost_under_a_shift_or_a_zoom():
    ones = torch.ones(1, 3, 32, 32)
    turned = warp(ones, alphas_of(rotate_2d=1.0))[1][0, 0]
    assert not turned[0, 0] and turned[16, 16]
    half = 16 / 32 * 256 / 100  # half of the width to the right
    shifted = warp(ones, alphas_of(rotate_2d=1.0, shift_x=half))[1][0, 0]
    assert torch.equal(shifted[:, 16:], turned[:, :16]) and not shifted[:, :16].any()
    small = warp(ones, alphas_of(rotate_2d=1.0, zoom=math.log(2)))[1][0, 0]
    outside = torch.ones_like(small)
    outside[8:24, 8:24] = False
    assert not small[outside].any()  # though the rotated corners of the image would lie there
    assert small[16, 16] and not small[8, 8]


def test_nothing_changes_at_zero_not_even_by_a_bit_of_the_mask():
    images = torch.rand(2, 3, 33, 20, generator=torch.Generator().manual_seed(1))
    target, mask = warp(images, torch.zeros(2, len(ROWS)))
    assert mask.all()
    assert torch.allclose(target, images, atol=1e-5)


@pytest.mark.parametrize(
    ("strengths", "where"),
    [
        ({"shift_x": 0.8}, (8, 13)),  # .8 * 100 / 256 * 16 = 5 pixels to the right
        ({"shift_y": -0.8}, (3, 8)),
        ({"rotate_2d": 0.0}, (8, 8)),
    ],
)
def test_shifts_move_content_by_pixels(strengths, where):
    image = torch.zeros(1, 3, 16, 16)
    image[:, :, 8, 8] = 1
    target, _ = warp(image, alphas_of(**strengths))
    assert tuple(divmod(int(target[0, 0].argmax()), 16)) == where


def test_directions_are_those_that_the_units_say():
    image = torch.zeros(1, 3, 17, 17)
    image[:, :, 8, 14] = 1  # at three o'clock
    row = int(warp(image, alphas_of(rotate_2d=1.0))[0][0, 0].argmax()) // 17
    assert row < 8 and "counterclockwise" in UNITS["rotate_2d"].name
    bar = torch.zeros(1, 3, 33, 33)
    bar[:, :, 8:25, 4:29] = 1
    tall = warp(bar, alphas_of(rotate_3d=0.5))[0][0, 0].sum(dim=0)
    lit = tall.nonzero()[:, 0].tolist()
    assert tall[lit[1]] > tall[lit[-2]] + 2 and "right side away" in UNITS["rotate_3d"].name
    assert warp(bar, alphas_of(zoom=1.0))[0].sum() < bar.sum() / 4  # more is seen, smaller


def test_colours_are_added_to_their_channels_without_clipping():
    images = torch.full((1, 3, 4, 4), 0.9)
    target, mask = warp(images, alphas_of(color_red=0.5, color_blue=-0.25))
    assert mask.all()
    assert torch.allclose(target[0, :, 0, 0], torch.tensor([1.4, 0.9, 0.65]))


def test_every_strength_that_can_be_drawn_gives_finite_targets():
    """Pixels beyond the horizon of a turned plane lie at infinity: they must be masked, and no NaN may pass the mask."""
    steps = torch.linspace(-1, 1, 13)
    rows = torch.zeros(13 * 13 * 21, len(ROWS))
    grid = torch.cartesian_prod(steps, steps, torch.linspace(-1, 1, 21))
    rows[:, [4, 3, 0]] = grid
    rows[:, 2] = math.log(4)
    target, mask = warp(torch.ones(len(rows), 3, 8, 8), rows)
    assert target.isfinite().all()
    assert torch.allclose(target[:, :1][mask], torch.ones(()), atol=1e-3)


def test_strengths_follow_the_stated_law():
    alphas = draw_alphas(5, np.arange(20_000)).astype(np.float64)
    for column, count in ((0, 21), (1, 21), (3, 13), (4, 13)):
        values, counts = np.unique(alphas[:, column].round(6), return_counts=True)
        np.testing.assert_allclose(values, np.linspace(-1, 1, count), atol=1e-6)
        assert counts.min() > 0.8 * counts.max()
    view = np.exp(alphas[:, 2])
    inside, outside = view[view < 1], view[view >= 1]
    assert abs(len(inside) / len(view) - 0.5) < 0.02
    assert (inside.min(), outside.max()) == (pytest.approx(0.25, abs=1e-3), pytest.approx(4, abs=1e-3))
    assert (inside.mean(), outside.mean()) == (pytest.approx(0.625, abs=0.01), pytest.approx(2.5, abs=0.03))
    assert np.abs(alphas[:, 5:]).max() <= 0.5 and np.allclose(alphas[:, 5:].std(axis=0), 0.5 / 3**0.5, atol=0.01)
    np.testing.assert_array_equal(draw_alphas(5, np.array([17, 3])), draw_alphas(5, np.arange(18))[[17, 3]])
    assert np.abs(np.corrcoef(alphas.T) - np.eye(8)).max() < 0.03


def test_the_error_is_the_mean_over_known_values_only():
    images, target = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    mask = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    mask[0, 0, 0], mask[1, 0, 1, 1] = True, True
    target[0, :, 0, 0], target[0, :, 1, 1] = 2.0, 100.0
    assert float(masked_error(images, target, mask)) == pytest.approx(3 * 4 / (3 * 3))
    assert float(masked_error(images, target, mask & False)) == 0

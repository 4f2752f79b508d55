"""The picture: where tiles lie, that they are the generator's pixels, and that words are beside them."""

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.generate import load_generator
from genrep.generate.pixels import to_uint8
from genrep.generate.preview.sheet import WIDTH, make_layout
from genrep.look.sheets import GROUND, LINE, clip, text_width, wrap


def tile(preview, place):
    top, left = place
    height, width = preview.layout.tile
    return preview.sheet[top : top + height, left : left + width]


def enlarged(image, factor):
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def pixels(generator, z, y=None, formula="127.5x+128"):
    with torch.no_grad():
        return to_uint8(generator.synthesize(torch.from_numpy(z), y), formula).numpy()


def test_tiles_are_the_generators_own_pixels_enlarged(preview):
    found = preview("gaussian:std=1", "uniform:radius=1", num_positives=3)
    generator = load_generator("bandgen:bands")
    assert found.layout.tile == (96, 64)  # 6 x 4 pixels, 16 times
    for row, image in enumerate(pixels(generator, found.anchors)):
        (place,) = found.layout.anchor_places(row)
        assert np.array_equal(tile(found, place), enlarged(image, 16))
    for panel, shown in enumerate(found.shown):
        for column in range(3):
            for row, image in enumerate(pixels(generator, shown.z[:, column])):
                assert np.array_equal(tile(found, found.layout.place(panel, column, row)), enlarged(image, 16))


def test_the_file_is_the_returned_array_as_rgb_on_a_light_ground(preview, gens):
    found = preview("gaussian")
    with Image.open(gens / "sheet.png") as image:
        assert (image.mode, image.format, image.size) == ("RGB", "PNG", (found.layout.width, found.layout.height))
        assert np.array_equal(np.asarray(image), found.sheet)
    assert found.sheet.shape == (found.layout.height, found.layout.width, 3)
    assert tuple(found.sheet[0, 0]) == tuple(found.sheet[-1, -1]) == GROUND and min(GROUND) > 240
    assert {path.name for path in gens.iterdir()} - {"__pycache__"} == {"bandgen.py", "sheet.png"}


def boxes(layout, panels, columns, rows):
    height, width = layout.tile
    places = [place for row in range(rows) for place in layout.anchor_places(row)]
    places += [layout.place(p, c, r) for p in range(panels) for c in range(columns) for r in range(rows)]
    return [(top, left, top + height, left + width) for top, left in places]


@pytest.mark.parametrize(
    ("shape", "panels", "columns", "rows", "most"),
    [
        ((28, 28), 2, 4, 6, None),
        ((32, 32), 6, 4, 6, None),
        ((64, 64), 1, 64, 2, None),
        ((1, 1), 1, 1, 1, None),
        ((32, 32), 3, 5, 2, 3),
        ((384, 512), 6, 4, 3, None),
        ((1024, 1024), 4, 4, 2, None),
        ((256, 256), 2, 20, 2, 40),
        ((60, 20), 40, 1, 2, 40),
    ],
)
def test_tiles_lie_inside_the_sheet_and_apart_from_each_other_and_from_words(shape, panels, columns, rows, most):
    headings = [("gaussian:std=.2,truncation=2", "layers 0-1")] * panels
    layout = make_layout(shape, headings, columns, rows, title="a title", most_columns=most)
    assert layout.width <= WIDTH
    canvas = np.zeros((layout.height, layout.width), dtype=int)
    for band in layout.bands:
        lines = max(len(piece.heading) for piece in band.pieces)
        canvas[band.bottom_of_heading - lines * LINE : band.bottom_of_heading] += 1
        assert most is None or sum(piece.end - piece.first for piece in band.pieces) <= most
    for top, left, bottom, right in boxes(layout, panels, columns, rows):
        assert 0 <= top < bottom <= layout.height and 0 <= left < right <= layout.width
        canvas[top : bottom + LINE, left:right] += 1
    assert canvas.max() == 1


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_keep_their_shape():
    for side in range(1, 96):
        factor, rest = divmod(make_layout((side, side), ["x"], 4, 1, title="t").tile[0], side)
        assert rest == 0 and factor >= 2 and 96 <= factor * side < 96 + side
    assert make_layout((100, 200), ["x"], 4, 1, title="t").tile == (100, 200)
    height, width = make_layout((384, 512), [["x"]] * 2, 4, 1, title="t").tile
    assert 200 < width < 512 and abs(height / width - 0.75) < 0.01


def test_a_large_image_is_reduced(preview):
    found = preview("gaussian:std=1", gen="bandgen:large", num_positives=8)
    height, width = found.layout.tile
    assert found.layout.width <= WIDTH and 96 <= width < 400 and height == round(width * 0.75)
    image = pixels(load_generator("bandgen:large"), found.shown[0].z[:, 5])[1]
    middle = image[[50, 150, 250]][:, 200]
    at = [round(row * height / 300) for row in (50, 150, 250)]
    assert np.abs(tile(found, found.layout.place(0, 5, 1))[at][:, width // 2].astype(int) - middle).max() <= 3


def test_panels_that_do_not_fit_go_below_with_their_anchors(preview):
    found = preview("gaussian", "uniform", "angular", columns=4)
    assert [[piece.panel for piece in band.pieces] for band in found.layout.bands] == [[0, 1], [2]]
    anchors = [tile(found, place) for place in found.layout.anchor_places(1)]
    assert len(anchors) == 2 and np.array_equal(*anchors) and len(np.unique(anchors[0])) > 1


def test_every_image_has_its_words(preview):
    found = preview("gaussian:std=1", "uniform")
    height, width = found.layout.tile

    def ink(top, left, bottom, right):
        return (found.sheet[top:bottom, left:right].max(axis=2) < 128).sum()

    for top, left, _, _ in boxes(found.layout, 2, 2, 3):
        assert ink(top + height, left, top + height + LINE, left + width) > 10
    for piece in found.layout.bands[0].pieces:
        assert ink(found.layout.bands[0].top, piece.left, found.layout.bands[0].bottom_of_heading - 2, piece.right) > 50
    assert [piece.heading for piece in found.layout.bands[0].pieces] == [("gaussian:std=1",), ("uniform",)]


@pytest.mark.parametrize("most", [10, 40, 90, 300])
@pytest.mark.parametrize(
    "words",
    [
        "gaussian:std=.2,truncation=2",
        "hierarchical:over=layers,0-1=gaussian,2-3=genrep-gaussian-conditional",
        "navigator:weights=a/navigator_of_a_very_long_name.safetensors",
        "seed 0. Below each positive: its distance |z' - z|.",
        "x" * 200,
        "",
    ],
)
def test_wrapped_lines_fit_and_lose_nothing(words, most):
    lines = wrap(words, most)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    assert all(text_width(line) <= most or len(line) == 1 for line in lines)


def test_a_text_that_is_too_wide_is_clipped():
    assert clip("pair 0", 100) == "pair 0"
    clipped = clip("12: Egyptian cat, or so", 80)
    assert clipped.endswith("...") and clipped.startswith("12: E") and text_width(clipped) <= 80

"""Sheets of pictures: tiles that can be seen, in their places, with their words beside them."""

from __future__ import annotations

import numpy as np
import pytest

from genrep.look.sheets import GROUND, LARGEST, LINE, TILE, Band, Placed, centred, draw_sheet, place, tile_shape


def pictures(count: int, height: int = 8, width: int = 8) -> list[np.ndarray]:
    generator = np.random.default_rng(count)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_small_pictures_are_enlarged_by_a_whole_factor_and_large_ones_reduced() -> None:
    for side in range(1, TILE):
        height, width = tile_shape(side, side)
        assert height == width and height % side == 0 and TILE <= height < TILE + side
    assert tile_shape(28, 28) == (112, 112) and tile_shape(32, 32) == (96, 96) and tile_shape(8, 12) == (64, 96)
    assert tile_shape(128, 160) == (128, 160) and tile_shape(512, 1024) == (LARGEST // 2, LARGEST)
    assert tile_shape(1, 5000) == (1, LARGEST)


def tile(sheet: np.ndarray, at: Placed, row: int, column: int) -> np.ndarray:
    top, left = at.tops[row], at.lefts[column]
    return sheet[top : top + at.tile[0], left : left + at.tile[1]]


def test_every_picture_stands_in_its_place_pixel_by_pixel() -> None:
    rows = [pictures(4), pictures(2)]  # the last row may be shorter
    bands = [Band(rows=rows, block=2, captions=[["a", "b"], ["c"]]), Band(rows=[pictures(3, 32, 16)], title="title")]
    sheet, places = draw_sheet(bands), place(bands)
    for band, at in zip(bands, places):
        for row, shown in enumerate(band.rows):
            for column, picture in enumerate(shown):
                factor = at.tile[0] // picture.shape[0]
                enlarged = picture.repeat(factor, axis=0).repeat(factor, axis=1)
                np.testing.assert_array_equal(tile(sheet, at, row, column), enlarged)
    assert (tile(sheet, places[0], 1, 2) == GROUND).all()
    assert places[0].bottom == places[1].top and sheet.shape == (places[1].bottom, places[1].right, 3)
    gaps = np.diff(places[0].lefts) - places[0].tile[1]
    assert gaps[0] == gaps[2] < gaps[1]  # what belongs together stands together


@pytest.mark.parametrize("words", ["title", "names", "captions"])
def test_words_stand_beside_the_pictures_and_never_on_them(words: str) -> None:
    rows = [pictures(2), pictures(2)]
    said = {
        "title": "gW" * 9,
        "names": ["navigator of a long name", "y"],
        "captions": [["0: Bag", "j"], ["gW" * 99, "2"]],
    }
    band = Band(rows=rows, **{words: said[words]})  # type: ignore[arg-type]
    sheet, at = draw_sheet([band]), place([band])[0]
    ink = (sheet != GROUND).any(axis=2)
    for row in range(2):
        for column in range(2):
            top, left = at.tops[row], at.lefts[column]
            ink[top : top + at.tile[0], left : left + at.tile[1]] = False
    assert not ink[:, : at.lefts[0]].any() and not ink[-2:].any() and not ink[:2].any()
    above, below = ink[: at.tops[0]].sum(), ink[at.names_top :].sum()
    between = ink[at.tops[0] : at.names_top].sum()
    assert (above > 50, below > 50, between > 50) == (words == "title", words == "names", words == "captions")
    if words == "names":
        assert len(at.names[0]) > 1 and at.bottom > at.names_top + 2 * LINE  # a long name takes several lines


def test_a_picture_of_another_size_is_centred() -> None:
    (picture,) = pictures(1, 4, 6)
    np.testing.assert_array_equal(centred(picture, 8, 8)[2:6, 1:7], picture)
    assert (centred(picture, 8, 8)[:2] == GROUND).all()
    assert centred(picture, 4, 6) is picture
    assert centred(pictures(1, 40, 80)[0], 8, 8).shape == (8, 8, 3)

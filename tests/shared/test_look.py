"""Colours that stay apart for every eye, and plots that are the same bytes for the same numbers."""

from __future__ import annotations

import io
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep.look.colours import DARK, LIGHT, THEMES, Theme
from genrep.look.plots import draw, draw_as, line_style, plain

# What an eye without one kind of cones sees of linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
EYES = {
    "all cones": np.eye(3),
    "no long ones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no middle ones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no short ones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    xyz = xyz / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("eye", EYES)
def test_colours_of_a_cycle_differ_for_every_eye(theme: Theme, eye: str) -> None:
    seen = [lab(np.clip(np.array(EYES[eye]) @ linear(colour), 0, 1)) for colour in theme.cycle]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 25


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_lines_and_words_stand_out_from_their_ground(theme: Theme) -> None:
    assert min(contrast(colour, theme.ground) for colour in theme.cycle) >= 3  # WCAG 2.2 on graphics
    assert min(contrast(colour, theme.ground) for colour in (theme.ink, theme.quiet)) >= 4.5  # and on words


def test_lines_differ_without_their_colours_too() -> None:
    styles = [line_style(LIGHT, number, 5) for number in range(24)]
    assert len({(one["color"], one["linestyle"]) for one in styles}) == 24
    assert all(one["linestyle"] != other["linestyle"] for one, other in pairwise(styles))
    assert len({one["marker"] for one in styles[:7]}) == 7


def test_few_points_of_a_long_line_are_marked() -> None:
    assert line_style(LIGHT, 0, 5)["markevery"] == 1
    assert 1000 / line_style(LIGHT, 0, 1000)["markevery"] < 14


def figure(theme: Theme) -> Any:
    from matplotlib.figure import Figure

    made = Figure(figsize=(2, 1.5), layout="constrained")
    made.subplots().plot([1, 2], [3, 4], **line_style(theme, 0, 2), label=plain("_a $x$"))
    made.legend()
    return made


def test_a_plot_is_a_function_of_its_numbers_and_no_one_elses_style() -> None:
    import matplotlib as mpl

    first = draw(figure)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert draw(figure) == first and mpl.rcParams["font.size"] == 30
    assert draw_as(DARK, figure) == first.dark != first.light
    for theme, png in ((LIGHT, first.light), (DARK, first.dark)):
        with Image.open(io.BytesIO(png)) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
        assert (pixels[..., 3] == 255).all()  # readable on a page of any colour
        assert "#{:02x}{:02x}{:02x}".format(*pixels[0, 0, :3]) == theme.ground


def test_names_stay_names() -> None:
    assert (plain("$x_1$"), plain("_hidden"), plain("a_b")) == (r"\$x_1\$", " _hidden", "a_b")

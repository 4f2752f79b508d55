"""Checks of the options that the families without weights take."""

from __future__ import annotations

import math
from typing import Any

from genrep.errors import RecipeError, one_of

MAX_SIDE = 4096


def whole(name: str, value: Any, least: int, most: int) -> int:
    """The whole number of an option. Raises RecipeError if it is none from ``least`` to ``most``."""
    if type(value) is not int or not least <= value <= most:
        raise RecipeError(f"{name} {value!r}: wanted a whole number from {least} to {most}")
    return value


def number(name: str, value: Any, least: float, most: float) -> float:
    """The number of an option. Raises RecipeError if it is none from ``least`` to ``most``."""
    if type(value) not in (int, float) or not (math.isfinite(value) and least <= value <= most):
        raise RecipeError(f"{name} {value!r}: wanted a number from {least:g} to {most:g}")
    return float(value)


def choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    """The word of an option. Raises RecipeError if it is not among the known ones."""
    if value not in known:
        raise RecipeError(f"{name} {value!r}: known: {one_of(value, known)}")
    return str(value)


def image_shape(height: Any, width: Any) -> tuple[int, int]:
    """Height and width of the images. Raises RecipeError unless they are from 8 to 4096 pixels."""
    return whole("height", height, 8, MAX_SIDE), whole("width", width, 8, MAX_SIDE)

"""Ranges of chunks and W layers: ``3``, or ``1-5`` with both ends included, counted from 0."""

from __future__ import annotations

import re

from genrep.errors import RecipeError


def parse_range(text: str, where: str) -> tuple[int, int]:
    """First and last number of a range. Raises RecipeError, whose line ``where`` begins, if it is none."""
    return check_range(text, None, where, "")


def check_range(text: str, count: int | None, where: str, what: str) -> tuple[int, int]:
    """First and last number of a range within ``count`` (None: any). ``where`` begins the error's line.

    Raises:
        RecipeError: it is no range, or it goes beyond what there is.
    """
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text, flags=re.ASCII)
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise RecipeError(f"{where} {text!r}: wanted a number or a range such as 1-5")
    first, last = int(match[1]), int(match[2] or match[1])
    if count is not None and last >= count:
        raise RecipeError(f"{where} {text}: this generator has {what} 0 to {count - 1}")
    return first, last


def show_range(first: int, last: int) -> str:
    """``1-5``, or ``3`` for one number."""
    return str(first) if first == last else f"{first}-{last}"

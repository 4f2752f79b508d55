"""Pieces of the page that its sections share. What comes from the dataset is cut and escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from genrep.untrusted import label

from ..layout import shape_in_words
from ..manifest import Manifest

MAX_NAME = 80  # characters of a class name
MAX_VALUE = 160  # of another value, as ``show`` prints it


def text(value: object, length: int = MAX_VALUE) -> str:
    """A stranger's value as text of the page: cut, escaped, and read in its own direction."""
    return f"<bdi>{escape(label(value, length))}</bdi>"


def note(*sentences: str) -> str:
    """A quiet paragraph."""
    return f'<p class="note">{" ".join(sentence for sentence in sentences if sentence)}</p>'


def fold(title: str, body: str) -> str:
    """What few want to see."""
    return f"<details>\n<summary>{title}</summary>\n{body}\n</details>"


def rows(items: Sequence[tuple[str, str]], kind: str = "narrow") -> str:
    """A list of names and values, which are markup already."""
    inner = "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in items)
    return f'<dl class="{kind}">\n{inner}\n</dl>'


def points(sentences: Sequence[str]) -> str:
    """A list of plain sentences."""
    inner = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="points">\n{inner}\n</ul>'


def noun(manifest: Manifest) -> str:
    """What a sample is."""
    return "pair" if manifest.num_positives else "image"


def size_of(manifest: Manifest) -> str:
    """``32 × 32``, ``up to 256 × 512``: height and width."""
    return shape_in_words(manifest.image_fields[0]).removesuffix(" x 3").replace(" x ", " × ")

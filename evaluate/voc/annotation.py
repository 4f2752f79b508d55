"""One annotation file of Pascal VOC's layout: which objects are where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genrep.errors import DataError
from genrep.untrusted import printable, shown

from .xml_tree import read_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """An object as its annotation has it."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels, counted from 1, both ends inside
    difficult: bool


def read_annotation(path: Path) -> tuple[tuple[int, int] | None, list[Annotated], int]:
    """The image's (width, height), None where the file does not tell it; its objects; how many objects have no box.

    Coordinates may be fractions. Parts of objects (VOC's person layout) are left aside.

    Raises:
        DataError: as ``read_xml``, or the root is another element, an object has no name, or its box lacks a coordinate or has
            one that is no finite number. The message names the file.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{_name(path)}: its root element is <{shown(root.tag)[1:-1]}>; wanted <annotation>")
    objects = root.findall("object")
    boxed = [element for element in objects if _has_box(element)]
    return _size(root), [_object(path, element) for element in boxed], len(objects) - len(boxed)


def _name(path: Path) -> str:
    return printable(str(path))


def _has_box(element: Element) -> bool:
    """Rotated boxes, polygons and labels of the whole image are no ``bndbox``; some tools write an empty one."""
    return any(element.findtext(f"bndbox/{side}", "").strip() for side in SIDES)


def _size(root: Element) -> tuple[int, int] | None:
    """Some tools write no size, or zeros: then the image itself is asked."""
    try:
        width, height = (int(root.findtext(f"size/{name}", "")) for name in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _object(path: Path, element: Element) -> Annotated:
    name = element.findtext("name", "").strip()
    if not name:
        raise DataError(f"{_name(path)}: an object without a name")
    values = []
    for side in SIDES:
        text = element.findtext(f"bndbox/{side}", "").strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            found = f"is {shown(text)}" if text else "is missing"
            raise DataError(f"{_name(path)}: {side} of an object {shown(name)} {found}; wanted a number of pixels")
        values.append(value)
    xmin, ymin, xmax, ymax = values
    difficult = element.findtext("difficult", "0").strip()
    if difficult not in ("", "0", "1"):
        raise DataError(f"{_name(path)}: difficult of an object {shown(name)} is {shown(difficult)}; wanted 0 or 1")
    return Annotated(name=name, box=(xmin, ymin, xmax, ymax), difficult=difficult == "1")

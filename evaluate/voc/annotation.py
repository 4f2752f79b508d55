"""One annotation file of Pascal VOC's layout: which objects are where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from genrep.errors import DataError

if TYPE_CHECKING:
    from pyexpat import XMLParserType

SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """An object as its annotation has it."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels, counted from 1, both ends inside
    difficult: bool


def read_annotation(path: Path) -> tuple[tuple[int, int] | None, list[Annotated]]:
    """The image's (width, height), None where the file does not tell it, and its objects.

    Coordinates may be fractions. Parts of objects (VOC's person layout) are left aside.

    Raises:
        DataError: the file is missing, no XML, has a DOCTYPE (entities are never expanded), or an object without a name or
            with a coordinate that is no finite number.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(f"{path}: its root element is <{root.tag}>; wanted <annotation>")
    return _size(root), [_object(path, element) for element in root.findall("object")]


def _parse(path: Path) -> Element:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; wanted an annotation file") from error
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise DataError(f"{path}: has a DOCTYPE; wanted plain XML without one")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    _feed(parser, data, path)
    return builder.close()


def _feed(parser: XMLParserType, data: bytes, path: Path) -> None:
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(f"{path}: not readable as XML ({error})") from error


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
        raise DataError(f"{path}: an object without a name")
    values = []
    for side in SIDES:
        text = element.findtext(f"bndbox/{side}", "").strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{path}: {side} of an object {name!r} is {text!r}; wanted a number of pixels")
        values.append(value)
    xmin, ymin, xmax, ymax = values
    difficult = element.findtext("difficult", "0").strip()
    if difficult not in ("", "0", "1"):
        raise DataError(f"{path}: difficult of an object {name!r} is {difficult!r}; wanted 0 or 1")
    return Annotated(name=name, box=(xmin, ymin, xmax, ymax), difficult=difficult == "1")

"""Files of Pascal VOC's layout, one at a time: an annotation with its objects, the list of a split, and the images it means.

An annotation is a stranger's XML, read within bounds.

VOC's own lists have a bare name a line, with or without a label behind it. Others have names with spaces, with the image's
suffix, or paths (``JPEGImages/x.jpg``, ``/data/VOC2007/JPEGImages/x.jpg Annotations/x.xml``). A line means the first of its
readings that has an annotation.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from genrep.errors import DataError
from genrep.images.folders import image_suffixes
from genrep.untrusted import content_faults, one_line, printable, read_bounded, shown

if TYPE_CHECKING:
    from pyexpat import XMLParserType

MOST_ANNOTATION_BYTES = 16 << 20  # some 30,000 boxes
MOST_ELEMENTS = 200_000
DEEPEST = 64
# The first bytes of a text that begins with "<?xm", or its byte order mark (XML 1.0, appendix F); longer marks first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
EBCDIC = b"\x4c\x6f\xa7\x94"  # "<?xm" in all of its pages
DECLARED = re.compile(r"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._:-]*)["']""")
DECLARATION = re.compile(r"<\?xml[^>]{0,300}\?>")
# Not encodings of texts: their decoders take quadratic time, or read escapes that XML does not have.
NO_TEXT = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")
SIDES = ("xmin", "ymin", "xmax", "ymax")
MOST_LIST_BYTES = 256 << 20
LABEL = re.compile(r"\s+[+-]?[01]$")  # VOC's: 1 shown, 0 difficult, -1 not shown
PARTS = ("JPEGImages", "Annotations")  # of a path in a list: what stands behind the last of them is the name


def read_xml(path: Path) -> Element:
    """The root element of an XML file.

    Raises:
        DataError: the file is missing or no regular file, is no XML in an encoding that Python knows, has a DOCTYPE (entities
            are never expanded), or exceeds a bound.
    """
    data = read_bounded(path, MOST_ANNOTATION_BYTES, DataError, follow=True)
    where = printable(str(path))
    with content_faults(path, DataError, "an annotation as XML"):
        encoding = _encoding(data)
        try:
            text = data.decode(encoding)
        except LookupError:
            raise DataError(f"{where}: encoding {shown(encoding)} is unknown; wanted one that Python knows") from None
        except UnicodeError as error:
            raise DataError(f"{where}: not readable as XML (not {encoding}: {one_line(str(error))})") from error
        text = text.removeprefix("\ufeff")
        declaration = DECLARATION.match(text)  # says how the file was encoded, and the text no longer is
        return _parse(text[declaration.end() :] if declaration else text, where)


def _encoding(data: bytes) -> str:
    """The name of the codec, as the file's first bytes or its declaration have it; UTF-8 where neither says one."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    head = data[:400]
    text = head.decode("cp037") if head.startswith(EBCDIC) else head.decode("latin-1")
    found = DECLARED.match(text.lstrip())
    if found is None:
        return "cp037" if head.startswith(EBCDIC) else "utf-8"
    name = codecs.lookup(found[1]).name
    if name in NO_TEXT:
        raise LookupError(f"encoding {name} is not one of texts")
    return "utf-8" if name.startswith(("utf-16", "utf-32")) else name  # of a string in memory; these bytes are not


def _parse(text: str, where: str) -> Element:
    builder, parser = TreeBuilder(), expat.ParserCreate("utf-8")
    depth = elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > DEEPEST or elements > MOST_ELEMENTS:
            raise DataError(f"{where}: wanted at most {DEEPEST} levels and {MOST_ELEMENTS:,} elements")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise DataError(f"{where}: has a DOCTYPE; wanted plain XML without one")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    _feed(parser, text, where)
    return builder.close()


def _feed(parser: XMLParserType, text: str, where: str) -> None:
    try:
        parser.Parse(text.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError as error:
        raise DataError(f"{where}: not readable as XML ({error})") from error


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """An object as its annotation has it."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels, counted from 1, both ends inside
    difficult: bool


def read_annotation(path: Path) -> tuple[tuple[int, int] | None, list[Annotated], int]:
    """The image's (width, height), or None if the file lacks it; its objects; and the number of objects without a box.

    Coordinates may be fractions. Parts of objects (VOC's person layout) are left aside.

    Raises:
        DataError: as ``read_xml``, or the root is another element, an object has no name, or its box lacks a coordinate or has
            one that is not a finite number. The message names the file.
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


@dataclass(frozen=True, kw_only=True)
class ListLine:
    """A line of a list."""

    name: str  # as in Annotations/<name>.xml
    suffix: str  # of the image, where the line has one
    annotation: Path


def read_list(root: Path, split: str) -> list[ListLine]:
    """The images of a split, in the order of its list.

    Raises:
        DataError: the list is missing, not text, or empty; a line has no annotation; or two lines have the same one.
    """
    path = root / "ImageSets/Main" / f"{split}.txt"
    where = printable(str(path))
    if not path.exists():
        there = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
        raise DataError(f"{where}: no such list; this folder has {', '.join(map(printable, there)) or 'none'}")
    data = read_bounded(path, MOST_LIST_BYTES, DataError, follow=True)
    with content_faults(path, DataError, "one image a line in UTF-8"):
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    found: dict[Path, ListLine] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (line := line.strip()):
            continue
        one = _meant(root / "Annotations", line)
        if one is None:
            raise DataError(
                f"{where}: line {number}: {shown(line)} has no Annotations/{_bare(line)}.xml; wanted the name of an image"
            )
        if one.annotation in found:
            raise DataError(f"{where}: names {shown(one.name)} twice")
        found[one.annotation] = one
    if not found:
        raise DataError(f"{where}: empty; wanted one image a line")
    return list(found.values())


def _meant(annotations: Path, line: str) -> ListLine | None:
    for name, suffix in _readings(line):
        annotation = annotations / f"{name}.xml"
        try:
            if annotation.exists():
                return ListLine(name=name, suffix=suffix, annotation=annotation)
        except (OSError, ValueError):  # a name that no file can have
            continue
    return None


def _readings(line: str) -> Iterator[tuple[str, str]]:
    """Names without and with what may be a suffix, from the most literal one on; none leaves the folder."""
    unlabelled = LABEL.sub("", line)
    last = line.split()[-1]  # of two columns, image and annotation
    for text in dict.fromkeys((line, unlabelled, *([last] if last.endswith(".xml") else []))):
        for name in _places(text):
            yield name, ""
            stem, dot, suffix = name.rpartition(".")
            if dot and f".{suffix.lower()}" in (*image_suffixes(), ".xml"):
                yield stem, "" if suffix.lower() == "xml" else f".{suffix}"


def _places(text: str) -> list[str]:
    """The name, what stands behind JPEGImages/ or Annotations/ in it, and its last part."""
    parts = [part for part in PurePosixPath(text.replace("\\", "/")).parts if part not in ("/", ".")]
    begin = max((place + 1 for place, part in enumerate(parts) if part in PARTS), default=0)
    found = ["/".join(parts[at:]) for at in (0, begin, len(parts) - 1) if parts[at:] and ".." not in parts[at:]]
    return list(dict.fromkeys([text, *found] if "/" not in text and text != ".." else found))


def _bare(line: str) -> str:
    return shown(_places(LABEL.sub("", line))[-1] if _places(LABEL.sub("", line)) else line)[1:-1]


class ImageNames:
    """The image files of a JPEGImages folder by their names without suffix; a subfolder is read when a name asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, listed: ListLine) -> Path | None:
        """The regular file (or a link to one) of the name: by the list's suffix, else the first of ``image_suffixes``."""
        inner, _, name = listed.name.rpartition("/")
        if inner not in self._folders:
            self._folders[inner] = self._read(self.folder / inner)
        suffixes = self._folders[inner].get(name, [])
        first = [listed.suffix] if listed.suffix in suffixes else []
        ordered = [*first, *sorted(suffixes, key=lambda suffix: (image_suffixes().index(suffix.lower()), suffix))]
        return next((p for suffix in ordered if (p := self.folder / inner / f"{name}{suffix}").is_file()), None)

    def _read(self, folder: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix.lower() in image_suffixes():
                found.setdefault(path.stem, []).append(path.suffix)
        return found

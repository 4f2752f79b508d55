"""A stranger's XML as a tree: any encoding that Python knows, no DOCTYPE, and bounds on bytes, depth and elements.

Expat itself reads UTF-8, UTF-16, ASCII and Latin-1. Every other text is decoded by Python's codec and given to it as UTF-8.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from genrep.errors import DataError
from genrep.untrusted import content_faults, one_line, printable, read_bounded, shown

if TYPE_CHECKING:
    from pyexpat import XMLParserType

MOST_BYTES = 16 << 20  # some 30,000 boxes
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


def read_xml(path: Path) -> Element:
    """The root element of an XML file.

    Raises:
        DataError: the file is missing or no regular file, is no XML in an encoding that Python knows, has a DOCTYPE (entities
            are never expanded), or exceeds a bound.
    """
    data = read_bounded(path, MOST_BYTES, DataError, follow=True)
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

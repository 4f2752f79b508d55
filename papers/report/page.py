"""A page of headings, paragraphs, tables and pictures, as Markdown and as HTML that needs nothing besides itself."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A title of a part."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Text."""

    text: str


@dataclass(frozen=True)
class BulletList:
    """Points."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells; numbers to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool] = ()  # of each column


@dataclass(frozen=True)
class Picture:
    """A PNG file and a description of what it shows."""

    name: str  # of the file
    png: bytes
    alt: str


@dataclass(frozen=True)
class Fold:
    """Pairs that few want to see: names and values."""

    title: str
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Lines as a program printed them."""

    text: str


Block = Heading | Paragraph | BulletList | Table | Picture | Fold | Code
_MARKDOWN = re.compile(r"[\\`*\[\]<|~&]|(?<!\w)_|_(?!\w)")
_LINE_START = re.compile(r"^(\d*)([-+#>=.)])")  # what would make a line a list, a title or a quotation
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .8rem 0; display: block; overflow-x: auto }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
th { border-bottom: 2px solid #888 }
.r { text-align: right; font-variant-numeric: tabular-nums }
td.r { white-space: nowrap }
img { max-width: 100%; height: auto }
summary { cursor: pointer }
dt { font-weight: 600 }
"""


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page; pictures lie beside it."""
    return "\n\n".join([f"# {_md(title)}", *(_MD[type(block)](block) for block in blocks)]) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page; pictures are in it."""
    body = "\n".join([f"<h1>{_ht(title)}</h1>", *(_HTML[type(block)](block) for block in blocks)])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_ht(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _one_line(text: str) -> str:
    """Without what would end a line, a cell, or turn the direction of text."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _md(text: str) -> str:
    return _MARKDOWN.sub(lambda found: "\\" + found[0], _one_line(text))


def _md_line(text: str) -> str:
    """Where a line begins."""
    return _LINE_START.sub(r"\1\\\2", _md(text))


def _ht(text: str) -> str:
    return html.escape(_one_line(text))


def _aligned(table: Table) -> list[bool]:
    return [*table.right, *[False] * (len(table.head) - len(table.right))]


def _md_table(table: Table) -> str:
    rule = ["---:" if right else "---" for right in _aligned(table)]
    rows = [[_md(cell) for cell in row] for row in (table.head, *table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def _html_table(table: Table) -> str:
    marks = [' class="r"' if right else "" for right in _aligned(table)]

    def line(row: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}{mark}>{_ht(cell)}</{tag}>" for mark, cell in zip(marks, row)) + "</tr>"

    body = "\n".join(line(row, "td") for row in table.rows)
    return f"<table>\n<thead>\n{line(table.head, 'th')}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return f'<p><img src="data:image/png;base64,{data}" alt="{_ht(picture.alt)}"></p>'


def _md_fold(fold: Fold) -> str:
    items = "\n".join(f"- {_md_line(name)}: {_md(value)}" for name, value in fold.items)
    return f"<details>\n<summary>{_ht(fold.title)}</summary>\n\n{items}\n\n</details>"


def _html_fold(fold: Fold) -> str:
    items = "".join(f"<dt>{_ht(name)}</dt><dd>{_ht(value)}</dd>" for name, value in fold.items)
    return f"<details>\n<summary>{_ht(fold.title)}</summary>\n<dl>{items}</dl>\n</details>"


def _lines(text: str) -> str:
    lines = ("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _md_code(code: Code) -> str:
    lines = _lines(code.text)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", lines))])
    return f"{fence}\n{lines}\n{fence}"


_MD: dict[type, Callable[..., str]] = {
    Heading: lambda block: f"{'#' * block.level} {_md(block.text)}",
    Paragraph: lambda block: _md_line(block.text),
    BulletList: lambda block: "\n".join(f"- {_md_line(item)}" for item in block.items),
    Table: _md_table,
    Picture: lambda block: f"![{_md(block.alt)}]({block.name})",
    Fold: _md_fold,
    Code: _md_code,
}
_HTML: dict[type, Callable[..., str]] = {
    Heading: lambda block: f"<h{block.level}>{_ht(block.text)}</h{block.level}>",
    Paragraph: lambda block: f"<p>{_ht(block.text)}</p>",
    BulletList: lambda block: "<ul>" + "".join(f"<li>{_ht(item)}</li>" for item in block.items) + "</ul>",
    Table: _html_table,
    Picture: _html_picture,
    Fold: _html_fold,
    Code: lambda block: f"<pre>{html.escape(_lines(block.text))}</pre>",
}

"""A page of headings, paragraphs, tables and pictures, as Markdown and as HTML that needs nothing besides itself.

The HTML looks like the page of a dataset (``genrep.look.pages``). Its plots follow the reader's choice of light or dark.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from genrep.look.pages import address, head, jumps, page_style, section
from genrep.look.plots import Plot


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
    their_columns: Sequence[bool] = ()  # which of them hold what others published
    their_rows: Sequence[bool] = ()  # likewise


@dataclass(frozen=True)
class Picture:
    """A plot and a description of what it shows."""

    name: str  # of the file of its light version
    plot: Plot
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


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page; pictures lie beside it."""
    return "\n\n".join([f"# {_md(title)}", *(_MD[type(block)](block) for block in blocks)]) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page; pictures are in it. Each heading of level 2 begins a section."""
    before, parts = _parts(blocks)
    said = [f'<p class="note">{_ht(block.text)}</p>' for block in before if isinstance(block, Paragraph)]
    shown = [_HTML[type(block)](block) for block in before if not isinstance(block, Paragraph)]
    ways = [(f"part-{number}", _ht(heading.text)) for number, (heading, _) in enumerate(parts, 1)]
    sections = [
        section(name, words, *(_HTML[type(block)](block) for block in inside))
        for (name, words), (_, inside) in zip(ways, parts)
    ]
    lines = [
        head(_ht(title), page_style()),
        '<body>\n<a class="skip" href="#main">Skip to the results</a>\n<div class="page report">',
        f'<header>\n<p class="kind">Report</p>\n<h1>{_ht(title)}</h1>',
        *said,
        jumps(ways) if len(ways) > 1 else "",
        '</header>\n<main id="main">',
        *(['<section aria-label="In short">', *shown, "</section>"] if shown else []),
        *sections,
        "</main>\n</div>\n</body>\n</html>\n",
    ]
    return "\n".join(line for line in lines if line)


def _parts(blocks: Sequence[Block]) -> tuple[list[Block], list[tuple[Heading, list[Block]]]]:
    """What stands before the first heading of level 2, and what follows each."""
    before: list[Block] = []
    parts: list[tuple[Heading, list[Block]]] = []
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            parts.append((block, []))
        else:
            (parts[-1][1] if parts else before).append(block)
    return before, parts


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


def _marked(marks: Sequence[bool], count: int) -> list[bool]:
    return [*marks, *[False] * (count - len(marks))]


def _md_table(table: Table) -> str:
    rule = ["---:" if right else "---" for right in _marked(table.right, len(table.head))]
    rows = [[_md(cell) for cell in row] for row in (table.head, *table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def _html_table(table: Table) -> str:
    count = len(table.head)
    columns = list(zip(_marked(table.right, count), _marked(table.their_columns, count)))
    classes = [" ".join(["r"] * right + ["theirs"] * theirs) for right, theirs in columns]
    marks = [f' class="{names}"' if names else "" for names in classes]

    def line(row: Sequence[str], tag: str, theirs: bool = False) -> str:
        cells = "".join(f"<{tag}{mark}>{_ht(cell)}</{tag.split()[0]}>" for mark, cell in zip(marks, row))
        return f'<tr class="theirs">{cells}</tr>' if theirs else f"<tr>{cells}</tr>"

    body = "\n".join(
        line(row, "td", theirs) for row, theirs in zip(table.rows, _marked(table.their_rows, len(table.rows)))
    )
    first = line(table.head, 'th scope="col"')
    return (
        '<div class="table" tabindex="0" role="group" aria-label="Table">\n<table>\n'
        f"<thead>\n{first}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _html_picture(picture: Picture) -> str:
    return (
        '<div class="plot"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{address(picture.plot.dark)}">'
        f'<img src="{address(picture.plot.light)}" alt="{_ht(picture.alt)}"></picture></div>'
    )


def _md_fold(fold: Fold) -> str:
    items = "\n".join(f"- {_md_line(name)}: {_md(value)}" for name, value in fold.items)
    return f"<details>\n<summary>{_ht(fold.title)}</summary>\n\n{items}\n\n</details>"


def _html_fold(fold: Fold) -> str:
    items = "".join(f"<dt>{_ht(name)}</dt><dd>{_ht(value)}</dd>" for name, value in fold.items)
    return f'<details>\n<summary>{_ht(fold.title)}</summary>\n<dl class="wide">{items}</dl>\n</details>'


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
    Paragraph: lambda block: f'<p class="essay">{_ht(block.text)}</p>',
    BulletList: lambda block: (
        '<ul class="points">' + "".join(f"<li>{_ht(item)}</li>" for item in block.items) + "</ul>"
    ),
    Table: _html_table,
    Picture: _html_picture,
    Fold: _html_fold,
    Code: lambda block: (
        f'<pre tabindex="0" role="group" aria-label="Printed lines">{html.escape(_lines(block.text))}</pre>'
    ),
}

"""A page of HTML that holds its style, its script and its pictures, and lets nothing else in.

The policy names the one style and the one script by their digests, so that markup which slipped through would still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files

ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect x='1' y='1' width='9' height='9' rx='2' "
    "fill='#0b5cad'/><rect x='6' y='6' width='9' height='9' rx='2' fill='#e08a2e'/></svg>"
)


def page_style(own: str = "") -> str:
    """The style of every page; ``own``: what one kind of page has besides."""
    return (files(__package__) / "page.css").read_text(encoding="utf-8") + own


def policy(style: str, script: str | None = None) -> str:
    """What a page may do: show the pictures that it holds, with this style and this script."""
    scripts = "" if script is None else f"script-src '{_digest(script)}'; "
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; {scripts}base-uri 'none'; form-action 'none'"
    )


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def head(title: str, style: str, script: str | None = None) -> str:
    """From the doctype to the end of the head. ``title`` is markup already."""
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy(style, script)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">',
            f"<title>{title}</title>",
            f'<link rel="icon" href="{address(ICON.encode(), "svg+xml")}">',
            f"<style>{style}</style>\n</head>",
        )
    )


def address(picture: bytes, kind: str = "png") -> str:
    """A picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def section(name: str, title: str, *body: str) -> str:
    """A landmark with a heading; everything is markup already."""
    inner = "\n".join(part for part in body if part)
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>\n{inner}\n</section>'
    )


def jumps(links: Sequence[tuple[str, str]]) -> str:
    """The way to each section: its name and its title, which is markup already."""
    inner = "\n".join(f'<a href="#{escape(name)}">{words}</a>' for name, words in links)
    return f'<nav class="jumps" aria-label="On this page">\n{inner}\n</nav>'

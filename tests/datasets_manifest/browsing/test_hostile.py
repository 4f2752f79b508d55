"""What a stranger wrote into a manifest stands on the page as text, short, and does nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from genrep import datasets_manifest
from genrep.datasets_manifest.browsing import BrowseConfig, browse

from .conftest import Page, build

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!-- <script> -->",
    "\"'><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</style></title></select></button></pre><h1>",
    "javascript:alert(1)",
    "&lt;b&gt; &amp; &#60;",
    "{{7*7}} ${7*7} `id`",
    "a\u202egnp.exe\u2066\u2069",
    "\x00\x1b[2J\u2028\u2029\ufeff",
    "\u05d0\u05d1\u05d2 (1,000)",
    "x" * 1_000_000,
]
ACTIVE = ("<script>alert", "<img src=x", "<svg onload", "onerror=alert(1)>", "\u202e", "\u2066", "\x1b", "\u2028")


class Tags(HTMLParser):
    """How often each element begins."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1


def strings(text: str) -> dict[str, Any]:
    """A recipe and build facts in which every open text is ``text``."""
    views = {"name": "hierarchical", "over": "layers", "parts": [{"layers": text, "view": {"name": text}}], text: text}
    return {
        "generator": {"name": text, "family": text, "options": {text: text}, "weights": text},
        "latent": {"law": text, "chunks": [1, text]},
        "views": views,
        "filter": {"keep": text},
        "source": {"name": text, "split": text},
        "image": text,
        "build_facts": {
            "licence": text,
            "device": [text],
            "packages": [{text: text}],
            "weights": dict.fromkeys(("file", "source", "licence", "name", "data"), text),
        },
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of the same dataset by somebody who means no harm."""
    folder = build(tmp_path_factory.mktemp("plain") / "shards", **dataset("plain"))
    return Page(browse(BrowseConfig(source=str(folder))).page)


def dataset(text: str) -> dict[str, Any]:
    """Settings of a dataset in which every text is ``text``."""
    return {"pairs": 6, "z_positive": (1, 4), "classes": (text, f"{text}1", f"{text}2"), **strings(text)}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_it_stands_there_as_text(tmp_path: Path, plain: Any, text: str) -> None:
    page = Page(browse(BrowseConfig(source=str(build(tmp_path / "shards", **dataset(text))))).page)
    for active in ACTIVE:
        assert active not in page.text
    assert Tags(page.text).found == Tags(plain.text).found
    assert len(page.bytes) < len(plain.bytes) + 40_000
    for name in page.data["classes"].values():
        assert len(name) <= 80 and name.isprintable()
    assert {**page.data, "classes": None} == {**plain.data, "classes": None}


def test_names_keep_what_can_be_read(made: Callable[..., Path], page_of: Callable[..., Any]) -> None:
    page = page_of(made(classes=("<b>bold</b>", "\u05d0\u05d1\u05d2", "a\u202eb")))
    assert page.data["classes"] == {"0": "<b>bold</b>", "1": "\u05d0\u05d1\u05d2", "2": "'a\\u202eb'"}
    assert "<bdi>&lt;b&gt;bold&lt;/b&gt;</bdi>" in page.text and "<bdi>\u05d0\u05d1\u05d2</bdi>" in page.text
    inner = re.search(r'id="data">(.*?)</script>', page.text, re.DOTALL)
    assert inner is not None and "<" not in inner[1] and json.loads(inner[1]) == page.data


def test_recipes_of_any_shape(
    made: Callable[..., Path], page_of: Callable[..., Any], rewrite: Callable[..., None]
) -> None:
    folder = made(latent={"chunks": [1, 3]})
    for value in (
        None,
        3,
        [],
        "x",
        {"parts": 3, "name": []},
        {"name": "hierarchical", "over": "chunks", "parts": [None, {}]},
    ):
        for key in ("views", "latent", "generator", "filter", "source", "image"):
            rewrite(folder, lambda manifest, key=key, value=value: manifest["recipe"].update({key: value}))
            assert datasets_manifest.read_manifest(folder).recipe[key] == value
            assert "30 pairs" in page_of(folder, samples=2).section("pairs")


def test_chunks_that_do_not_fit(
    made: Callable[..., Path], page_of: Callable[..., Any], rewrite: Callable[..., None]
) -> None:
    folder = made()
    for chunks in ([4], [1, 2], [0, 4], [1.0, 3.0], [True, 3], ["1", "3"], [-1, 5], [1] * 5, 4):
        rewrite(folder, lambda manifest, chunks=chunks: manifest["recipe"].update(latent={"chunks": chunks}))
        assert "chunk " not in page_of(folder, samples=2).section("distances"), chunks


def test_a_recipe_of_very_many_values(made: Callable[..., Path], page_of: Callable[..., Any]) -> None:
    page = page_of(made(many={f"k{i}": i for i in range(20_000)}))
    assert "The first 500 are listed." in page.section("facts") and len(page.bytes) < 300_000

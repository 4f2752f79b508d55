"""Manifests as generators make them, and as somebody with bad intentions writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOSTILE = [
    "x`</code><script>alert(1)</script>`",
    "a | b | c\n# Heading\n---\nlicense: cc0-1.0\n",
    "](javascript:alert(1)) ![x](http://evil.example/x.png)",
    '"\n- injected: true\n# comment',
    "<!-- genrep-manifest card: sha256 " + "0" * 64 + " above, " + "0" * 64 + " croissant.json -->",
    "\u202e\u2066\x00\x1b[2J\ud800 \ufeff\u2028\u0085",
    "```\n</pre>\n~~~",
    "}, note = {x}} @article{y,",
    "&lt;b&gt; {{ template }} {% raw %} ${x} $(id)",
    "{'a': [1, &x, *x, !!python/object:os.system]}",
    "@id",
]


@pytest.fixture
def described(raw: Path, rewrite: Callable[..., None]) -> Callable[..., Path]:
    """``described(text)``: a dataset in whose manifest every open text is ``text``, or plain ones without it."""

    def describe(text: str | None = None) -> Path:
        def mutate(value: dict[str, Any]) -> None:
            def words(plain: str) -> str:
                return plain if text is None else text

            value["recipe"]["generator"] = {
                "name": words("a_generator"),
                "family": words("a_family"),
                "options": {words("truncation"): words("1")},
                "weights": words("0" * 64),
            }
            value["recipe"]["latent"] = {"law": words("normal")}
            value["recipe"]["views"] = {"name": words("gaussian"), "std": 0.2}
            value["recipe"]["filter"] = {"keep": 0.5, "weights": words("f")}
            value["recipe"]["image"] = words("image")
            value["build"] = {
                "licence": words("A licence of ours"),
                "weights": {key: words(key) for key in ("file", "source", "licence", "sha256")},
                "views": [words("file")],
                "device": words("cpu"),
                "packages": {words("torch"): words("2")},
            }
            value["classes"] = [words("cat"), words("dog"), words("cow")]

        rewrite(raw, mutate)
        return raw

    return describe


@pytest.fixture(params=range(len(HOSTILE)))
def hostile_text(request: pytest.FixtureRequest) -> str:
    """Text that means something to YAML, Markdown, HTML, BibTeX, JSON-LD or a terminal."""
    return HOSTILE[request.param].encode("utf-8", "ignore").decode()

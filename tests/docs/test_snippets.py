"""What the pages tell the reader to type runs, at a tiny size; what cannot run here at least parses."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("snippets", Path(__file__).with_name("snippets.py"))
assert spec is not None and spec.loader is not None
snippets = sys.modules["snippets"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(snippets)

DOCS = snippets.ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.name != "report.md"]
ELSEWHERE = {DOCS / "howto/ffcv.md"}  # by tests/train/test_ffcv_pipelines.py, where Numba has compiled what it needs
RUN = [
    page
    for page in PAGES
    if page not in ELSEWHERE
    and any(block.language in ("bash", "python") and not block.reason for block in snippets.blocks(page))
]


def named(page: Path) -> str:
    return str(page.relative_to(snippets.ROOT))


@pytest.mark.parametrize("page", [snippets.ROOT / "README.md", *PAGES], ids=named)
def test_every_block_parses(page: Path) -> None:
    for block in snippets.blocks(page):
        if block.language == "bash":
            for words in snippets.commands(block):
                snippets.parse(words)
        elif block.language == "python":
            compile(block.text, named(page), "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)


def test_a_command_that_there_is_not_is_found() -> None:
    for text in (
        "genrep-train --datas x --out y",
        "genrep-manifest shows x",
        "make everything",
        "genrep-train --arch vgg --out x",
    ):
        (words,) = snippets.commands(snippets.Block(language="bash", text=text))
        with pytest.raises((AssertionError, Exception), match=r"No such option|no command|everything|vgg"):
            snippets.parse(words)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages may begin with: real images, ``shards``, the run ``runs/x``, and the example generator."""
    folder = tmp_path_factory.mktemp("world")
    snippets.write_data(folder)
    example = (DOCS / "examples/vae_decoder.py").read_text()
    assert "steps=2000" in example
    (folder / "vae_decoder.py").write_text(example.replace("steps=2000", "steps=2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        snippets.run(["genrep-generate", "dataset", "--out", "shards"])
        snippets.run(["genrep-train", "--data", "shards", "--out", "runs/x"])
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUN, ids=named)
def test_a_page_runs(page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    snippets.copy(world, page, tmp_path)
    known, names = set(sys.modules), {"__name__": "page"}
    for block in snippets.blocks(page):
        if block.reason is None:
            run_block(block, named(page), names)
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def run_block(block: object, page: str, names: dict[str, object]) -> None:
    if block.title is not None:
        Path(block.title).write_text(block.text)
    elif block.language == "python":
        exec(compile(block.text, page, "exec"), names)
    elif block.language == "bash":
        for words in snippets.commands(block):
            snippets.run(words)

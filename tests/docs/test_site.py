"""The pages of the site that are made of code tell all of it. Building them strictly is `make docs`."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["site_hooks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = sorted(path for path in DOCS.rglob("*.md") if "help" not in path.relative_to(DOCS).parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_links_to_no_folder(page: Path) -> None:
    """A folder has no page: the strict build refuses a link to one."""
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text())
    assert not [target for target in targets if (page.parent / target).is_dir()]


def test_every_command_and_option_has_its_place(hooks: ModuleType) -> None:
    for name, command in hooks.COMMANDS.items():
        page = hooks.command_page(name, command)
        verbs = [command]
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name)
            verbs += [command.get_command(context, verb) for verb in command.list_commands(context)]
            assert all(f"\n## {verb}\n" in page for verb in command.list_commands(context))
        for verb in verbs:
            assert all(flag in page for param in verb.params if isinstance(param, click.Option) for flag in param.opts)


def test_recipes_presets_and_tables_are_all_there(hooks: ModuleType) -> None:
    from genrep.generate.recipes.recipe import known_recipes
    from genrep.train.presets import DESCRIPTIONS

    recipes, presets, tables = hooks.recipes_page(), hooks.presets_page(), hooks.tables_page()
    assert all(f"\n## {name} " in recipes for name in known_recipes())
    assert all(f"\n## {name}\n" in presets for name in DESCRIPTIONS)
    assert "\n## genrep-table1\n" in tables and "| `gauss` | Gaussian |" in tables


def test_what_a_stranger_could_write_into_a_help_text_is_escaped(hooks: ModuleType) -> None:
    command = click.Command(
        "x", help="Takes <b> & more.", params=[click.Option(["--size"], help="<script>", metavar="A|B")]
    )
    page = hooks.command_page("x", command)
    assert "&lt;script&gt;" in page and "Takes &lt;b&gt; &amp; more." in page and "<script>" not in page


def test_a_notebook_becomes_a_page_with_its_pictures(hooks: ModuleType) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {
            "cell_type": "code",
            "source": ["1 + 1"],
            "outputs": [
                {"data": {"image/png": "AAAA", "text/plain": "x"}},
                {"text": ["two\n"]},
                {"data": {"text/plain": "2"}},
            ],
        },
    ]
    page, pictures = hooks.notebook_page({"cells": cells})
    assert page == (
        "# Title\nwords\n\n```python\n1 + 1\n```\n\n![Output of the cell above](notebook-0.png)\n\n"
        "```text\ntwo\n```\n\n```text\n2\n```\n"
    )
    assert pictures == {"notebook-0.png": b"\0\0\0"}


def test_what_would_be_fetched_from_elsewhere_is_found(hooks: ModuleType) -> None:
    here = '<a href="https://a.example"><img src="../x.png"><link rel="stylesheet" href="assets/x.css">'
    assert hooks.fetched(here) == []
    assert hooks.fetched(here + '<script async src="https://b.example/x.js">') == ["https://b.example/x.js"]
    assert hooks.fetched("<link rel=preconnect href=//c.example crossorigin>") == ["//c.example"]
    assert hooks.fetched('@import url("https://d.example/x.css");')

"""Pages of the site whose truth lies elsewhere: commands, recipes, presets, tables, the notebook, CONTRIBUTING and CHANGELOG.

MkDocs calls the functions at the end while `make docs` builds the site. Nothing here is written into docs/.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from genrep.headings import HeadedCommand

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

from update_help import COMMANDS  # noqa: E402

EXAMPLE = re.compile(r"Examples?:$")
FETCHED = re.compile(
    r"<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)|@import[^;]*//[^;]+"
)


def link_packages(folder: Path) -> None:
    """Fill ``folder`` with links by which Griffe finds our folders under their import names."""
    package = folder / "genrep"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (ROOT / "src/genrep").iterdir() if path.name != "__pycache__"}
    wanted |= {name: ROOT / name for name in ("generate", "train", "evaluate", "datasets_manifest", "papers")}
    for link in package.iterdir():
        link.unlink()
    for name, path in wanted.items():
        (package / name).symlink_to(path)


def command_page(name: str, command: click.Command) -> str:
    """The reference of a command and of its subcommands, in Markdown."""
    context = click.Context(command, info_name=name, **command.context_settings)
    parts = [f"# {name}", *_command(command, context)]
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            subcommand = command.get_command(context, verb)
            assert subcommand is not None
            below = click.Context(subcommand, info_name=verb, parent=context)
            parts += [f"## {verb}", *_command(subcommand, below)]
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```"
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    if isinstance(command, HeadedCommand):
        for heading, params in command.sections(context):
            yield f"{'###' if context.parent else '##'} {heading}"
            yield _options(params, context)
    else:
        yield _options(command.get_params(context), context)
    yield from _paragraphs(inspect.cleandoc(command.epilog or ""))


def _options(params: Sequence[click.Parameter], context: click.Context) -> str:
    records = [param.get_help_record(context) for param in params]  # an argument has none, or no help
    rows = [
        f"<dt><code>{html.escape(name)}</code></dt>\n<dd>{html.escape(said)}</dd>"
        for name, said in filter(None, records)
        if said
    ]
    return "<dl class='options'>\n" + "\n".join(rows) + "\n</dl>"


def _paragraphs(text: str) -> Iterator[str]:
    """A help text's paragraphs: what click keeps as it is (after a line of ``\\b``) becomes a block of code."""
    for paragraph in filter(None, (part.strip("\n") for part in text.split("\n\n"))):
        kept, lines = paragraph.startswith("\b"), paragraph.removeprefix("\b").strip("\n").split("\n")
        if not kept:
            yield f"<p>{html.escape(' '.join(line.strip() for line in lines))}</p>"
        elif EXAMPLE.match(lines[0]):
            yield "```bash\n" + inspect.cleandoc("\n".join(["", *lines[1:]])) + "\n```"
        else:
            yield "```text\n" + "\n".join(lines) + "\n```"


def recipes_page() -> str:
    """What the recipes of the package say."""
    from genrep.generate.recipes.recipe import known_recipes

    rows = ["| recipe | family | images | latent | views | weights |", "|---|---|---|---|---|---|"]
    details = []
    for name in known_recipes():
        text = (importlib.resources.files("genrep.generate.recipes") / f"{name}.toml").read_text()
        recipe = tomllib.loads(text)
        generator, latent, image = recipe["generator"], recipe.get("latent", {}), recipe.get("image", {})
        views = " ".join(
            f"{key}={value}" for key, value in recipe.get("views", {}).items() if not isinstance(value, dict)
        )
        rows.append(
            f"| [`{name}`](#{name}) | {generator['family']} | {_items(image)} | {_items(latent)} | "
            f"{views.replace('name=', '') or 'none'} | {_where(generator)} |"
        )
        details += [f"## {name} {{#{name}}}", f"```toml\n{text.strip()}\n```"]
    return (
        "# Recipes\n\nA recipe is a TOML file that says what a generator's images become when they are a dataset: the "
        "generator and its weights, the law of the latent, the default view, the pixels. `genrep-generate list` prints these; "
        "`--gen FILE.toml` takes one of your own.\n\n" + "\n".join(rows) + "\n\n" + "\n\n".join(details) + "\n"
    )


def _items(table: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items() if value is not None) or "the network's"


def _where(generator: dict[str, Any]) -> str:
    if generator["family"] in ("dead_leaves", "fractal_noise", "stylegan2_random"):
        return "none"
    weights = generator.get("weights", "")
    if weights.startswith("package:"):
        return "in the package"
    return "downloaded" if weights else "`--weights FILE`"


def presets_page() -> str:
    """What the presets of genrep-train say, as --dry-run resolves them."""
    from genrep.train.presets import DESCRIPTIONS, preset

    parts = [
        "# Training presets",
        "`genrep-train --preset NAME` fills in every number of a row of the papers. "
        "Options given beside it come first, and `--dry-run` prints what results. "
        "[Training](../training.md) explains the settings.",
    ]
    for name, title in DESCRIPTIONS.items():
        rows = "\n".join(f"| `{key}` | {value} |" for key, value in preset(name).items())
        parts += [f"## {name}", f"{title}.", f"| setting | value |\n|---|---|\n{rows}"]
    return "\n\n".join(parts) + "\n"


def tables_page() -> str:
    """The papers' tables that can be reproduced, and their rows."""
    folder = importlib.resources.files("genrep.papers.reproduce") / "tables"
    tables = {path.name.removesuffix(".toml"): tomllib.loads(path.read_text()) for path in folder.iterdir()}
    parts = [
        "# Papers' tables",
        "`genrep-evaluate reproduce TABLE` runs one of these; `--rows` takes the names in the first column. "
        "[Reproduce a table](../howto/reproduce.md) has the commands.",
    ]
    for name, table in sorted(tables.items()):
        rows = "\n".join(f"| `{row['id']}` | {row.get('name', row['id'])} |" for row in table.get("rows", []))
        parts += [f"## {name}", f"{table['title']}.", f"| row | what |\n|---|---|\n{rows}" if rows else ""]
    return "\n\n".join(filter(None, parts)) + "\n"


def notebook_page(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it shows."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"notebook-{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({name})")
            elif text := "".join(output.get("text", "") or data.get("text/plain", "")):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def project_page(name: str) -> str:
    """A page of the repository's root, its links as seen from docs/."""
    return (ROOT / name).read_text().replace("](docs/", "](").replace("](README.md", "](index.md")


def on_startup(**_: Any) -> None:
    """Before mkdocstrings looks which of its paths are there."""
    link_packages(ROOT / "build/docs")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    page, pictures = notebook_page(json.loads((ROOT / "docs/tutorial.ipynb").read_text()))
    made: dict[str, str | bytes] = {
        **{f"reference/commands/{name}.md": command_page(name, command) for name, command in COMMANDS.items()},
        "reference/recipes.md": recipes_page(),
        "reference/presets.md": presets_page(),
        "reference/tables.md": tables_page(),
        "contributing.md": project_page("CONTRIBUTING.md"),
        "changelog.md": project_page("CHANGELOG.md"),
        "tutorial.md": page,
        **pictures,
    }
    for path in sorted((ROOT / "generate/weights").glob("*_fashion*")):
        if path.suffix in (".md", ".png", ".json"):
            made[f"reference/weights/{path.name}"] = path.read_bytes()
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def fetched(page: str) -> list[str]:
    """What a browser would fetch from elsewhere to show this HTML or CSS."""
    return [match[1] or match[0] for match in FETCHED.finditer(page)]


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site whose reader is told to others."""
    for path in Path(config.site_dir).rglob("*"):
        if path.suffix in (".html", ".css") and (found := fetched(path.read_text())):
            raise PluginError(f"{path}: would be shown with {found[0]}, which lies elsewhere")

"""An error names a setting as its reader writes it: ``lr`` in Python, ``--lr`` in the shell."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from genrep.cli import invoke
from genrep.datasets_manifest.recovery.repair import RepairConfig
from genrep.devices import pick_device
from genrep.errors import (
    ConfigError,
    DataError,
    DatasetError,
    GenRepError,
    RecipeError,
    ResumeError,
    TrainingError,
    WeightsError,
    phrase,
    renamed,
)
from genrep.files import locked_folder, require_writable
from genrep.generate.pixels import parse_encoding
from genrep.generate.recipes.conditions import check_classes
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.views.filters import parse_filter
from genrep.generate.views.foreground import parse_weigh
from genrep.generate.views.grammar import parse_view
from genrep.images.sets import load_images, load_pair
from genrep.imports import find_factory
from genrep.runs.sanity import check_losses
from genrep.settings import configured, options

ROOT = Path(__file__).parent.parent
FOLDERS = ("src/genrep", "generate", "train", "evaluate", "datasets_manifest", "papers")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
DECLARING = {"click.option", "click.argument", "click.command", "click.group", "click.UsageError", "setting", "options"}
# Where the shell's words stand with reason: command lines that are told or run, and what commands print that are no errors.
SHELL = {
    "src/genrep/doctor.py": {"--master-addr", "--upgrade", "--shm-size"},
    "src/genrep/settings.py": {"--no-"},
    "generate/build/dataset.py": {"--views"},
    "generate/build/run.py": {"--batch-size"},
    "generate/commands/fits.py": {"--init"},
    "generate/commands/recipes.py": {"--views", "--weights"},
    "generate/sources/open.py": {"--samples", "--max-distance", "--lr-walk", "--init"},
    "train/engine/records.py": {"--root", "--download", "--out"},
    "evaluate/table.py": {"--out"},
    "datasets_manifest/browsing/snippets.py": {"--anchors", "--data", "--digest", "--level", "--out", "--positive"},
    "datasets_manifest/cards/readme.py": {"--anchors", "--format", "--out", "--data"},
    "datasets_manifest/recovery/examine.py": {"--sample-seed"},
    "datasets_manifest/recovery/repair.py": {"--accept-fingerprints", "--anchors", "--from", "--prompts"},
    "papers/figure3/measure.py": {"--no-co2"},
    "papers/report/write.py": {"--out"},
    "papers/reproduce/dry_run.py": {"--hardware"},
    "papers/reproduce/planning.py": {"--encoder"},
    "papers/tasks/task.py": {"--out", "--seed", "--device", "--no-"},
}


def options_in(source: str) -> Iterator[str]:
    """The options that a module's strings name, but for docstrings, help texts and declarations of options."""
    tree = ast.parse(source)
    passed: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            passed.add(id(body[0].value))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in DECLARING:
            passed |= {id(part) for part in ast.walk(node)}
        if isinstance(node, ast.keyword) and node.arg in ("help", "context_settings"):
            passed |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield from OPTION.findall(node.value)


def test_no_message_is_written_in_the_shells_words():
    found: dict[str, set[str]] = {}
    for path in [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]:
        if named := set(options_in(path.read_text())):
            found[str(path.relative_to(ROOT))] = named
    assert found == SHELL, "name settings in errors: ConfigError.naming('{lr} {}: …', lr), not '--lr …'"


@pytest.mark.parametrize(
    "line",
    [
        'raise ResumeError(f"--out {out}: no")',
        'HINT = "try a lower --lr"',
        'require_writable(out, "--out")',
        'where = f"generator {name}: of --filter"',
    ],
)
def test_the_scan_sees_messages(line):
    assert len(list(options_in(line))) == 1
    assert list(options_in('"""--out"""\nclick.option("--out", help="As --in.")\nsetting(flags="--from")')) == []


def _diverged(tmp_path):
    check_losses(tmp_path, 3, {"loss": float("nan")}, way=phrase("try a lower {lr}"))


def _no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    require_writable(tmp_path / "file")


def _held(tmp_path):
    with locked_folder(tmp_path), locked_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("call", "kind", "begins"),
    [
        (lambda _: pick_device("x"), TrainingError, "device x: not usable"),
        (
            lambda _: find_factory("no:such", "encoder", "a module", WeightsError),
            WeightsError,
            "encoder no:such: cannot",
        ),
        (lambda _: load_recipe("nosuch"), RecipeError, "gen 'nosuch': unknown"),
        (lambda _: parse_view("nosuch"), RecipeError, "views 'nosuch': unknown"),
        (lambda _: parse_view("mix:none=1,no=1"), RecipeError, "views 'mix:none=1,no=1': part 1: unknown"),
        (lambda _: parse_view("a.toml"), RecipeError, "views 'a.toml': missing"),
        (lambda _: parse_filter("x"), RecipeError, "filter 'x': "),
        (lambda _: parse_weigh("x"), RecipeError, "weigh 'x': "),
        (lambda _: check_classes("9-0"), RecipeError, "classes 9-0: "),
        (lambda _: parse_encoding("x"), RecipeError, "encoding 'x': "),
        (lambda _: load_pair("nosuch", None), DataError, "dataset 'nosuch': neither"),
        (_no_folder, ResumeError, "out /"),
        (_held, ResumeError, "out /"),
    ],
)
def test_an_error_of_a_shared_helper_begins_with_the_setting(tmp_path, call, kind, begins):
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert str(caught.value).startswith(begins) and caught.value.in_shell().startswith(f"--{begins}")


@pytest.mark.parametrize(
    ("call", "python", "shell"),
    [
        (lambda _: load_images("cifar10", None, "train"), ", as root", ", as --root"),
        (lambda folder: load_pair("cifar10", folder / "no"), "; download fetches it", "; --download fetches it"),
        (_diverged, "; try a lower lr, in a new out; ", "; try a lower --lr, in a new --out; "),
    ],
)
def test_the_way_out_names_the_setting(tmp_path, call, python, shell):
    with pytest.raises(GenRepError) as caught:
        call(tmp_path)
    assert python in str(caught.value) and shell in caught.value.in_shell()
    assert OPTION.search(str(caught.value)) is None


def test_an_error_in_an_error_and_a_phrase_keep_their_settings():
    inner = RecipeError.naming("{gen} {}: no", "{x}")
    outer = TrainingError.naming("{}; {}, not {!r}", inner, phrase("try {lr_f} {:g}", 0.5), inner)
    assert str(outer) == "gen {x}: no; try lr_f 0.5, not RecipeError('gen {x}: no')"
    assert outer.in_shell() == "--gen {x}: no; try --lr-f 0.5, not RecipeError('gen {x}: no')"
    travelled = pickle.loads(pickle.dumps(outer))
    assert (str(travelled), travelled.in_shell()) == (str(outer), outer.in_shell())
    assert phrase("{lr} {}", "x").map(str.upper).in_shell() == "--lr X"


def test_a_callers_own_name_of_a_setting():
    with pytest.raises(ResumeError, match=r"^folder x: held by out$") as caught, renamed(out="folder"):
        raise ResumeError.naming("{out} {}: held by {}", "x", "out")
    assert caught.value.in_shell() == "--folder x: held by out"
    with pytest.raises(ResumeError, match=r"^out: plain$"), renamed(out="folder"):
        raise ResumeError("out: plain")


@pytest.mark.parametrize("declared", [options(RepairConfig), configured(RepairConfig)])
def test_an_option_that_is_not_called_as_its_setting(capsys, declared):
    """``genrep-manifest repair``: ``source`` is ``--from``, ``folder`` the argument DIR, and ``lr`` no setting of it."""

    @click.command("repair")
    @declared
    def command(*_: object, **__: object) -> None:
        raise DatasetError.naming("{source} {}: of {folder}, {lr}", "x")

    assert invoke(command, ["."]) == 1
    assert capsys.readouterr().err == "Error: repair: --from x: of DIR, --lr\n"


def test_a_wrong_setting_is_told_likewise():
    with pytest.raises(ConfigError, match=r"^level 'x': wanted one of") as caught:
        RepairConfig(folder=Path(), level="x")
    assert caught.value.in_shell().startswith("--level 'x'")

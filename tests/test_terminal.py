"""What a stranger can name reaches a terminal escaped and cut: results, notes, progress, warnings of commands."""

import ast
from pathlib import Path

import click
import pytest

from genrep.cli import invoke, say
from genrep.errors import DatasetError
from genrep.progress import Progress, note

ROOT = Path(__file__).parent.parent
EVIL = "\x1b]0;owned\x07\x1b[2Jname\u202e\u2066gnp.exe" + "x" * 5000


def safe(text):
    return all(line.isprintable() and len(line) <= 2010 for line in text.splitlines()) and "\\x1b[2Jname\\u202e" in text


def test_results_notes_and_errors_are_escaped_and_cut(capsys):
    @click.command("demo")
    def demo():
        say(f"folder         {EVIL}\nsecond")
        note(EVIL)
        raise DatasetError(EVIL)

    assert invoke(demo, []) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("folder         \\x1b]0;owned\\x07") and out.splitlines()[1] == "second"
    assert safe(out) and safe(err) and len(err.splitlines()) == 2


def test_progress_is_escaped_and_cut(capsys, monkeypatch):
    monkeypatch.setattr("genrep.progress.LOG_EVERY_SECONDS", 0.0)
    with Progress(10, "image", f"reading {EVIL}") as progress:
        progress.update(1, file=EVIL)
    assert safe(capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["generate", "train", "evaluate", "datasets_manifest", "src/genrep"])
def test_nothing_is_printed_past_the_escapes(folder):
    """``say`` and ``note`` print; ``click.echo`` prints nothing but JSON, whose strings are ASCII."""
    for path in (ROOT / folder).rglob("*.py"):
        if path.name in ("cli.py", "progress.py") and path.parent.name == "genrep":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in ("print", "tqdm.write", "warnings.warn", "sys.stderr.write", "sys.stdout.write"), path
            assert name != "click.echo" or ast.unparse(node.args[0]).startswith("json.dumps("), path

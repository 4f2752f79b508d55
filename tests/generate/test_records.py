"""What a build and a fit write holds facts only: no address in memory, and nothing in Python's own way of writing objects."""

import json
import re

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest.cli import group as manifest
from genrep.generate.cli import cli

ADDRESS = re.compile(
    rb"\bat 0x[0-9a-f]{6,}|<[A-Za-z_][\w.]* object\b|<(?:built-in |bound )?(?:function|method|class|module) "
)
WRITTEN = re.compile(  # as repr does; in files that are text
    rb"<[\w.]+(?: [^<>]*)? at 0x|\b(?:Posix|Windows)Path\(|\b(?:array|tensor|dtype|device|frozenset|mappingproxy)\("
    rb"|\b[A-Z]\w+\((?:[a-z_]+=|\))"
)
TEXT = {".json", ".jsonl", ".md", ".toml", ".txt"}


def objects(folder):
    """Name and place of each object that a file of the folder spells out."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for pattern in (ADDRESS, WRITTEN) if path.suffix in TEXT else (ADDRESS,):
            found += [f"{path.name}: {match[0].decode(errors='replace')}" for match in pattern.finditer(content)]
    return found


class Something:
    """An object without a way of its own to be written."""


@pytest.mark.parametrize("value", [Something(), len, Something, __import__("pathlib").Path("x"), __import__("json")])
def test_an_object_is_found(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps({"value": value}, default=repr))
    assert objects(tmp_path)


@pytest.mark.slow
def test_a_dataset_spells_out_no_object(toy_folder, filter_file, capsys):
    (toy_folder / "names.txt").write_text("0\tfirst\n2\tthird\n")
    options = ["--gen", "toygen:conditional", "--num-pairs", "20", "--processes", "1", "--device", "cpu"]
    options += ["--classes", "names.txt", "--filter", f"weights={filter_file}", "--views", "gaussian:std=.2"]
    assert invoke(cli, ["dataset", *options, "--out", "set"]) == 0, capsys.readouterr().err
    names = {path.name for path in (toy_folder / "set").iterdir()}
    assert {"manifest.json", "recipe.json", "build.json", "shard-00000.json", "README.md"} <= names
    assert objects(toy_folder / "set") == []
    again = ["rebuild", "set", "--gen", "toygen:conditional", "--filter", f"weights={filter_file}", "--device", "cpu"]
    assert invoke(manifest, [*again, "--out", "again", "--report", "report.json"]) == 0, capsys.readouterr().err
    assert objects(toy_folder / "again") == []
    assert not WRITTEN.search((toy_folder / "report.json").read_bytes())


def test_a_fit_spells_out_no_object(toy_folder, capsys):
    options = ["--gen", "toygen:module", "--samples", "8", "--batch-size", "4", "--checkpoint-samples", "4"]
    options += ["--log-every", "1", "--measure-images", "0", "--device", "cpu", "--out", "fit"]
    assert invoke(cli, ["fit-steer", *options]) == 0, capsys.readouterr().err
    names = {path.name for path in (toy_folder / "fit").iterdir()}
    assert {"config.json", "metrics.jsonl", "walks.json", "walks.safetensors"} <= names
    assert objects(toy_folder / "fit") == []

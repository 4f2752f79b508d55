"""genrep-manifest: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli
from genrep.datasets_manifest.commands.inspect import verify_command
from genrep.datasets_manifest.commands.make import repair_command
from genrep.datasets_manifest.verify import LEVELS

Capture = pytest.CaptureFixture[str]


def test_verify_of_a_good_folder(originals: dict[str, Path], capsys: Capture) -> None:
    for level in LEVELS:
        assert invoke(cli.group, ["verify", str(originals["raw"]), "--level", level]) == 0
        out, err = capsys.readouterr()
        wanted = rf"OK {originals['raw']}: 5 pairs in 2 shards, 8,389,\d\d\d bytes, level {level}, \d+\.\d s\n"
        assert re.fullmatch(wanted, out), out
        assert err == ""


def test_the_default_level_is_bytes(raw: Path, capsys: Capture) -> None:
    with open(raw / "shard-00001.beton", "r+b") as file:
        file.seek((2 << 20) + 50)
        file.write(b"\xaa")
    assert invoke(cli.group, ["verify", str(raw), "--level", "quick"]) == 0
    capsys.readouterr()
    assert invoke(cli.group, ["verify", str(raw)]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(r"shard-00001\.beton: sha256 is [0-9a-f]{64}, the manifest says [0-9a-f]{64}\n", out)
    assert err == f"Error: genrep-manifest: {raw}: 1 problem at level bytes\n"


def test_a_line_per_problem(raw: Path, capsys: Capture) -> None:
    (raw / "shard-00000.beton").unlink()
    (raw / "evil\x1b[2J\n.md").write_text("")
    (raw / "evil\n.sh").write_text("")
    assert invoke(cli.group, ["verify", str(raw)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        r"'evil\n.sh': wanted only files that end in .beton, .json, .jsonl, .png, .md",
        "shard-00000.beton: missing",
    ]
    assert err.endswith("2 problems at level bytes\n")


@pytest.mark.parametrize("command", ["show", "verify"])
def test_what_is_no_dataset(command: str, tmp_path: Path, capsys: Capture) -> None:
    for folder in (tmp_path, tmp_path / "nothing", Path("/dev/null")):
        assert invoke(cli.group, [command, str(folder)]) == 1
        out, err = capsys.readouterr()
        assert err.startswith("Error: genrep-manifest: ") and err.count("\n") == 1
        assert str(folder) in out + err


@pytest.mark.parametrize(
    "args", [["verify"], ["verify", ".", "--level", "deep"], ["show", ".", "x"], ["burn"], ["show", "-x", "."]]
)
def test_wrong_command_lines(args: list[str], capsys: Capture) -> None:
    assert invoke(cli.group, args) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ") and err.count("\n") == 1


def test_show(raw: Path, capsys: Capture) -> None:
    (raw / "sheet.png").write_bytes(b"x")
    assert invoke(cli.group, ["show", str(raw)]) == 0
    lines = [re.sub(" {2,}", " | ", line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"dataset | {raw}"
    assert re.fullmatch(r"id \| [0-9a-f]{64}", lines[1])
    assert re.fullmatch(r"digest \| [0-9a-f]{64}", lines[2])
    assert re.fullmatch(r"bytes \| 8,389,\d\d\d \(8\.0 MiB\)", lines[6])
    assert [*lines[3:6], *lines[7:]] == [
        "licence | not stated",
        "pairs | 5, each with 1 positive",
        "shards | 2 of 3 pairs (the last may hold fewer)",
        "field anchor | image 8 x 6 x 3 raw",
        "field positive | image 8 x 6 x 3 raw",
        "field z_anchor | float32 5",
        "field z_positive | float32 2 x 3",
        "field label | int",
        "field index | int",
        "classes | 3: cat, dog, cow",
        "encoding | raw",
        "generator.family | stylegan2",
        "generator.licence | MIT",
        "seed | 0",
        "views.name | gaussian",
        "build.device | cpu",
        "build.python | 3.11",
        f"contact sheet | {raw}/sheet.png",
    ]


def test_show_json(raw: Path, capsys: Capture) -> None:
    (raw / "sheet.png").write_bytes(b"x")
    assert invoke(cli.group, ["show", str(raw), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["manifest"] == json.loads((raw / "manifest.json").read_text())
    assert value["summary"] == {
        "folder": str(raw),
        "pairs": 5,
        "positives_per_anchor": 1,
        "shards": 2,
        "bytes": sum((raw / f"shard-0000{k}.beton").stat().st_size for k in (0, 1)),
        "contact_sheets": [str(raw / "sheet.png")],
    }


def test_strangers_texts_reach_no_terminal(raw: Path, rewrite: Callable[..., None], capsys: Capture) -> None:
    def mutate(manifest: dict[str, object]) -> None:
        manifest["classes"] = ["\x1b[2Jcat", "a\nb", "dog\u202e"]
        manifest["recipe"]["\x07"] = {"x\ny": "\x1b]0;owned\x07", "long": "é" * 10_000, "empty": {}, "none": None}  # type: ignore[index]

    rewrite(raw, mutate)
    assert invoke(cli.group, ["show", str(raw)]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert len(out) < 4000
    assert invoke(cli.group, ["show", str(raw), "--json"]) == 0
    assert capsys.readouterr().out.isascii()


def test_levels_are_verifys() -> None:
    for command in (repair_command, verify_command):
        assert tuple(next(one.type.choices for one in command.params if one.name == "level")) == LEVELS


def test_help_names_the_commands(capsys: Capture) -> None:
    assert invoke(cli.group, ["--help"]) == 0
    out = capsys.readouterr().out
    assert "show" in out and "verify" in out and "Example" in out
    for command in ("show", "verify"):
        assert invoke(cli.group, [command, "--help"]) == 0
        assert f"genrep-manifest {command}" in capsys.readouterr().out


def test_the_module_runs_as_a_command(originals: dict[str, Path], tmp_path: Path) -> None:
    run = [sys.executable, "-P", "-m", "genrep.datasets_manifest"]
    good = subprocess.run([*run, "verify", originals["real"]], capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "") and good.stdout.startswith("OK ")
    bad = subprocess.run([*run, "verify", tmp_path], capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stderr.count("\n") == 1 and "Traceback" not in bad.stdout + bad.stderr


def test_a_reader_that_leaves_early_is_no_crash(originals: dict[str, Path]) -> None:
    code = f"{sys.executable} -P -m genrep.datasets_manifest show {originals['raw']} | true"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert "Traceback" not in done.stderr

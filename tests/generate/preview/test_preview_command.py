"""The command line: a picture, or one line and an exit status."""

import json

import pytest
import torch

from genrep.cli import invoke
from genrep.generate.commands.recipes import preview_command
from genrep.generate.preview.config import PreviewConfig
from genrep.generate.views.walks import save_walks


@pytest.fixture
def run(gens, capsys):
    def start(*options):
        status = invoke(preview_command, ["--device", "cpu", "--out", "sheet.png", *options])
        return status, *capsys.readouterr()

    return start


def test_the_command_says_how_far_each_view_goes_and_where_the_picture_is(run, gens):
    status, out, err = run("--gen", "bandgen:bands", "--views", "gaussian:std=1", "--views", "uniform")
    lines = out.splitlines()
    assert (status, err, len(lines)) == (0, "", 3)
    assert lines[0].startswith("distance") and lines[0].endswith("gaussian:std=1") and lines[1].endswith("uniform")
    assert lines[2].startswith("picture        sheet.png, ") and (gens / "sheet.png").is_file()


def test_a_view_that_is_not_for_the_generator_is_left_out_and_said(run, gens):
    other = ["--views", "independent", "--views", "none", "--views", "hierarchical:over=layers,0=gaussian"]
    status, out, err = run("--gen", "bandgen:bands", *other, "--views", "gaussian:std=1")
    assert status == 0 and (gens / "sheet.png").is_file()
    assert len(out.splitlines()) == 2 and out.splitlines()[0].endswith("gaussian:std=1")
    lines = err.splitlines()
    assert len(lines) == 3 and all(line.startswith("left out       ") for line in lines)
    assert "independent: needs a class-conditional generator" in lines[0] and "none: has no positives" in lines[1]
    assert "hierarchical over layers: not possible with this generator" in lines[2]


def test_folders_of_the_picture_are_made(run, gens):
    status, _, _ = run("--gen", "bandgen:bands", "--distances", ".5,1", "--out", "some/where/sheet.png")
    assert status == 0 and (gens / "some/where/sheet.png").is_file()


def test_a_dry_run_prints_the_settings_and_draws_nothing(run, gens):
    status, out, _ = run("--gen", "bandgen:bands", "--distances", ".5,1", "--dry-run")
    settings = json.loads(out)
    assert status == 0 and not (gens / "sheet.png").exists()
    assert settings["distances"] == [0.5, 1.0] and settings["num_anchors"] == 6


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--distances", "1,x"], 2, "--distances '1,x': wanted positive numbers such as .5,1,2,4"),
        (["--distances", ""], 2, "--distances '': wanted"),
        (["--distances", "1,0"], 2, "--distances 0: wanted positive numbers"),
        (["--distances", "-1"], 2, "--distances -1: wanted positive numbers"),
        (["--distances", "nan"], 2, "--distances nan: wanted positive numbers"),
        (["--distances", "1e39"], 2, "--distances 1e+39: wanted positive numbers"),
        (["--distances", ",".join(["1"] * 65)], 2, "--distances: 65 of them, wanted at most 64"),
        (["--chunks", "1-5"], 2, "--chunks '1-5': wanted each"),
        (["--num-anchors", "0"], 2, "--num-anchors 0: wanted 1 to 64"),
        (["--num-positives", "65"], 2, "--num-positives 65: wanted 1 to 64"),
        (["--columns", "0"], 2, "--columns 0: wanted 1 to 40"),
        (["--seed", "-1"], 2, "--seed -1: wanted 0 to"),
        (["--out", "sheet.jpg"], 2, "--out sheet.jpg: wanted a name that ends in .png"),
        (["--gen", "nothing"], 1, "--gen 'nothing': unknown generator"),
        (["--views", "none"], 1, "--views none: has no positives to show"),
        (["--views", "independent"], 1, "--views independent: needs a class-conditional generator"),
        (["--views", "gaussian", "--views", "sideways"], 1, "unknown view 'sideways'"),
        (
            ["--views", "hierarchical:over=layers,0=gaussian"],
            1,
            "hierarchical over layers: not possible with this generator",
        ),
        (["--views", "hierarchical:0-2=gaussian,3=uniform"], 1, "this generator has chunks 0 to 2"),
        (
            ["--gen", "bandgen:whole", "--chunks", "each"],
            1,
            "--chunks each: bandgen:whole has neither chunks nor W layers",
        ),
        (["--views", "steered:walks=still.safetensors", "--distances", "1"], 1, "does not move pair 0"),
        (["--views", "steered:walks=gone.safetensors"], 1, "gone.safetensors: no such file"),
        (["--gen", "bandgen:broken"], 1, "pair 0: image values up to"),
        (["--gen", "bandgen:raising"], 1, "raised ValueError: no more ideas"),
        (["--classes", "3"], 1, "--classes 3: the generator has no classes"),
        (["--out", "bandgen.py/sheet.png"], 1, "bandgen.py"),
        (["--device", "cuda:99"], 1, "--device cuda:99: not usable here"),
    ],
)
def test_faults_end_in_one_line(run, gens, options, status, message):
    save_walks(gens / "still.safetensors", {"zoom": torch.zeros(6).numpy()}, {})
    found, out, err = run("--gen", "bandgen:bands", *options)
    assert (found, out) == (status, "")
    assert message in err and err.count("\n") == 1
    assert not (gens / "sheet.png").exists()


def test_the_settings_are_frozen_and_have_the_commands_defaults(run, gens):
    _, out, _ = run("--dry-run")
    config = PreviewConfig(gen="stylegan2_fashion", out=gens / "sheet.png", device="cpu")
    expected = {**vars(config), "out": "sheet.png", "views": [], "distances": []}
    assert json.loads(out) == expected
    with pytest.raises(AttributeError):
        config.seed = 1

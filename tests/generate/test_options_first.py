"""Options are looked at before images are read and before weights are downloaded."""

import numpy as np
import pytest

from genrep.cli import invoke
from genrep.datasets_manifest.cli import group as manifest
from genrep.errors import WeightsError
from genrep.generate.cli import cli

RECIPE = """
[generator]
family = "stylegan2"
weights = "http://127.0.0.1:9/weights.pkl"
licence = "none"
[views]
name = "gaussian"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a recipe whose weights no server has, and a file where a folder is wanted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "cache"))
    (tmp_path / "far.toml").write_text(RECIPE)
    (tmp_path / "flow.toml").write_text(RECIPE.replace("stylegan2", "residual_flow"))
    (tmp_path / "words.txt").write_text("dog\n")
    (tmp_path / "twice.txt").write_text("3\n1\n3\n")
    np.save(tmp_path / "flat.npy", np.ones(3, np.float32))
    (tmp_path / "file").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/bad.png").write_text("no image: who reads it says so")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dataset", "--gen", "far.toml", "--views", "gausian"], ["unknown view 'gausian'"]),
        (["dataset", "--gen", "far.toml", "--views", "navigator:weights=gone"], ["gone"]),
        (["dataset", "--gen", "far.toml", "--filter", "weights=gone"], ["gone"]),
        (["dataset", "--gen", "far.toml", "--encoding", "gif"], ["--encoding 'gif'"]),
        (["dataset", "--gen", "far.toml", "--shard-size", "many"], ["--shard-size 'many'"]),
        (["dataset", "--gen", "far.toml", "--classes", "some"], ["--classes 'some': wanted all, numbers"]),
        (["dataset", "--gen", "far.toml", "--classes", "9-1"], ["--classes 9-1: 9-1 runs backwards"]),
        (["dataset", "--gen", "far.toml", "--classes", "words.txt"], ["words.txt: line 1 begins with 'dog'"]),
        (["dataset", "--gen", "far.toml", "--classes", "twice.txt"], ["twice.txt: class 3 appears twice"]),
        (["dataset", "--gen", "far.toml", "--features", "gone.npy"], ["features gone.npy: no such file"]),
        (["dataset", "--gen", "far.toml", "--features", "words.txt"], ["words.txt: wanted a file that ends in .npy"]),
        (["dataset", "--gen", "far.toml", "--features", "flat.npy"], ["flat.npy: have shape (3,), wanted (rows, "]),
        (["dataset", "--gen", "flow.toml", "--truncation", ".5"], ["unknown option 'truncation'"]),
        (["dataset", "--gen", "far.toml", "--part", "3/2"], ["--part"]),
        (["dataset", "--gen", "far.toml", "--out", "file/x"], ["--out file/x: ", "/file is not a folder"]),
        (["preview", "--gen", "far.toml", "--views", "gausian", "--out", "x.png"], ["unknown view"]),
        (["preview", "--gen", "far.toml", "--classes", "words.txt", "--out", "x.png"], ["words.txt: line 1 begins"]),
        (["preview", "--gen", "far.toml", "--features", "flat.npy", "--out", "x.png"], ["flat.npy: have shape (3,)"]),
        (["preview", "--gen", "far.toml", "--out", "file/x.png"], ["--out file: file is not a folder"]),
        (["fit-navigator", "--gen", "far.toml", "--out", "file/x"], ["--out file/x: ", "/file is not a folder"]),
        (["fit-steer", "--gen", "far.toml", "--out", "file/x"], ["--out file/x: ", "/file is not a folder"]),
        (
            ["fit-filter", "--gen", "far.toml", "--data", "images", "--out", "file/x"],
            ["--out file/x: ", "/file is not a folder"],
        ),
        (["fit-filter", "--gen", "far.toml", "--data", "no/where", "--out", "x"], ["no/where: no such folder"]),
        (["fit-gan", "--data", "images", "--out", "file/x"], ["--out file/x: ", "/file is not a folder"]),
        (["fit-gan", "--data", "images", "--init", "gone.pt", "--out", "x"], ["--init gone.pt: no such file"]),
        (["fit-diffusion", "--data", "images", "--out", "file/x"], ["--out file/x: ", "/file is not a folder"]),
        (["measure-gan", "--weights", "gone", "--data", "images", "--out", "file/x.json"], ["--out file: file is no"]),
        (["from-folder", "images", "--encoding", "gif", "--out", "x"], ["--encoding 'gif'"]),
        (["from-folder", "images", "--shard-size", "many", "--out", "x"], ["--shard-size 'many'"]),
        (["from-folder", "images", "--out", "file/x"], ["--out file/x: ", "/file is not a folder"]),
        (["from-folder", "no/where", "--out", "x"], ["no/where: no such folder"]),
        (["from-folder", "cifar10", "--root", "nowhere", "--out", "x"], ["there is no folder nowhere"]),
    ],
)
def test_an_option_is_refused_before_anything_long(here, capsys, arguments, words):
    before = sorted(path.name for path in here.rglob("*"))
    assert invoke(cli, [*arguments, *([] if arguments[0] == "from-folder" else ["--device", "cpu"])]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said
    assert "weights.pkl" not in said and "bad.png" not in said
    assert sorted(path.name for path in here.rglob("*")) == before


def test_the_weights_would_have_been_asked_for(here, capsys, monkeypatch):
    """What the cases above must not reach."""
    monkeypatch.setattr("genrep.generate.weights.locate.download", refused)
    assert invoke(cli, ["dataset", "--gen", "far.toml", "--device", "cpu"]) == 1
    assert "asked for http://127.0.0.1:9/weights.pkl" in capsys.readouterr().err


def refused(url, *arguments, **options):
    raise WeightsError(f"asked for {url}")


def test_a_gans_folder_of_other_settings_is_refused_before_its_images_are_read(here, capsys):
    (here / "run").mkdir()
    (here / "run/config.json").write_text('{"data": "images", "z_dim": 64}')
    assert invoke(cli, ["fit-gan", "--data", "images", "--out", "run", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "--out run: holds another run" in said and "z_dim 64 there, 128 asked for" in said and "bad.png" not in said


def test_rebuild_looks_at_out_first(here, capsys):
    status = invoke(cli, ["dataset", "--num-pairs", "2", "--processes", "1", "--device", "cpu", "--out", "set"])
    assert status == 0
    capsys.readouterr()
    assert invoke(manifest, ["rebuild", "set", "--weights", "gone", "--out", "file/x"]) == 1
    assert "/file is not a folder" in capsys.readouterr().err

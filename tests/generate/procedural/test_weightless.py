"""Families without weights: found by name, refused weights, and their datasets verified and made again."""

import hashlib
import json

import numpy as np
import pytest
import torch

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.datasets_manifest import cli as manifest_cli
from genrep.errors import GenRepError, RecipeError, WeightsError
from genrep.generate import load_generator
from genrep.generate.cli import cli
from genrep.generate.fits.frozen import open_frozen
from genrep.generate.generators import families
from genrep.generate.generators.base import Checkpoint, save_checkpoint
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.weights.load import open_generator
from genrep.generate.weights.locate import get_weights

NAMES = ("dead_leaves", "fractal_noise", "stylegan2_random")
SMALL = {
    "dead_leaves": "leaves = 60",
    "fractal_noise": 'model = "spectrum_color"',
    "stylegan2_random": "channel_base = 64\nchannel_max = 4\nw_dim = 4",
}


@pytest.fixture
def small(tmp_path):
    """Writes recipes of small images: name -> path."""

    def write(name, extra=""):
        path = tmp_path / f"small_{name}.toml"
        path.write_text(
            f'[generator]\nfamily = "{name}"\nlicence = "CC0-1.0"\nheight = 16\nwidth = 24\n{SMALL[name]}\n{extra}'
            '\n[views]\nname = "gaussian"\nstd = 0.2\n'
        )
        return str(path)

    return write


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_of_the_package(name):
    recipe = load_recipe(name)
    assert (recipe.weights, recipe.source, recipe.licence) == (None, None, "CC0-1.0")
    loaded = open_generator(recipe, None, "cpu")
    assert (loaded.weights_digest, loaded.config, loaded.weights_facts) == (None, {"law": 1}, {})
    generator = load_generator(name)
    assert generator.image_shape == (64, 64)
    images = generator.synthesize(torch.from_numpy(generator.latent.sample(0, np.arange(3))))
    assert images.shape == (3, 3, 64, 64)
    assert -3 < float(images.min()) < -0.5
    assert 0.5 < float(images.max()) < 3
    assert load_generator(name, height=40).image_shape == (40, 64)


@pytest.mark.parametrize("name", NAMES)
def test_the_options_written_in_a_recipe_are_the_defaults(name):
    """Law and defaults are one: what a recipe leaves out is what the package's recipe says."""
    module = families.family(name)
    options = dict(load_recipe(name).options)
    assert set(options) == module.OPTIONS
    z = torch.from_numpy(module.open_plain().latent.sample(0, np.arange(2)))
    assert torch.equal(module.open_plain().synthesize(z), module.open_plain(**options).synthesize(z))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_is_verified_made_again_and_rebuilt(name, small, tmp_path, capsys):
    out, gen = tmp_path / "shards", small(name)
    built = ["dataset", "--gen", gen, "--num-pairs", "30", "--shard-size", "10", "--batch-size", "4", "--out", str(out)]
    assert invoke(cli, [*built, "--processes", "1"]) == 0, capsys.readouterr().err
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["recipe"]["generator"]["weights"] is None
    assert manifest["recipe"]["generator"]["config"] == {"law": 1}
    assert manifest["recipe"]["generator"]["options"]["height"] == 16
    assert manifest["build"]["licence"] == "CC0-1.0"
    verify = ["verify", str(out), "--level", "full", "--regenerate", "7", "--gen", gen]
    assert invoke(manifest_cli.group, verify) == 0, capsys.readouterr().err
    assert "14 of 14 images are the same bytes" in capsys.readouterr().out
    dataset = datasets_manifest.open(out)
    anchors = np.stack([dataset[i]["anchor"] for i in range(30)])
    positives = np.stack([dataset[i]["positive"] for i in range(30)])
    assert len({image.tobytes() for image in anchors}) == 30
    other = np.roll(anchors, 1, axis=0)
    change = np.abs(positives.astype(int) - anchors).mean()
    assert 0 < change < 0.8 * np.abs(other.astype(int) - anchors).mean()
    shard = out / manifest["shards"][1]["name"]
    before = hashlib.sha256(shard.read_bytes()).hexdigest()
    shard.unlink()
    assert invoke(manifest_cli.group, ["repair", str(out), "--gen", gen]) == 0, capsys.readouterr().err
    assert hashlib.sha256(shard.read_bytes()).hexdigest() == before
    assert invoke(manifest_cli.group, ["card", str(out)]) == 0, capsys.readouterr().err
    card = (out / "README.md").read_text()
    assert "Learning to See by Looking at Noise" in card
    assert "CC0-1.0" in card or "cc0-1.0" in card


@pytest.mark.slow
def test_shards_do_not_depend_on_batch_or_shard_for_what_is_elementwise(small, tmp_path, capsys):
    for name in ("dead_leaves", "fractal_noise"):
        pixels = []
        for number, (batch, shard) in enumerate((("3", "5"), ("8", "20"))):
            out = tmp_path / f"{name}{number}"
            options = [
                "--num-pairs",
                "20",
                "--shard-size",
                shard,
                "--batch-size",
                batch,
                "--processes",
                "1",
                "--out",
                str(out),
            ]
            assert invoke(cli, ["dataset", "--gen", small(name), *options]) == 0, capsys.readouterr().err
            dataset = datasets_manifest.open(out)
            pixels.append(np.stack([dataset[i][field] for i in range(20) for field in ("anchor", "positive")]))
        assert np.array_equal(*pixels)


def test_another_option_is_another_dataset(small, tmp_path, capsys):
    out = str(tmp_path / "shards")
    build = ["dataset", "--num-pairs", "4", "--processes", "1", "--out", out, "--gen"]
    assert invoke(cli, [*build, small("dead_leaves")]) == 0, capsys.readouterr().err
    capsys.readouterr()
    gen = small("dead_leaves", 'shapes = "circles"')
    assert invoke(cli, [*build, gen]) == 1
    assert "shapes" in capsys.readouterr().err


def test_views_on_one_chunk_leave_the_others(small, tmp_path, capsys):
    """The chunks of dead leaves: centres, sizes, kinds, directions, colours. Colours alone leave every boundary."""
    out = str(tmp_path / "shards")
    views = "hierarchical:over=chunks,4=gaussian:std=.5"
    assert (
        invoke(
            cli,
            [
                "dataset",
                "--gen",
                small("dead_leaves"),
                "--views",
                views,
                "--num-pairs",
                "4",
                "--processes",
                "1",
                "--out",
                out,
            ],
        )
        == 0
    ), capsys.readouterr().err
    pair = datasets_manifest.open(out)[0]
    boundaries = [np.any(np.diff(pair[name].astype(int), axis=1) != 0, axis=2) for name in ("anchor", "positive")]
    assert np.mean(boundaries[0] == boundaries[1]) > 0.99
    assert np.any(pair["anchor"] != pair["positive"])


def test_weights_are_refused_and_there_is_nothing_to_download(capsys, tmp_path):
    with pytest.raises(
        RecipeError, match=r"weights x\.pt: recipe dead_leaves is of the family dead_leaves, which has no"
    ):
        load_generator("dead_leaves", weights="x.pt")
    assert get_weights("fractal_noise") is None
    assert invoke(cli, ["weights", "fractal_noise"]) == 0
    assert capsys.readouterr().out == "fractal_noise has no weights: there is nothing to download\n"
    assert invoke(cli, ["weights", "fractal_noise", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] is None
    path = tmp_path / "mine.toml"
    path.write_text('[generator]\nfamily = "dead_leaves"\nweights = "w.pt"\n')
    with pytest.raises(
        RecipeError, match=r"recipe mine: \[generator\] weights = 'w\.pt': the family dead_leaves has no"
    ):
        load_generator(str(path))
    assert invoke(cli, ["list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("dead_leaves"))
    assert "weights are not needed; licence: CC0-1.0" in line


def test_no_file_is_of_a_family_without_weights(tmp_path):
    save_checkpoint(Checkpoint(family="dead_leaves", tensors={"x": torch.zeros(1)}), tmp_path / "x.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_generator(weights=tmp_path / "x.safetensors")
    assert "unknown family 'dead_leaves'" in str(caught.value)
    assert "known: stylegan2" in str(caught.value)
    assert "fractal_noise" not in str(caught.value)


def test_unknown_options_and_those_of_other_families_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="unknown option 'noise'; known: height"):
        load_generator("dead_leaves", noise="const")
    with pytest.raises(GenRepError, match="unknown option 'truncation'"):
        load_generator("fractal_noise", truncation=0.7)
    path = tmp_path / "mine.toml"
    path.write_text('[generator]\nfamily = "dead_leaves"\nheigth = 64\n')
    with pytest.raises(RecipeError, match="unknown key 'heigth'"):
        load_generator(str(path))


@pytest.mark.parametrize("name", NAMES)
def test_views_can_be_learned_through_them(name, small):
    """Fits ask for a gradient with respect to z, and get one: of dead leaves that of the colours."""
    source = open_frozen(small(name), None, torch.device("cpu"))
    assert source.digest is None

"""Recipes, and what load_generator makes of them."""

import json

import numpy as np
import pytest
import torch

from genrep.across import RegenerationConfig
from genrep.cli import invoke
from genrep.errors import RecipeError, WeightsError
from genrep.generate import Generator, load_generator
from genrep.generate.cli import cli
from genrep.generate.fits.frozen import open_frozen
from genrep.generate.pixels import to_uint8
from genrep.generate.plans.resolve import recipe_of
from genrep.generate.recipes.recipe import known_recipes, load_recipe
from genrep.generate.sources.decoder import open_decoder

RECIPE = """
[generator]
family = "stylegan2"
weights = "w.safetensors"
truncation = 0.7
[image]
uint8 = "127.5x+128"
"""


def test_shipped_recipes_can_be_read_and_name_their_licence():
    assert {"stylegan2_fashion", "stylegan2_fashion_cond"} <= set(known_recipes())
    for name in known_recipes():
        assert load_recipe(name).licence != "unknown"


@pytest.mark.parametrize(("name", "classes"), [("stylegan2_fashion", 0), ("stylegan2_fashion_cond", 10)])
def test_the_embedded_generators_load_and_make_gray_images(name, classes):
    generator = load_generator(name)
    assert isinstance(generator, Generator)
    assert (generator.num_classes, generator.image_shape, generator.latent.dim) == (classes, (32, 32), 128)
    y = torch.arange(4) if classes else None
    z = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    images = generator.synthesize(z, y)
    assert images.shape == (4, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])
    assert -1.5 < float(images.min()) < -0.9


def test_results_do_not_depend_on_the_batch():
    generator = load_generator("stylegan2_fashion")
    z = torch.randn(9, 128, generator=torch.Generator().manual_seed(0))
    together, alone = generator.synthesize(z), torch.cat([generator.synthesize(row[None]) for row in z])
    assert float((together - alone).abs().max()) <= 1e-5 * float(together.max() - together.min())


def test_a_toml_file_is_a_recipe_with_weights_beside_it(tmp_path):
    import importlib.resources
    import shutil

    (tmp_path / "mine.toml").write_text(RECIPE)
    weights = importlib.resources.files("genrep.generate.weights").joinpath("stylegan2_fashion.safetensors")
    shutil.copy(weights, tmp_path / "w.safetensors")
    generator = load_generator(str(tmp_path / "mine.toml"))
    assert generator.truncation == 0.7
    assert load_generator(str(tmp_path / "mine.toml"), truncation=0.5).truncation == 0.5
    torch.testing.assert_close(
        load_generator(weights=tmp_path / "w.safetensors").synthesize(torch.ones(1, 128)),
        load_generator("stylegan2_fashion").synthesize(torch.ones(1, 128)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[generator", "not a TOML file"),
        ("[generator]\nweights='w'", "needs a family"),
        ("[generator]\nfamily='stylegan2'\nspeed=2", "unknown key 'speed'"),
        ("[pictures]\n", "unknown table [pictures]"),
        ("[generator]\nfamily='x'\n[image]\nuint8='floor'", "uint8 = 'floor'; known: 127.5x+128"),
        ("[generator]\nfamily='x'\n[image]\ncrop=[1,2]", "wanted [top, left, height, width]"),
        ("[generator]\nfamily='x'\n[image]\nresize=[128, 0]", "resize = [128, 0]; wanted [height, width]"),
        ("[generator]\nfamily='x'\n[image]\nresize=128", "resize = 128; wanted [height, width]"),
        ("[generator]\nfamily='x'\n[views]\nname='spiral'", "unknown view 'spiral'"),
    ],
)
def test_a_recipe_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(tmp_path / "bad.toml"))
    assert message in str(error.value) and "bad.toml" in str(error.value)


def test_weights_of_something_else_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors: holds 1 entries \(fc\.weight\); wanted"):
        load_generator("stylegan2_fashion", weights=tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match="unknown option 'psi'"):
        load_generator("stylegan2_fashion", psi=0.5)


def test_uint8_formulas_on_known_values():
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.999, 1.0, 3.0]).view(1, 1, 1, 7).expand(1, 3, 1, 7)
    assert to_uint8(x, "127.5x+128")[0, 0, :, 0].tolist() == [0, 0, 64, 128, 255, 255, 255]
    assert to_uint8(x, "127.5x+127.5")[0, 0, :, 0].tolist() == [0, 0, 63, 127, 254, 255, 255]
    assert to_uint8(x, "128x+128")[0, 0, :, 0].tolist() == [0, 0, 64, 128, 255, 255, 255]
    cropped = to_uint8(torch.arange(48.0).view(1, 3, 4, 4) / 100, "127.5x+128", crop=(1, 2, 2, 1))
    assert cropped.shape == (1, 2, 1, 3)
    assert cropped[0, 0, 0, 0] == int(0.06 * 127.5 + 128)


SHRUNK = """
[generator]
family = "stylegan2"
weights = "package:stylegan2_fashion.safetensors"
[image]
crop = [4, 0, 24, 32]
resize = [12, 16]
"""


@pytest.mark.slow
def test_a_recipe_shrinks_what_its_crop_leaves(tmp_path, capsys):
    """As the paper of HL's cars does: dataset, fits and decoder see the same small images."""
    (tmp_path / "small.toml").write_text(SHRUNK)
    gen, device = str(tmp_path / "small.toml"), torch.device("cpu")
    source = open_frozen(gen, None, device)
    anchors = source.anchors(0, np.arange(2))
    images = source.images(anchors)
    # Halving of a bilinear filter with antialiasing: weights 1, 3, 3, 1 of four neighbours, by row and by column.
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    cropped = images[:, :, 4:28]
    neighbours = cropped[:, :, 1:-1, 1:-1].unfold(2, 4, 2).unfold(3, 4, 2)  # of the pixels that are not at the border
    wanted = torch.einsum("bchwij,i,j->bchw", neighbours, kernel, kernel)
    pixels = source.to_pixels(images)
    assert source.pixel_shape == (12, 16) == pixels.shape[2:]
    torch.testing.assert_close(pixels[:, :, 1:-1, 1:-1], wanted.add(1).div(2).clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(open_decoder(gen)(anchors.z).add(1).div(2).clamp(0, 1), pixels)
    options = ["dataset", "--gen", gen, "--num-pairs", "4", "--views", "none", "--out", str(tmp_path / "shards")]
    assert invoke(cli, options) == 0, capsys.readouterr().err
    manifest = json.loads((tmp_path / "shards/manifest.json").read_text())
    assert manifest["recipe"]["image"]["resize"] == [12, 16]
    assert manifest["fields"][0]["shape"] == [12, 16, 3]
    # It is regenerated from the manifest alone, once the recipe is given.
    recipe = recipe_of(manifest["recipe"], RegenerationConfig(gen=gen))
    assert recipe.resize == (12, 16)


def test_shrinking_enlarges_nothing(tmp_path):
    (tmp_path / "large.toml").write_text(SHRUNK.replace("[12, 16]", "[12, 33]"))
    with pytest.raises(RecipeError, match=r"recipe large: resize \[12, 33\], wanted at most the 24x32 that are there"):
        open_frozen(str(tmp_path / "large.toml"), None, torch.device("cpu")).pixel_shape  # noqa: B018


def test_hls_cars_are_shrunk_before_everything():
    recipe = load_recipe("stylegan2_car_hl")
    assert (recipe.crop, recipe.resize) == ((64, 64, 384, 384), (128, 128))
    assert load_recipe("stylegan2_car").resize is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extra_weights = 5", r"\[generator\] extra_weights = 5; wanted a list of texts"),
        ("class_names = [1]", r"\[generator\] class_names = \[1\]; wanted a list of texts"),
        ('truncation = "much"', r"\[generator\] truncation = 'much'; wanted a number"),
        ("licence = true", r"\[generator\] licence = True; wanted a text"),
        ("[latent]\nchunks = 5", r"\[latent\] chunks = 5; wanted a list of whole numbers"),
        ("[image]\nuint8 = [1]", r"\[image\] uint8 = \[1\]; wanted a text"),
        ("[image]\ncrop = [true, 0, 1, 1]", r"\[image\] crop = \[True, 0, 1, 1\]; wanted \[top"),
        ('"\\u001b[2J" = 1', r"\[generator\] has unknown key '\\x1b\[2J'"),
        ("a = " + "[" * 20_000, "not a TOML file: maximum recursion depth exceeded"),
        ("a = " + "9" * 5000, "not a TOML file: Exceeds the limit"),
    ],
)
def test_values_of_other_kinds_are_the_recipes_fault(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(f'[generator]\nfamily = "stylegan2"\n{text}\n')
    with pytest.raises(RecipeError, match=words) as caught:
        load_recipe(str(path))
    assert str(caught.value).isprintable()


def test_a_family_that_is_no_text_beside_an_option_of_its_own_is_refused(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text('[generator]\nfamily = ["stylegan2"]\nweights = "t"\next = [0]\n')
    with pytest.raises(RecipeError, match=r"odd"):
        load_recipe(str(path))

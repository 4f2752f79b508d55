"""``load_generator`` as a user calls it: every published format, by its recipe's name or recognised, equal to the originals."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genrep.errors import RecipeError, WeightsError
from genrep.generate import load_generator
from genrep.generate.generators.families import FAMILIES, weightless
from genrep.generate.recipes.recipe import known_recipes, load_recipe

GOLDENS = Path(__file__).parent.parent / "goldens"
FILES = {
    "stylegan2": [
        "cfgf64/network.tf.nosrc.pkl",
        "cfgf64/ada.nosrc.pkl",
        "cfgf64/rosinality.pt",
        "cfgf64/rosinality.legacy.pt",
    ],
    "stylegan2_car": ["cfgf64/network.tf.nosrc.pkl"],
    "bigbigan": ["bigbigan_small128/BigBiGAN_x1.pth"],
    "biggan_deep_128": ["biggan_deep_small64", "biggan_deep_small64/pytorch_model.bin"],
    "biggan": ["biggan_shared_hier64/state_dict.pt"],
    "icgan": ["icgan64/experiment", "icgan64/experiment/G_ema_best0.pth"],
    "residual_flow_mnist": ["residual_flow_cifar16/most_recent.pth"],
}
PAIRS = [(recipe, file) for recipe, files in FILES.items() for file in files]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of this test run's own."""
    monkeypatch.setenv("GENREP_HOME", str(tmp_path_factory.getbasetemp() / "genrep-home"))


def golden(file):
    folder = GOLDENS / file.split("/")[0]
    name = "golden_tf.pt" if folder.name == "cfgf64" else "golden.pt"
    return torch.load(folder / name, weights_only=True)


def inputs(generator, data):
    if "feats" in data:
        rows = torch.nn.functional.normalize(data["feats"], dim=1)
        return data["z"], torch.arange(len(rows))
    return data["z"], data.get("y") if generator.num_classes else None


def expected(data, file):
    """The original's images, and what it takes to compare ours with them."""
    if "cfgf64" in file:
        return data["img_psi1"], 2e-4, lambda images: images
    if "biggan_deep" in file:
        return data["img1.0"] if "img1.0" in data else data["img_t1.0"], 1e-4, lambda images: images[:, :, ::2, ::2]
    if "residual" in file:
        return data["img"], 5e-4, lambda images: (images + 1) / 2
    return data["img"], 1e-4, lambda images: images


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["by name", "recognised"])
@pytest.mark.parametrize(("recipe", "file"), PAIRS)
def test_images_equal_the_originals(recipe, file, named):
    data = golden(file)
    options = {"truncation": 1.0} if recipe == "stylegan2_car" else {}
    if recipe == "icgan":
        options["features"] = data["feats"]
    generator = load_generator(recipe if named else None, weights=GOLDENS / file, **options)
    images, tolerance, ours = expected(data, file)
    z, y = inputs(generator, data)
    assert float((ours(generator.synthesize(z, y)) - images).abs().max()) <= tolerance


@pytest.mark.parametrize(("recipe", "file"), PAIRS)
def test_generators_are_frozen_and_differentiable_and_independent_of_the_batch(recipe, file):
    data = golden(file)
    options = {"features": data["feats"]} if recipe == "icgan" else {}
    generator = load_generator(recipe, weights=GOLDENS / file, **options)
    z, y = inputs(generator, data)
    together = generator.synthesize(z, y)
    alone = [generator.synthesize(z[i : i + 1], None if y is None else y[i : i + 1]) for i in range(len(z))]
    tolerance = 1e-4 if "residual" in file else 1e-5
    assert float((torch.cat(alone) - together).abs().max()) <= tolerance * float(together.max() - together.min())
    z = z[:1].clone().requires_grad_(True)
    generator.synthesize(z, None if y is None else y[:1]).square().sum().backward()
    assert z.grad is not None and float(z.grad.abs().sum()) > 0
    assert not any(
        parameter.requires_grad
        for part in vars(generator).values()
        if isinstance(part, torch.nn.Module)
        for parameter in part.parameters()
    )


def test_a_recipe_gives_its_latent_law():
    generator = load_generator("bigbigan", weights=GOLDENS / "bigbigan_small128/BigBiGAN_x1.pth")
    assert (generator.latent.law, generator.latent.truncation, generator.latent.chunks) == (
        "truncated_normal",
        2,
        (20,) * 6,
    )
    deep = load_generator("biggan_deep_128", weights=GOLDENS / "biggan_deep_small64", truncation=0.4)
    assert (deep.latent.law, deep.latent.truncation, deep.latent.scale) == ("truncated_normal", 2, 0.4)


def test_the_truncation_of_a_recipe_is_its_own_and_can_be_overridden():
    car = GOLDENS / "cfgf64/network.tf.nosrc.pkl"
    assert load_generator("stylegan2_car", weights=car).truncation == 0.9
    assert load_generator("stylegan2_car", weights=car, truncation=0.5).truncation == 0.5
    assert load_generator(weights=car).truncation == 1.0


def test_a_file_of_another_family_is_named():
    with pytest.raises(WeightsError, match=r"BigBiGAN_x1\.pth: this is a (biggan|bigbigan) file, wanted stylegan2"):
        load_generator("stylegan2_car", weights=GOLDENS / "bigbigan_small128/BigBiGAN_x1.pth")
    with pytest.raises(WeightsError, match="this is a stylegan2 file, wanted bigbigan"):
        load_generator("bigbigan", weights=GOLDENS / "cfgf64/rosinality.pt")


def test_nothing_to_load_is_said():
    with pytest.raises(RecipeError, match="give gen or weights"):
        load_generator()
    with pytest.raises(WeightsError, match=r"weights nowhere\.pkl: no such file"):
        load_generator("stylegan2_car", weights="nowhere.pkl")
    with pytest.raises(RecipeError, match="unknown option 'noise'"):
        load_generator("bigbigan", weights=GOLDENS / "bigbigan_small128/BigBiGAN_x1.pth", noise="const")


def test_every_recipe_names_a_family_and_where_its_weights_come_from():
    for name in known_recipes():
        recipe = load_recipe(name)
        assert recipe.family in FAMILIES
        if not weightless(recipe.family) and name != "stylegan2_cifar10":
            assert recipe.weights or recipe.source, name


@pytest.mark.slow
def test_a_generator_is_loaded_without_torchs_compiler():
    """It would take two seconds of every process of a build."""
    code = "import sys; from genrep.generate import load_generator; load_generator('stylegan2_fashion');"
    code += "print('torch._dynamo' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

"""Misspelt names, wherever names are looked up."""

import pytest

from genrep.datasets_manifest.transport.pull import resolve
from genrep.encoders.building import build_encoder
from genrep.errors import GenRepError, one_of, suggestion
from genrep.evaluate.linear.config import LinearConfig
from genrep.generate.fits.config import NavigatorConfig
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.views import parse_view
from genrep.images.sets import load_images, load_pair
from genrep.train.config import TrainConfig
from genrep.train.presets import read_preset


def test_the_nearest_name_is_suggested():
    assert suggestion("gausian", ["uniform", "gaussian"]) == " (did you mean gaussian?)"
    assert suggestion("GAUSSIAN", ["uniform", "gaussian"]) == " (did you mean gaussian?)"
    assert suggestion("xyz", ["uniform", "gaussian"]) == suggestion(None, []) == ""
    assert one_of("unifrom", ["uniform", None, "gaussian"]) == "uniform, gaussian (did you mean uniform?)"


@pytest.mark.parametrize(
    ("look_up", "meant"),
    [
        (lambda tmp: load_recipe("stylegan_fashion"), "stylegan2_fashion"),
        (lambda tmp: parse_view("gausian:std=.2"), "gaussian"),
        (lambda tmp: parse_view("hl-random-bigbigen"), "hl-random-bigbigan"),
        (lambda tmp: parse_view("gaussian:sdt=.2"), "std"),
        (lambda tmp: read_preset("genrep-in1"), "genrep-in1k"),
        (lambda tmp: TrainConfig(data="x", out=tmp, objective="simcrl"), "simclr"),
        (lambda tmp: NavigatorConfig.of_preset("copgen", gen="stylegan2_fashion", out=tmp), "cop-gen"),
        (lambda tmp: LinearConfig(encoder="x", dataset="y", out=tmp, preset="vissel"), "vissl"),
        (lambda tmp: load_images("fashionmnist", None, "train"), "fashion_mnist"),
        (lambda tmp: load_pair("cifar-10", None), "cifar10"),
        (lambda tmp: resolve("fashion-gausian"), "fashion-gaussian"),
        (lambda tmp: build_encoder("resnet5", "imagenet", 0), "resnet50"),
    ],
)
def test_every_registry_makes_a_suggestion(tmp_path, look_up, meant):
    with pytest.raises((GenRepError, ValueError), match=rf"did you mean {meant}\?"):
        look_up(tmp_path)


def test_home_folders_from_python_and_toml(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.toml").write_text('data = ["~/set"]\nweights = "~/w"\n')
    config = TrainConfig(**read_preset("~/x.toml"), out="~/run", objective="autoencoder", gen="stylegan2_fashion")
    assert config.data == (tmp_path / "set",) and config.weights == tmp_path / "w" and config.out == tmp_path / "run"
    view = parse_view("navigator:weights=~/n.safetensors")
    assert view.weights == str(tmp_path / "n.safetensors")
    (tmp_path / "view.toml").write_text('name = "steered"\nwalks = "~/w.safetensors"\n')
    assert parse_view("~/view.toml").walks == str(tmp_path / "w.safetensors")
    (tmp_path / "recipe.toml").write_text(
        '[generator]\nfamily = "stylegan2"\nweights = "~/none.pkl"\n[views]\nname = "none"\n'
    )
    from genrep.generate.weights.locate import locate

    with pytest.raises(GenRepError, match=f"{tmp_path}/none.pkl: no such file"):
        locate(load_recipe("~/recipe.toml"))


def test_no_address_of_memory_reaches_a_message():
    from genrep.untrusted import one_line

    text = f"cannot identify image file {object()!r} by {test_every_registry_makes_a_suggestion!r}"
    assert (
        one_line(text)
        == "cannot identify image file <object object> by <function test_every_registry_makes_a_suggestion>"
    )

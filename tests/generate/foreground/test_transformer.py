"""A foreground by the patches of a vision transformer: the same rules, and a file that says what its tensors do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from genrep.encoders import EncoderFacts, build_encoder, load_encoder, save_encoder
from genrep.errors import WeightsError
from genrep.generate.fits.config import ForegroundConfig
from genrep.generate.fits.foreground import fit_foreground
from genrep.generate.views.foreground_network import Foreground, load_foreground

from .conftest import disc, save_discs

ARCH, MODEL = "vit_tiny_patch16_224:width=24,depth=1,heads=2", {"patch_size": 8, "global_pool": "avg"}
FACTS = EncoderFacts(arch=ARCH, stem="patch", size=32, mean=(0.5,) * 3, std=(0.25,) * 3, model=MODEL)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    save_discs(folder / "discs")
    save_encoder(folder / "vit.safetensors", build_encoder(ARCH, "patch", 0, size=32, model=MODEL), FACTS)
    config = ForegroundConfig(
        data=str(folder / "discs"), encoder=str(folder / "vit.safetensors"), out=folder / "fg.safetensors", device="cpu"
    )
    return config, fit_foreground(config)


def test_projections_are_of_the_patches_after_the_last_norm(fitted):
    config, result = fitted
    assert result.patches == (4, 4) and result.encoder == f"{ARCH}, patch 8, avg"
    loaded, random = load_foreground(config.out), np.random.RandomState(3)
    foreground, encoder = Foreground(loaded, CPU), load_encoder(config.encoder).module
    image = disc(9, random)
    with torch.no_grad():
        x = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
        patches = encoder(x, tokens=True).patches[0].double().numpy()
    features, projections = foreground.project(torch.from_numpy(image))
    assert np.abs(features.flatten(1).T.numpy() - patches).max() < 1e-5
    for row in range(4):
        for column in range(4):
            wanted = (patches[4 * row + column] - loaded.mean.numpy()) @ loaded.direction.double().numpy()
            assert abs(float(projections[row, column]) - wanted) < 1e-5


def test_sides_become_multiples_of_the_patches(fitted):
    foreground = Foreground(load_foreground(fitted[0].out), CPU)
    shapes = [foreground.project(torch.zeros(*shape, 3, dtype=torch.uint8))[1].shape for shape in ((32, 45), (90, 60))]
    assert shapes == [(4, 6), (6, 4)]


def test_another_size_interpolates_the_positions_and_the_file_keeps_those_it_has(fitted, tmp_path):
    config, _ = fitted
    out = tmp_path / "large.safetensors"
    assert fit_foreground(replace(config, out=out, size=48)).patches == (6, 6)
    with safe_open(out, "pt") as file:
        assert file.metadata()["positions"] == "32"
    loaded = load_foreground(out)
    assert loaded.patches.size == 48 and loaded.patches.encoder.pos_embed.shape == (1, 17, 24)
    for size, line in (
        (20, "its patches have 8 pixels, and images 20"),
        (16, r"wanted at least 3x3; give size 24 or more"),
    ):
        with pytest.raises(WeightsError, match=line):
            fit_foreground(replace(config, out=tmp_path / "x.safetensors", size=size))


def changed(fitted, path, **metadata):
    source = fitted[0].out
    with safe_open(source, "pt") as file:
        facts = {**file.metadata(), **metadata}
    tensors = load_file(source)
    tensors.update({name: facts.pop(name) for name in list(facts) if isinstance(facts[name], torch.Tensor)})
    save_file(tensors, path, facts)
    return path


def test_what_the_tensors_do_not_show_is_in_the_files_identity(fitted, tmp_path):
    same = load_foreground(changed(fitted, tmp_path / "same.safetensors", notes="moved")).file.digest
    assert same == load_foreground(fitted[0].out).file.digest
    heads = load_foreground(changed(fitted, tmp_path / "heads.safetensors", arch=ARCH.replace("heads=2", "heads=3")))
    model = load_foreground(
        changed(fitted, tmp_path / "act.safetensors", model='{"patch_size":8,"act_layer":"quick_gelu"}')
    )
    assert len({same, heads.file.digest, model.file.digest}) == 3


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({"arch": "resnet18"}, "stem 'patch': wanted one of imagenet, cifar"),
        ({"arch": "vit_nothing_here"}, "no such model"),
        ({"positions": "64"}, "encoder.pos_embed has shape"),
        ({"positions": "many"}, "not a foreground"),
        ({"positions": "33"}, "patch_size 8: does not divide images of 33 pixels"),
        ({"model": "[" * 300}, "not a foreground"),
        ({"model": '{"x":"' + "y" * 500 + '"}'}, "wanted 400 at most"),
        ({"model": '{"patch_size":4}'}, "do not fit a foreground"),
        ({"size": torch.tensor(36)}, "size 36, wanted a multiple of the patches' 8 pixels"),
    ],
)
def test_a_strangers_file_is_refused_in_one_line(fitted, tmp_path, metadata, line):
    path = changed(fitted, tmp_path / "fg.safetensors", **metadata)
    with pytest.raises(WeightsError) as caught:
        load_foreground(path)
    assert line in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)

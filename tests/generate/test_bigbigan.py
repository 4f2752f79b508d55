"""BigBiGAN against outputs of the original port (tests/goldens/README.md says how they were made)."""

import json
from pathlib import Path

import plain_biggan as plain
import pytest
import torch

from genrep.generate.generators.biggan import bigbigan
from genrep.unpickle import read_file

GOLDENS = Path(__file__).parent.parent / "goldens"
SMALL = GOLDENS / "bigbigan_small128"
TOLERANCE = 1e-4


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.fixture(scope="module")
def golden():
    return torch.load(SMALL / "golden.pt", weights_only=True)


@pytest.fixture(scope="module")
def generator():
    path = bigbigan.find(SMALL)
    return bigbigan.open_checkpoint(bigbigan.recognise(read_file(path), path, named=False))


def test_the_images_of_the_original_are_reproduced(golden, generator):
    assert largest_difference(generator.synthesize(golden["z"]), golden["img"]) <= TOLERANCE
    assert largest_difference(generator.synthesize(golden["z"], golden["y_classes"]), golden["img_y"]) <= TOLERANCE


@pytest.mark.parametrize("chunk", range(6))
def test_each_chunk_of_the_latent_enters_where_it_does_in_the_original(golden, generator, chunk):
    z = golden["z"][:1].clone()
    z[:, 20 * chunk : 20 * (chunk + 1)] += 1
    images = torch.nn.functional.avg_pool2d(generator.synthesize(z), 4)
    assert largest_difference(images, golden[f"img_chunk{chunk}_plus1"]) <= TOLERANCE


def test_it_has_no_classes_and_six_chunks_of_a_truncated_normal(generator):
    assert (generator.num_classes, generator.image_shape) == (0, (128, 128))
    assert (generator.latent.dim, generator.latent.chunks) == (120, (20,) * 6)
    assert (generator.latent.law, generator.latent.truncation) == ("truncated_normal", 2.0)


@pytest.mark.slow
def test_the_full_size_network_is_reproduced():
    shapes = json.loads((GOLDENS / "bigbigan_full/keys.json").read_text())
    arrays = plain.recipe.fill(shapes, 920, plain.recipe.BIGGAN_AJ)
    state = {key: torch.from_numpy(value) for key, value in arrays.items()}
    generator = bigbigan.open_checkpoint(bigbigan.recognise(state, Path("BigBiGAN_x1.pth"), named=True))
    golden = torch.load(GOLDENS / "bigbigan_full/golden.pt", weights_only=True)
    images, expected = generator.synthesize(golden["z"]), golden["img"]
    assert images.shape == (2, 3, 128, 128)
    assert largest_difference(torch.nn.functional.avg_pool2d(images, 2), expected["avgpool"]) <= TOLERANCE
    assert largest_difference(images[:, :, ::16], expected["rows"]) <= TOLERANCE
    assert largest_difference(images[:, :, 48:80, 48:80], expected["center32"]) <= TOLERANCE
    assert largest_difference(images[:, :, :8, :8], expected["corner8"]) <= TOLERANCE


def test_images_do_not_depend_on_how_a_batch_is_split(generator):
    z = torch.randn(5, 120, generator=torch.Generator().manual_seed(0))
    parts = torch.cat([generator.synthesize(z[:2]), generator.synthesize(z[2:3]), generator.synthesize(z[3:])])
    assert largest_difference(generator.synthesize(z), parts) <= 1e-5


def test_the_network_is_frozen_yet_differentiable_in_every_chunk(generator):
    z = torch.randn(1, 120, generator=torch.Generator().manual_seed(0)).requires_grad_()
    generator.synthesize(z).square().sum().backward()
    assert not any(parameter.requires_grad for parameter in generator.network.parameters())
    assert all(float(chunk.abs().sum()) > 0 for chunk in z.grad.split(20, dim=1))


def test_equal_rows_of_the_class_embedding_tell_it_from_a_biggan():
    state = plain.random_state()
    path = Path("weights.pth")
    assert bigbigan.recognise(state, path, named=False) is None
    assert bigbigan.recognise(state, path, named=True) is not None
    assert bigbigan.recognise(state, Path("BigBiGAN_x2.pth"), named=False) is not None
    state["shared.weight"] = state["shared.weight"][:1].repeat(5, 1)
    found = bigbigan.recognise(state, path, named=False)
    assert found.family == "bigbigan"
    z = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    expected = plain.plain_images(state, z, state["shared.weight"][:2], bn_eps=1e-4, sn_eps=1e-4)
    assert largest_difference(bigbigan.open_checkpoint(found).synthesize(z), expected) <= 2e-5


def test_a_folder_without_the_published_file_has_none(tmp_path):
    assert bigbigan.find(tmp_path) is None
    (tmp_path / "BigBiGAN_a.pth").write_bytes(b"")
    assert bigbigan.find(tmp_path).name == "BigBiGAN_a.pth"
    (tmp_path / "BigBiGAN_x1.pth").write_bytes(b"")
    assert bigbigan.find(tmp_path).name == "BigBiGAN_x1.pth"

"""BigGAN-PyTorch's checkpoints: against the original's images, and against its equations for what those do not cover."""

from pathlib import Path

import plain_biggan as plain
import pytest
import torch

from genrep.errors import GeneratorError, WeightsError
from genrep.generate.generators.base import checkpoint_from_safetensors, save_checkpoint
from genrep.generate.generators.biggan import bigbigan, family, icgan
from genrep.unpickle import read_file

CASE = Path(__file__).parent.parent / "goldens" / "biggan_shared_hier64"
TOLERANCE = 1e-4
NOWHERE = Path("G.pth")


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def opened(state, path=NOWHERE):
    return family.open_checkpoint(family.recognise(state, path, named=True))


def noise(batch, dim, seed=0):
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def golden():
    return torch.load(CASE / "golden.pt", weights_only=True)


@pytest.fixture(scope="module")
def generator():
    path = CASE / "state_dict.pt"
    return family.open_checkpoint(family.recognise(read_file(path), path, named=False))


def test_the_images_of_the_original_are_reproduced(golden, generator):
    assert (generator.num_classes, generator.image_shape) == (10, (64, 64))
    assert (generator.latent.dim, generator.latent.chunks) == (40, (8,) * 5)
    images = generator.synthesize(golden["z"], golden["y"])
    assert largest_difference(images, golden["img"]) <= TOLERANCE


def test_a_plain_biggan_is_taken_for_neither_of_its_descendants():
    path = CASE / "state_dict.pt"
    assert bigbigan.recognise(read_file(path), path, named=False) is None
    assert icgan.recognise(read_file(path), path, named=True) is None


@pytest.mark.parametrize("content", [{}, [], {"linear.weight": torch.zeros(1)}, {1: 2}, torch.zeros(3)])
def test_other_content_is_of_no_family_here(content):
    for module in (bigbigan, icgan, family):
        assert module.recognise(content, NOWHERE, named=True) is None


VARIANTS = {
    "hierarchical": {},
    "not hierarchical": {"hierarchical": False, "chunk": 9},
    "embedding per layer": {"hierarchical": False, "shared": False, "chunk": 9},
    "embedding per layer, standing statistics": {"hierarchical": False, "shared": False, "chunk": 9, "norm": "mybn"},
    "standing statistics": {"norm": "mybn"},
    "cross-replica": {"norm": "sync"},
    "three singular values": {"singular_values": 3},
    "no spectral norm": {"singular_values": 0},
    "two attentions": {"attention": (0, 2)},
    "no attention": {"attention": ()},
    "other widths": {"channels": (24, 8, 24, 16), "chunk": 5, "class_width": 3},
    "chunk as wide as the embedding": {"chunk": 4, "class_width": 4},
    "four blocks": {"channels": (16, 16, 8, 8, 16)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_the_graph_does_what_its_equations_say(variant):
    options = VARIANTS[variant]
    state = plain.random_state(**options)
    generator = opened(state)
    assert generator.num_classes == 5
    assert generator.image_shape == ((64, 64) if variant == "four blocks" else (32, 32))
    z, y = noise(3, generator.latent.dim), torch.tensor([4, 0, 2])
    if "shared.weight" in state:
        expected = plain.plain_images(state, z, state["shared.weight"][y])
    else:
        expected = plain.plain_images(state, z, labels=y)
    assert expected.std() > 0.1
    assert largest_difference(generator.synthesize(z, y), expected) <= 2e-5


def test_statistics_that_were_never_accumulated_are_taken_as_they_are():
    state = plain.random_state(norm="mybn")
    state = {key: torch.zeros(1) if key.endswith("counter") else value for key, value in state.items()}
    ones = {key: torch.ones(1) if key.endswith("counter") else value for key, value in state.items()}
    z, y = noise(2, 12), torch.tensor([1, 3])
    expected = plain.plain_images(ones, z, state["shared.weight"][y])
    assert largest_difference(opened(state).synthesize(z, y), expected) <= 2e-5


def test_the_prefix_of_data_parallel_and_half_precision_are_no_obstacle():
    state = plain.random_state()
    half = {f"module.{key}": value.half() for key, value in state.items()}
    z, y = noise(2, 12), torch.tensor([1, 3])
    rounded = {key: value.half().float() for key, value in state.items()}
    assert largest_difference(opened(half).synthesize(z, y), opened(rounded).synthesize(z, y)) == 0


def test_epsilons_come_from_the_state_beside_the_weights(tmp_path):
    state = plain.random_state()
    torch.save(state, tmp_path / "G_ema_best1.pth")
    config = {"BN_eps": "0.02", "SN_eps": 0.1, "hier": "True", "G_activation": torch.nn.ReLU(), "norm_style": "bn"}
    torch.save({"config": config, "best_FID": 9.5}, tmp_path / "state_dict_best1.pth")
    generator = opened(read_file(tmp_path / "G_ema_best1.pth"), tmp_path / "G_ema_best1.pth")
    z, y = noise(2, 12), torch.tensor([1, 3])
    condition = state["shared.weight"][y]
    expected = plain.plain_images(state, z, condition, bn_eps=0.02, sn_eps=0.1)
    assert largest_difference(generator.synthesize(z, y), expected) <= 2e-5
    assert largest_difference(plain.plain_images(state, z, condition, bn_eps=0.02), expected) > 1e-3
    assert largest_difference(plain.plain_images(state, z, condition, sn_eps=0.1), expected) > 1e-3


def test_a_config_that_the_tensors_contradict_is_refused(tmp_path):
    torch.save(plain.random_state(), tmp_path / "G.pth")
    torch.save({"config": {"hier": False}}, tmp_path / "state_dict.pth")
    with pytest.raises(WeightsError, match=r"G\.pth: blocks take conditions of width 7"):
        opened(read_file(tmp_path / "G.pth"), tmp_path / "G.pth")
    torch.save({"config": {"norm_style": "gn"}}, tmp_path / "state_dict.pth")
    with pytest.raises(WeightsError, match="normalisation 'gn' is not supported"):
        opened(read_file(tmp_path / "G.pth"), tmp_path / "G.pth")


def test_soft_classes_mix_the_embeddings(golden, generator):
    one_hot = torch.nn.functional.one_hot(golden["y"], 10).float()
    assert largest_difference(generator.synthesize(golden["z"], one_hot), golden["img"]) <= TOLERANCE
    state = plain.random_state(hierarchical=False, shared=False)
    z, soft = noise(1, 3), torch.tensor([[0.5, 0, 0.5, 0, 0]])
    images = opened(state).synthesize(z, soft)
    mixed = {key: (value[:1] + value[2:3]) / 2 if value.shape[:1] == (5,) else value for key, value in state.items()}
    assert largest_difference(images, plain.plain_images(mixed, z, labels=torch.tensor([0]))) <= 2e-5


def test_images_do_not_depend_on_how_a_batch_is_split(generator):
    z, y = noise(7, 40), torch.arange(7)
    whole = generator.synthesize(z, y)
    parts = torch.cat([generator.synthesize(z[i:j], y[i:j]) for i, j in ((0, 1), (1, 4), (4, 7))])
    assert largest_difference(whole, parts) <= 1e-5


def test_what_a_chunked_latent_has_too_much_is_ignored(golden, generator):
    z = torch.cat([golden["z"], noise(3, 7)], dim=1)
    assert largest_difference(generator.synthesize(z, golden["y"]), golden["img"]) <= TOLERANCE


def test_the_network_is_frozen_yet_its_gradient_in_z_is_that_of_the_equations():
    state = plain.random_state(attention=(0, 1))
    generator = opened(state)
    assert not generator.network.training
    assert not list(generator.network.parameters())
    y, weights = torch.tensor([1, 3]), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    gradients = []
    for images_of in (
        lambda z: generator.synthesize(z, y),
        lambda z: plain.plain_images(state, z, state["shared.weight"][y]),
    ):
        z = noise(2, 12).requires_grad_()
        (images_of(z) * weights).sum().backward()
        gradients.append(z.grad)
    assert float(gradients[1].abs().max()) > 1
    assert largest_difference(*gradients) <= 1e-4 * float(gradients[1].abs().max())


def test_a_converted_checkpoint_opens_to_the_same_images_and_digest(tmp_path):
    state = plain.random_state(norm="mybn", singular_values=2)
    checkpoint = family.recognise(state, NOWHERE, named=True)
    save_checkpoint(checkpoint, tmp_path / "converted.safetensors")
    again = checkpoint_from_safetensors(tmp_path / "converted.safetensors")
    assert (again.family, again.config) == ("biggan", checkpoint.config)
    assert again.digest() == checkpoint.digest()
    z, y = noise(2, 12), torch.tensor([1, 3])
    first, second = (family.open_checkpoint(made).synthesize(z, y) for made in (checkpoint, again))
    assert largest_difference(first, second) <= 1e-6


def test_the_averaged_weights_of_the_best_snapshot_are_found(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    assert family.find(folder) is None
    assert family.find(tmp_path / "nowhere") is None
    for name in ("G.pth", "G_optim.pth", "D.pth", "G_optim_best0.pth"):
        (folder / name).write_bytes(b"")
    assert family.find(folder).name == "G.pth"
    for suffix in ("", "_best0", "_best1", "_copy0"):
        (folder / f"G_ema{suffix}.pth").write_bytes(b"")
    assert family.find(folder).name == "G_ema_best0.pth"
    for suffix, fid in (("", 8.0), ("_best0", 9.0), ("_best1", 8.0)):  # the last state knows the best FID so far
        torch.save({"config": {}, "best_FID": fid}, folder / f"state_dict{suffix}.pth")
    assert family.find(folder).name == "G_ema_best1.pth"
    assert family.find(tmp_path).parent == folder  # the only experiment in the folder


def test_a_folder_of_several_experiments_is_refused_by_their_names(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "G_ema.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match="holds first, second; name one"):
        family.find(tmp_path)


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "blocks.1.0.bn2.stored_var"), r"blocks\.1\.0\.bn2\.stored_var is missing"),
        (lambda s: without(s, "blocks.1.0.conv1.weight"), r"does not belong to the BigGAN generator"),
        (lambda s: without(s, "blocks.0.0.bn1.gain.weight"), "not those of a BigGAN generator"),
        (
            lambda s: s | {"linear.weight": torch.zeros(250, 3)},
            r"linear\.weight has 250 rows, wanted 16 times a square",
        ),
        (lambda s: s | {"linear.bias": "text"}, r"linear\.bias is missing"),
        (lambda s: s | {"blocks.0.0.conv2.u0": torch.ones(1, 3)}, r"conv2\.u0 has shape \(1, 3\), wanted \(1, 16\)"),
        (lambda s: s | {"surprise": torch.zeros(2)}, "surprise does not belong to the BigGAN generator"),
        (lambda s: s | {"blocks.0.0.conv4.weight": torch.zeros(2)}, "BigGAN-deep from BigGAN-PyTorch is not supported"),
        (lambda s: s | {"blocks.0.0.bn1.gain.weight": torch.zeros(16, 99)}, "conditions of width 99"),
    ],
)
def test_damaged_weights_are_refused_in_one_line_that_names_the_tensor(change, message):
    with pytest.raises(WeightsError, match=message) as raised:
        opened(change(plain.random_state()), Path("folder/G.pth"))
    assert "folder/G.pth" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_weight_without_a_norm_is_refused():
    state = plain.random_state()
    state["blocks.1.0.conv2.weight"].zero_()
    with pytest.raises(WeightsError, match=r"spectral norm of blocks\.1\.0\.conv2\.weight is 0"):
        opened(state)


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (torch.zeros(2, 39), torch.zeros(2, dtype=torch.int64), r"z has shape \(2, 39\), wanted \(B, 40\)"),
        (torch.zeros(40), torch.zeros(1, dtype=torch.int64), r"z has shape \(40,\)"),
        (torch.zeros(2, 40), None, "10 classes: synthesize needs y"),
        (torch.zeros(2, 40), torch.tensor([0, 10]), "y is 0 to 10, wanted classes from 0 to 9"),
        (torch.zeros(2, 40), torch.tensor([0, -1]), "y is -1 to 0, wanted classes from 0 to 9"),
        (torch.zeros(2, 40), torch.tensor([0]), r"y has shape \(1,\)"),
        (torch.zeros(2, 40), torch.zeros(2, 9), r"y has shape \(2, 9\)"),
        (torch.zeros(2, 40), torch.zeros(2), r"dtype torch\.float32"),
    ],
)
def test_latents_and_classes_of_wrong_shapes_are_refused(generator, z, y, message):
    with pytest.raises(GeneratorError, match=message):
        generator.synthesize(z, y)

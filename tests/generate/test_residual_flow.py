"""Residual Flow against outputs of the original code (tests/goldens/README.md says how they were made)."""

import copy
import json
from pathlib import Path

import pytest
import torch

from genrep.errors import GeneratorError, WeightsError
from genrep.generate.generators.base import checkpoint_from_safetensors, save_checkpoint
from genrep.generate.generators.residual_flow import family, layers
from genrep.unpickle import read_file

GOLDEN = Path(__file__).parent.parent / "goldens" / "residual_flow_cifar16"
TOLERANCE = 5e-4  # of images in [0, 1]


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def generator_of(content):
    return family.open_checkpoint(family.recognise(content, Path("file.pth"), named=False))


@pytest.fixture(scope="module")
def content():
    return read_file(GOLDEN / "most_recent.pth")


@pytest.fixture(scope="module")
def generator(content):
    return generator_of(content)


@pytest.fixture(scope="module")
def golden():
    return torch.load(GOLDEN / "golden.pt", weights_only=True)


def test_images_are_reproduced(generator, golden):
    for temperature, name in ((1.0, "img"), (0.7, "img_temp0.7")):
        images = generator.synthesize(golden["z"] * temperature)
        assert largest_difference((images + 1) / 2, golden[name]) <= TOLERANCE
    alone = generator.synthesize(golden["z"][:1])
    assert largest_difference((alone + 1) / 2, golden["img_first_alone"]) <= TOLERANCE


def test_the_originals_latents_lead_back_to_their_images(generator, golden):
    assert largest_difference((generator.synthesize(golden["forward_z"]) + 1) / 2, golden["x"]) <= TOLERANCE


def test_the_protocol_is_kept(generator):
    assert (generator.latent.dim, generator.latent.law, generator.latent.scale) == (768, "normal", 1.0)
    assert (generator.num_classes, generator.image_shape) == (0, (16, 16))
    assert not any(tensor.requires_grad for tensor in generator.network.state_dict(keep_vars=True).values())
    assert not generator.network.training


def test_a_checkpoint_survives_being_stored(content, golden, generator, tmp_path):
    checkpoint = family.recognise(content, Path("file.pth"), named=False)
    save_checkpoint(checkpoint, tmp_path / "weights.safetensors")
    again = checkpoint_from_safetensors(tmp_path / "weights.safetensors")
    assert (again.config, again.digest()) == (checkpoint.config, checkpoint.digest())
    json.dumps(again.config, allow_nan=False)
    assert torch.equal(family.open_checkpoint(again).synthesize(golden["z"]), generator.synthesize(golden["z"]))


def test_latents_of_another_size_are_refused(generator):
    for z in (torch.zeros(1, 767), torch.zeros(768), torch.zeros(1, 3, 16, 16)):
        with pytest.raises(GeneratorError, match=r"wanted \(B, 768\)$"):
            generator.synthesize(z)


def test_a_branch_that_is_no_contraction_is_an_error_not_a_loop(monkeypatch):
    monkeypatch.setattr(layers, "MAX_STEPS", 50)
    branch = layers.residual_branch(
        ["relu", "linear"], [{}, {"weight": torch.full((1, 1), 3.0), "bias": torch.zeros(1)}]
    )
    with pytest.raises(GeneratorError, match=r"1 samples do not converge in 50 steps"):
        layers.Residual(branch).inverse(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))  # 1 goes to -2, 1, -2, ...


def part(content, path=""):
    """The pickled module at this place of the network."""
    found = content["ema"].state["module"]
    for name in path.split(".") if path else ():
        found = found.state["_modules"][name]
    return found


def wrap_itself(wrapper):
    wrapper.state["_modules"]["fc_module"] = wrapper


def drop(content, name):
    content["state_dict"].pop(name)
    content["ema"].state["shadow_params"].pop(name, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("ema"), "no 'ema' object"),
        (lambda c: c.update(ema={"shadow_params": {}}), "no 'ema' object"),
        (lambda c: c["ema"].state.pop("module"), "no 'ema' object"),
        (lambda c: c["ema"].state["shadow_params"].update(x=torch.zeros(1)), "averaged 'x'"),
        (lambda c: drop(c, "transforms.0.chain.1.bias"), "no tensor 'transforms.0.chain.1.bias'"),
        (lambda c: drop(c, "transforms.0.chain.2.nnet.0.u"), "no tensor 'transforms.0.chain.2.nnet.0.u'"),
        (lambda c: part(c).state.update(learn_p=True), "learn_p True"),
        (lambda c: part(c).state.update(vnorms="222f"), "vnorms '222f'"),
        (lambda c: part(c).state.pop("coeff"), "without its attribute 'coeff'"),
        (lambda c: part(c).state.update(coeff="large"), "damaged"),
        (lambda c: setattr(part(c), "name", "resflows.Other"), "the network is a Other"),
        (
            lambda c: setattr(part(c, "transforms.1.chain.0"), "name", "resflows.ChannelCouplingBlock"),
            "ChannelCouplingBlock: not",
        ),
        (lambda c: setattr(part(c, "transforms.1.chain.0.nnet"), "state", None), "not a container"),
        (lambda c: part(c, "transforms.1.chain.0").state.update(_modules={}), "iResBlock without its part 'nnet'"),
        (lambda c: wrap_itself(part(c, "transforms.1.chain.5")), "damaged"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(content, change, message):
    content = copy.deepcopy(content)
    change(content)
    with pytest.raises(WeightsError) as caught:
        family.recognise(content, Path("file.pth"), named=False)
    assert str(caught.value).startswith("weights file.pth: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda checkpoint: checkpoint.tensors.pop("transforms.0.chain.1.bias"),
        lambda checkpoint: checkpoint.tensors.update({"transforms.0.chain.2.nnet.0.weight": torch.zeros(6, 2, 3, 3)}),
        lambda checkpoint: checkpoint.tensors.update({"transforms.0.chain.2.nnet.0.v": torch.zeros(5)}),
        lambda checkpoint: checkpoint.tensors.update({"transforms.0.chain.3.weight": torch.zeros(7)}),
        lambda checkpoint: checkpoint.config.update(image_shape=[5, 4, 4]),
        lambda checkpoint: checkpoint.config.update(chains=[["warp"]]),
        lambda checkpoint: checkpoint.config.update(chains=[[{"residual": ["conv", "conv"]}]]),
        lambda checkpoint: checkpoint.config.pop("factor_out"),
        lambda checkpoint: checkpoint.config.update(coeff=1.5),
        lambda checkpoint: checkpoint.config.update(iterations=10**12),
    ],
)
def test_tensors_and_config_that_do_not_fit_are_refused_in_one_line(content, change):
    checkpoint = family.recognise(content, Path("file.pth"), named=False)
    checkpoint = copy.deepcopy(checkpoint)
    change(checkpoint)
    with pytest.raises(WeightsError, match=r"^Residual Flow weights: [^\n]+$"):
        family.open_checkpoint(checkpoint)


def test_other_files_are_left_to_other_families():
    for content in ({}, [1], "text", {"state_dict": {"conv.weight": torch.zeros(1)}}, {"G_ema": {}}, {1: 2}):
        assert family.recognise(content, Path("file.pth"), named=False) is None


def test_the_weights_of_a_folder_are_found(tmp_path):
    assert family.find(tmp_path) is None
    (tmp_path / "cifar10_resflow_16-16-16.pth").touch()
    assert family.find(tmp_path).name == "cifar10_resflow_16-16-16.pth"
    (tmp_path / "mnist_resflow_16-16-16.pth").touch()
    with pytest.raises(WeightsError, match="several"):
        family.find(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "most_recent.pth").touch()
    assert family.find(tmp_path) == tmp_path / "models" / "most_recent.pth"

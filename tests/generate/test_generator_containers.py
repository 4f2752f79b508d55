"""However a file wraps a generator, the checkpoint is the one of its bare state dict."""

import importlib.util
import pickle
from pathlib import Path

import pytest
import torch

from genrep.errors import WeightsError
from genrep.generate.generators.biggan import family as biggan
from genrep.generate.generators.biggan_deep import family as biggan_deep
from genrep.generate.generators.finding import find_network
from genrep.generate.generators.stylegan2 import family
from genrep.generate.weights.conversion import read_checkpoint
from genrep.unpickle import read_file

GOLDENS = Path(__file__).parent.parent / "goldens"


def sibling(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain, files = sibling("plain_stylegan2"), sibling("stylegan2_files")
ADA = plain.random_state()
OTHER = {name: tensor + 1 for name, tensor in ADA.items()}
MEAN = ADA["mapping.w_avg"]


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def ros(state=ADA):
    return files.rosinality_state(state)


def read(content):
    found = family.recognise(content, Path("w.pt"), named=False)
    assert found is not None
    return found


CONTAINERS = {
    "bare": lambda: {**ros(), "latent_avg": MEAN},
    "a training's, its average": lambda: {"g": ros(OTHER), "d": {"x": torch.zeros(1)}, "g_ema": ros(), "latent_avg": MEAN},
    "DataParallel": lambda: {"g_ema": under("module.", ros()), "latent_avg": MEAN},
    "torch.compile in DDP": lambda: {"g_ema": under("module._orig_mod.", ros()), "latent_avg": MEAN},
    "each layer wrapped": lambda: {
        "g_ema": {name.replace("convs.", "convs.module."): tensor for name, tensor in ros().items()}, "latent_avg": MEAN
    },
    "BasicSR": lambda: {"params": ros(OTHER), "params_ema": {**ros(), "latent_avg": MEAN}},
    "pSp, its mean for each layer": lambda: {
        "state_dict": {**under("decoder.", ros()), **under("encoder.", {"body.0.weight": torch.zeros(3)})},
        "latent_avg": MEAN.repeat(6, 1),
        "opts": {"device": "cuda"},
    },
    "Lightning": lambda: {"state_dict": under("g_ema.", ADA) | under("generator.", OTHER), "epoch": 3},
    "ADA, the mean for each layer": lambda: {"G_ema": {**ADA, "mapping.w_avg": MEAN.repeat(6, 1)}},
    "camel case": lambda: {"netGEma": ADA, "netG": OTHER},
    "a list": lambda: {"models": [under("module.", ADA), {"d.weight": torch.zeros(1)}]},
    "arrays": lambda: {"g_ema": {name: tensor.numpy() for name, tensor in ADA.items()}},
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_changes_nothing(container):
    found, wanted = read(CONTAINERS[container]()), read(ADA)
    assert found.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        assert torch.allclose(found.tensors[name], tensor, atol=1e-6), name
    assert found.digest() == wanted.digest()


@pytest.mark.parametrize("prefix", ["module", "state.net.module"])
def test_attributes_of_pickled_modules_are_read_below_a_prefix(tmp_path, prefix):
    def attributes(name):
        return {"conv_clamp": 256.0} if name.rpartition(".")[2] in ("conv0", "conv1", "torgb") else {}

    path = files.write_ada(tmp_path / "w.pkl", {"G": OTHER, "G_ema": ADA}, attributes=attributes)
    content = read_file(path)["G_ema"]
    for part in reversed(prefix.split(".")):
        content = {part: content}
    found = read({"G_ema": content} if prefix == "module" else content)
    assert found.config["conv_clamp"] == 256
    assert found.digest() == read(ADA).digest()


def test_what_is_left_out_is_said_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    path = tmp_path / "psp.pt"
    content = CONTAINERS["pSp, its mean for each layer"]()
    torch.save(content, path)
    checkpoint, _ = read_checkpoint(path, "stylegan2")
    said = capsys.readouterr().err
    assert f"weights {path}: took the generator at state_dict.decoder\n" in said
    assert f"weights {path}: left out: state_dict.encoder (1 tensor)\n" in said  # and not the mean, which was taken
    again, _ = read_checkpoint(path, "stylegan2")
    assert again.digest() == checkpoint.digest() == read(ADA).digest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"g": ros(), "d": {}}, "a training's file without 'g_ema'"),
        ({"G": under("module.", ADA)}, "a training's file without 'G_ema'"),
        ({"one": ADA, "two": OTHER}, r"2 different generators \(one, two\)"),
        ({"a_ema": ADA, "b_ema": OTHER}, r"2 different generators \(a_ema, b_ema\)"),
        ({**ADA, "mapping.w_avg": torch.arange(2.0)[:, None] * MEAN}, "mean of W differs from layer to layer"),
        ({"x": under("module.", {**ADA, "synthesis.b4.torgb.bias\x1b[2J": MEAN})}, r"unexpected tensor 'synthesis"),
        ({"k" * 3000: ADA}, "is a name of 3,0.. characters"),
        ({"net": {"synthesis.input.freqs": torch.zeros(1)}}, "StyleGAN3"),
    ],
)  # fmt: skip
def test_what_is_not_clear_or_not_whole_is_refused(content, message):
    with pytest.raises(WeightsError, match=rf"^weights w.pt: .*{message}") as caught:
        family.recognise(content, Path("w.pt"), named=False)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_bigans_below_any_prefix():
    state = torch.load(GOLDENS / "biggan_shared_hier64/state_dict.pt", weights_only=True)
    wanted = biggan.recognise(state, Path("G.pth"), named=False)
    wrapped = {
        "state_dict": under("module.G_ema._orig_mod.", state) | under("module.D.", {"linear.weight": torch.zeros(1)})
    }
    found = biggan.recognise(wrapped, Path("G.pth"), named=False)
    assert found.digest() == wanted.digest()
    assert found.notes[-1] == "left out: state_dict.module.D (1 tensor)"
    state = torch.load(GOLDENS / "biggan_deep_small64/pytorch_model.bin", weights_only=True)
    wanted = biggan_deep.recognise(state, Path("x.bin"), named=False)
    assert (
        biggan_deep.recognise({"model": under("module.", state)}, Path("x.bin"), named=False).digest()
        == wanted.digest()
    )


def test_other_objects_hold_no_network():
    for content in (None, 3, [ADA], pickle, torch.zeros(2), {}):
        assert find_network(content, ("synthesis.b4.const",), "x") is None

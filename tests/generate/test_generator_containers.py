"""However a file wraps a generator, the checkpoint is the one of its bare state dict."""

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import plain_stylegan2 as plain
import pytest
import stylegan2_files as files
import torch

from genrep.errors import RecipeError, WeightsError
from genrep.generate import load_generator
from genrep.generate.generators.base import save_checkpoint
from genrep.generate.generators.biggan import family as biggan
from genrep.generate.generators.biggan_deep import family as biggan_deep
from genrep.generate.generators.found_network import find_network
from genrep.generate.generators.residual_flow import family as residual_flow
from genrep.generate.generators.stylegan2 import family
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.weights.conversion import read_checkpoint
from genrep.generate.weights.locate import locate
from genrep.unpickle import read_file
from genrep.unpickle.records import Opaque

GOLDENS = Path(__file__).parent.parent / "goldens"
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
    "counters of a profiler": lambda: {
        "g_ema": ADA
        | {f"{name.rpartition('.')[0]}.total_ops": torch.zeros(1) for name in ADA}
        | {"total_params": torch.zeros(1)}
    },
    "SWA": lambda: {"n_averaged": torch.tensor(9), **under("module.", ADA)},
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
    counted = read({"g_ema": {**ADA, "mapping.total_ops": torch.zeros(1)}})
    assert counted.notes == ("took the generator at g_ema", "left out: total_ops (1 tensor that takes no part)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"g": ros(), "d": {}}, "a training checkpoint without 'g_ema'"),
        ({"G": under("module.", ADA)}, "a training checkpoint without 'G_ema'"),
        ({"one": ADA, "two": OTHER}, r"2 different generators \(one, two\); name one: w.pt#one or w.pt#two"),
        ({"ours": ADA, "theirs": ros(OTHER)}, r"2 different generators \(ours, theirs\)"),
        ({"a_ema": ADA, "b_ema": OTHER}, r"2 different generators \(a_ema, b_ema\)"),
        ({**ADA, "mapping.w_avg": torch.arange(2.0)[:, None] * MEAN}, r"w_avg of shape \(2, 6\), wanted \(6, 6\)"),
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


TWO = {"g": ros(OTHER), "g_ema": ros(), "latent_avg": MEAN, "old": {"g_ema": under("module.", ros(OTHER))}}


@pytest.mark.parametrize(
    ("network", "state"),
    [("g", OTHER), ("g_ema", ADA), ("old.g_ema", OTHER), ("old.g_ema.module", OTHER), ("old", None), ("x", None)],
)
def test_one_of_several_networks_is_chosen(tmp_path, monkeypatch, network, state):
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    path = tmp_path / "two.pt"
    torch.save(TWO, path)
    if state is None:
        options = rf"{path}#g, {path}#g_ema, {path}#old.g_ema.module"
        with pytest.raises(
            WeightsError, match=rf"^weights {path}#{network}: names 0 of its 3 generators; .*{options}$"
        ):
            load_generator("stylegan2", weights=f"{path}#{network}")
        return
    wanted = read({**ros(state), "latent_avg": MEAN}).digest()
    for gen in (None, "stylegan2"):
        generator = load_generator(gen, weights=f"{path}#{network}")
        z = generator.latent.sample(0, np.arange(2))
        with torch.no_grad():
            expected = family.open_checkpoint(read({**ros(state), "latent_avg": MEAN})).synthesize(torch.from_numpy(z))
            assert torch.equal(generator.synthesize(torch.from_numpy(z)), expected)
    source = locate(load_recipe("stylegan2"), f"{path}#{network}")
    checkpoint, facts = read_checkpoint(source.path, "stylegan2", source.network)
    assert (checkpoint.digest(), facts["file"], facts["network"]) == (wanted, "two.pt", network)


def test_a_choice_finds_the_family_that_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    other = torch.load(GOLDENS / "biggan_shared_hier64/state_dict.pt", weights_only=True)
    torch.save({"style": under("G_ema.", ADA), "big": under("G_ema.", other)}, path := tmp_path / "both.pt")
    for choice, name in (("style.G_ema", "stylegan2"), ("big.G_ema", "biggan")):
        assert read_checkpoint(path, None, choice)[0].family == name
        assert read_checkpoint(path, name, choice)[0].family == name
    with pytest.raises(WeightsError, match=r"both\.pt: this is a biggan file, wanted stylegan2"):
        read_checkpoint(path, "stylegan2", "big.G_ema")


@pytest.mark.parametrize(
    ("file", "choice", "average"),
    [
        ("cfgf64/network.tf.nosrc.pkl", "G", "Gs"),
        ("cond32_fp16cfg/network-snapshot.nosrc.proto4.pkl", "G", "G_ema"),
        ("residual_flow_cifar16/most_recent.pth", "state_dict", "ema"),
    ],
)
def test_the_originals_files_give_the_network_that_was_trained_on_request(tmp_path, monkeypatch, file, choice, average):
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    usual = read_checkpoint(GOLDENS / file)[0].digest()
    assert read_checkpoint(GOLDENS / file, None, average)[0].digest() == usual
    trained = read_checkpoint(GOLDENS / file, None, choice)[0]
    assert trained.digest() != usual
    with pytest.raises(WeightsError, match=rf"#D: (is none of|names 0 of).*; wanted one of .*#{choice}"):
        read_checkpoint(GOLDENS / file, None, "D")


def test_a_file_of_ours_holds_one_network():
    packaged = Path(locate(load_recipe("stylegan2_fashion")).path)
    assert read_checkpoint(packaged, None, ".")[0].digest() == read_checkpoint(packaged)[0].digest()
    with pytest.raises(WeightsError, match="holds one network; give"):
        read_checkpoint(packaged, None, "g_ema")


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: rows[None]])
def test_a_mean_of_w_for_each_layer_is_kept_and_used_layer_by_layer(tmp_path, wrap):
    rows = MEAN + torch.linspace(-0.5, 0.5, 6)[:, None]
    path = tmp_path / "psp.pt"
    torch.save({"state_dict": under("decoder.", ros()), "latent_avg": wrap(rows)}, path)
    found = read(read_file(path))
    assert torch.equal(found.tensors["mapping.w_avg"], rows)
    assert found.digest() == read({**ADA, "mapping.w_avg": rows}).digest() != read(ADA).digest()
    save_checkpoint(found, tmp_path / "ours.safetensors")
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(3))
    for cutoff in (None, 4):
        generator = load_generator(weights=tmp_path / "ours.safetensors", truncation=0.6, truncation_cutoff=cutoff)
        w = plain.plain_mapping(ADA, z)[:, None].expand(-1, 6, -1)
        truncated = rows.double() + 0.6 * (w - rows.double())
        ws = truncated if cutoff is None else torch.cat([truncated[:, :cutoff], w[:, cutoff:]], dim=1)
        expected = plain.plain_synthesis(ADA, ws)
        assert float((generator.synthesize(z).double() - expected).abs().max()) <= 2e-5 * float(expected.abs().max())
    untruncated = load_generator(weights=tmp_path / "ours.safetensors").synthesize(z)
    assert torch.equal(untruncated, family.open_checkpoint(read(ADA)).synthesize(z))


class BasicSR(torch.nn.Module):
    """StyleGAN2 with the modules of BasicSR's ``StyleGAN2Generator``, forward by the definition. For names and values only."""

    class Part(torch.nn.Module):
        def __init__(self, **tensors):
            super().__init__()
            for name, value in tensors.items():
                if isinstance(value, torch.nn.Module):
                    self.add_module(name, value)
                else:
                    setattr(self, name, torch.nn.Parameter(value))

    def __init__(self, width=6, layers=2, channels=(6, 5, 4)):
        super().__init__()
        draw, part = torch.randn, self.Part
        self.channels = channels
        mlp = [part(weight=draw(width, width) * 100, bias=draw(width) * 20) for _ in range(layers)]
        self.style_mlp = torch.nn.Sequential(torch.nn.Identity(), *mlp)
        self.constant_input = part(weight=draw(1, channels[0], 4, 4))

        def modulated(inputs, outputs, size):
            modulation = part(weight=draw(inputs, width), bias=1 + draw(inputs) * 0.2)
            return part(weight=draw(1, outputs, inputs, size, size), modulation=modulation)

        def convolution(inputs, outputs):
            return part(
                modulated_conv=modulated(inputs, outputs, 3),
                weight=draw(1) * 0.5,
                activate=part(bias=draw(outputs) * 0.3),
            )

        def rgb(inputs):
            return part(modulated_conv=modulated(inputs, 3, 1), bias=draw(1, 3, 1, 1))

        self.style_conv1, self.to_rgb1 = convolution(channels[0], channels[0]), rgb(channels[0])
        self.style_convs, self.to_rgbs = torch.nn.ModuleList(), torch.nn.ModuleList()
        for before, after in pairwise(channels):
            self.style_convs.extend([convolution(before, after), convolution(after, after)])
            self.to_rgbs.append(rgb(after))
        self.noises = torch.nn.Module()
        for i in range(2 * len(channels) - 1):
            size = 2 ** ((i + 5) // 2)
            self.noises.register_buffer(f"noise{i}", draw(1, 1, size, size))

    def _modulated(self, conv, x, w, demodulate, up=False):
        kernels = []
        for one in w:
            style = conv.modulation.weight @ one / one.shape[0] ** 0.5 + conv.modulation.bias
            kernel = conv.weight[0] * style[None, :, None, None] / conv.weight[0, 0].numel() ** 0.5
            if demodulate:
                kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
            kernels.append(kernel)
        maps = []
        for one, kernel in zip(x, kernels):
            if up:
                one = torch.nn.functional.conv_transpose2d(one[None], kernel.transpose(0, 1), stride=2)
                fir = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64)
                one = plain._filter(one, fir.outer(fir) / 16, 1, 1)
            else:
                one = torch.nn.functional.conv2d(one[None], kernel, padding=kernel.shape[-1] // 2)
            maps.append(one)
        return torch.cat(maps)

    def _layer(self, layer, x, w, number, up=False):
        x = self._modulated(layer.modulated_conv, x, w, True, up) + layer.weight * getattr(
            self.noises, f"noise{number}"
        )
        x = x + layer.activate.bias[:, None, None]
        return torch.where(x > 0, x, 0.2 * x) * 2**0.5

    def forward(self, z):
        w = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
        for layer in list(self.style_mlp)[1:]:
            w = w @ layer.weight.T * 0.01 / w.shape[1] ** 0.5 + layer.bias * 0.01
            w = torch.where(w > 0, w, 0.2 * w) * 2**0.5
        x = self._layer(self.style_conv1, self.constant_input.weight.repeat(len(z), 1, 1, 1), w, 0)
        image = self._modulated(self.to_rgb1.modulated_conv, x, w, False) + self.to_rgb1.bias
        for i, rgb in enumerate(self.to_rgbs):
            x = self._layer(self.style_convs[2 * i], x, w, 2 * i + 1, up=True)
            x = self._layer(self.style_convs[2 * i + 1], x, w, 2 * i + 2)
            image = (
                plain.upfirdn(image, plain.USUAL, 2, 1) + self._modulated(rgb.modulated_conv, x, w, False) + rgb.bias
            )
        return image


def test_basicsrs_names_are_rosinalitys_network(tmp_path):
    torch.manual_seed(0)
    network, other = BasicSR(), BasicSR()
    torch.save({"params": other.state_dict(), "params_ema": network.state_dict()}, path := tmp_path / "net_g.pth")
    generator = family.open_checkpoint(read(read_file(path)))
    z = torch.randn(2, 6)
    with torch.no_grad():
        expected = network.double()(z.double())
        found = generator.synthesize(z).double()
    assert float((found - expected).abs().max()) <= 2e-5 * float(expected.abs().max())
    with pytest.raises(RecipeError, match="hold no mean of W"):
        family.open_checkpoint(read(read_file(path)), truncation=0.7)
    clean = {**other.state_dict(), "style_conv1.bias": torch.zeros(1, 6, 1, 1)}
    with pytest.raises(WeightsError, match=r"^weights w\.pt: BasicSR's StyleGAN2 of the 'clean' kind"):
        family.recognise({"params_ema": clean}, Path("w.pt"), named=False)


WRAPPED_FLOWS = {
    "DataParallel": "module.",
    "torch.compile in DDP": "module._orig_mod.",
    "below a prefix": "model.net.module.",
}


@pytest.mark.parametrize("wrapped", WRAPPED_FLOWS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_residual_flow_in_any_container_is_the_same(wrapped, nested):
    content = read_file(GOLDENS / "residual_flow_cifar16/most_recent.pth")
    wanted = residual_flow.recognise(content, Path("x.pth"), named=False)
    prefix = WRAPPED_FLOWS[wrapped]
    module, average = content["ema"].state["module"], content["ema"].state["shadow_params"]
    for name in reversed([part for part in prefix.rstrip(".").split(".") if part in ("module", "_orig_mod")]):
        module = Opaque("somebody.Wrapper", state={"_modules": {name: module}, "_parameters": {}, "_buffers": {}})
    ema = Opaque("train.EMA", state={"module": module, "shadow_params": under(prefix, average)})
    found = {**content, "state_dict": under(prefix, content["state_dict"]), "ema": ema}
    found = residual_flow.recognise({"checkpoint": found} if nested else found, Path("x.pth"), named=False)
    assert (found.digest(), found.config) == (wanted.digest(), wanted.config)


def test_two_residual_flows_in_one_state_dict_are_not_one():
    content = read_file(GOLDENS / "residual_flow_cifar16/most_recent.pth")
    content["state_dict"] = under("a.", content["state_dict"]) | under("b.", content["state_dict"])
    with pytest.raises(WeightsError, match=r"holds 2 networks \(a, b\); wanted one"):
        residual_flow.recognise(content, Path("x.pth"), named=False)

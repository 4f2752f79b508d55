"""Layouts of others' checkpoints, as their code writes them: a network is read whole or not at all, and the rest is told."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from genrep.encoders import load_encoder
from genrep.encoders.layouts import find_resnet
from genrep.errors import WeightsError

State = dict[str, Tensor]


def state_of(seed: int = 1) -> State:
    """torchvision's ResNet-18 without fc."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = torchvision.models.resnet18().state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


STATE, OTHER = state_of(1), state_of(2)


def under(prefix: str, state: State = STATE) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(rename: Callable[[str], str], state: State = STATE) -> State:
    return {rename(name): tensor for name, tensor in state.items()}


def numbered(conv: str, norm: str, first: int) -> Callable[[str], str]:
    """``nn.Sequential`` of a ResNet's children."""

    def rename(name: str) -> str:
        head, _, rest = name.partition(".")
        number = {"conv1": conv, "bn1": norm}.get(head) or str(first + int(head[-1]) - 1)
        return f"{number}.{rest}"

    return rename


def transformers_name(name: str) -> str:
    name = re.sub(r"^conv1\.", "embedder.embedder.convolution.", name)
    name = re.sub(r"^bn1\.", "embedder.embedder.normalization.", name)
    name = re.sub(r"^layer(\d)\.(\d)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.", name)
    name = re.sub(
        r"\.(conv|bn)(\d)\.",
        lambda m: f".layer.{int(m[2]) - 1}.{'convolution' if m[1] == 'conv' else 'normalization'}.",
        name,
    )
    return name.replace("downsample.0.", "shortcut.convolution.").replace("downsample.1.", "shortcut.normalization.")


def detectron2_name(name: str) -> str:
    name = re.sub(r"^conv1\.", "stem.conv1.", name)
    name = re.sub(r"^bn1\.", "stem.conv1.norm.", name)
    name = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def cifar100_name(name: str) -> str:
    name = re.sub(r"^conv1\.", "conv1.0.", name)
    name = re.sub(r"^bn1\.", "conv1.1.", name)
    name = re.sub(r"^layer(\d)", lambda m: f"conv{int(m[1]) + 1}_x", name)
    name = re.sub(r"\.(conv|bn)(\d)\.", lambda m: f".residual_function.{3 * int(m[2]) - 3 + (m[1] == 'bn')}.", name)
    return name.replace("downsample.", "shortcut.")


def wrapped_name(name: str) -> str:
    name = re.sub(r"^(layer\d)\.(\d)", r"\1._fsdp_wrapped_module.\2.module", name)
    return f"module._orig_mod.trunk._feature_blocks.{name}"


def without_counters(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def arrays(state: State) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in state.items()}


LAYOUTS: dict[str, Any] = {
    "a Sequential of conv, norm, ReLU, pooling, layers": renamed(numbered("0", "1", 4)),
    "a Sequential without pooling": under("f.", renamed(numbered("0", "1", 3))),
    "a Sequential without pooling and ReLU": under("model.net.", renamed(numbered("0", "1", 2))),
    "a Sequential that begins later": under("features.", renamed(numbered("1", "2", 5))),
    "a Sequential whose stem is one": under("enc.", renamed(numbered("0.0", "0.1", 1))),
    "a Sequential whose stem is one, and a pooling": renamed(numbered("0.conv", "0.bn", 2)),
    "a Sequential with a head": {**under("net.", renamed(numbered("0", "1", 3))), "net.9.weight": torch.zeros(3, 3)},
    "a ModuleList of layers": renamed(lambda name: re.sub(r"^layer(\d)", lambda m: f"layers.{int(m[1]) - 1}", name)),
    "a ModuleList of stages below a prefix": under(
        "backbone.", renamed(lambda name: re.sub(r"^layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", name))
    ),
    "transformers, a classifier": {**under("resnet.", renamed(transformers_name)), "classifier.1.weight": torch.zeros(2, 2)},
    "transformers, the model": renamed(transformers_name),
    "detectron2, arrays": {
        "model": arrays(without_counters(renamed(detectron2_name))), "__author__": "x", "matching_heuristics": True,
    },
    "detectron2, a detector": {"model": under("backbone.bottom_up.", without_counters(renamed(detectron2_name)))},
    "pytorch-cifar100": renamed(cifar100_name),
    "a stem called layer0": renamed(lambda name: re.sub("^(conv1|bn1)", r"layer0.\1", name)),
    "wrappers everywhere": {"state_dict": renamed(wrapped_name)},
    "a student beside a teacher": {"student": under("module.backbone."), "teacher": under("backbone.", OTHER)},
    "a base beside a momentum encoder": under("module.base_encoder.") | under("module.momentum_encoder.", OTHER),
    "camel case": under("onlineEncoder.") | under("targetEncoder.", OTHER),
    "an average beside it": {"model": under("module."), "model_ema": under("module.", OTHER)},
    "a folder's name that tells nothing": {"ema_run": under("encoder_q.") | under("encoder_k.", OTHER)},
    "the loss's own copy": {"trunk": under("_feature_blocks."), "loss": under("moco_encoder.trunk.", OTHER)},
    "a list of networks and numbers": {"nets": [under("backbone."), 3], "steps": [1, 2]},
    "OpenSelfSup, the backbone twice": under("backbone.") | under("encoder_q.0.") | under("encoder_k.0.", OTHER),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_every_tensor(layout: str) -> None:
    found = find_resnet(LAYOUTS[layout], "a.pth")
    assert (found.arch, found.stem) == ("resnet18", "imagenet")
    for name, tensor in STATE.items():
        assert torch.equal(found.state[name], tensor), name


def test_heads_of_any_name_are_left_out_and_counted() -> None:
    heads = (
        "fc.weight",
        "my_head.0.weight",
        "my_head.0.bias",
        "contrast.proto",
        "attnpool.q.weight",
        "neck.bn.running_mean",
    )
    found = find_resnet({**STATE, **{name: torch.zeros(2) for name in heads}}, "a.pth")
    assert set(found.left_out) == {
        "fc (1 tensor)", "my_head (2 tensors)", "contrast (1 tensor)", "attnpool (1 tensor)", "neck (1 tensor)"
    }  # fmt: skip


def test_many_left_out_modules_are_counted_in_few_lines() -> None:
    found = find_resnet({**STATE, **{f"head{i}.weight": torch.zeros(1) for i in range(1000)}}, "a.pth")
    assert len(found.left_out) == 31
    assert found.left_out[-1] == "970 more (970 tensors)"


def test_counters_and_observed_ranges_take_no_part() -> None:
    extra = {f"{name.rpartition('.')[0]}.total_ops": torch.zeros(1) for name in STATE}
    extra |= {"total_params": torch.zeros(1), "layer1.0.conv1.Flops": torch.zeros(1)}
    extra |= {f"layer2.0.conv1.weight_fake_quant.{name}": torch.zeros(1) for name in ("scale", "zero_point")}
    extra |= {"layer3.1.activation_post_process.min_val": torch.zeros(1)}
    found = find_resnet({**STATE, **extra}, "a.pth")
    said = {line.split(" (")[0]: line for line in found.left_out}
    assert said["weight_fake_quant"] == "weight_fake_quant (2 tensors that take no part)"
    assert {"total_ops", "total_params", "Flops", "activation_post_process"} <= said.keys()
    assert torch.equal(found.state["layer2.0.conv1.weight"], STATE["layer2.0.conv1.weight"])


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"conv1.3.weight": torch.zeros(64, 64, 3, 3)}, "a stem of several convolutions"),
        ({"layer1.0.se.fc1.weight": torch.zeros(4, 4)}, "attention in its blocks"),
        ({"layer2.0.downsample.2.weight": torch.zeros(4)}, "shortcuts that pool"),
        ({"layer2.0.conv1.weight_orig": torch.zeros(4)}, "weights in parts"),
        ({"layer5.0.conv1.weight": torch.zeros(4)}, "its blocks stand at 1, 2, 3, 4, 5"),
        ({"layer4.0.gate": torch.zeros(4)}, "layer4.0.gate is unknown"),
        ({"bn2.weight": torch.zeros(4)}, "bn2.weight is unknown"),
    ],
)
def test_what_changes_the_function_is_refused_with_the_reason(extra: State, reason: str) -> None:
    with pytest.raises(WeightsError, match=f"^a.pth: .*{reason}"):
        find_resnet({**STATE, **extra}, "a.pth")


def test_a_number_before_a_sequentials_stem_is_refused() -> None:
    state = renamed(numbered("1", "2", 4))
    with pytest.raises(WeightsError, match=r"stem.0.mean is unknown"):
        find_resnet({**state, "0.mean": torch.zeros(3)}, "a.pth")
    with pytest.raises(WeightsError, match=r"its blocks stand at 4, 5, 6, 7, 8"):
        find_resnet({**state, "8.0.conv1.weight": torch.zeros(3)}, "a.pth")


@pytest.mark.parametrize("arch", ["resnet50d", "seresnet18", "resnet18d", "resnext50_32x4d"])
def test_timms_other_networks_are_refused(arch: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(arch)
    with pytest.raises(WeightsError, match=r"^a.pth: \d+ tensors do not fit resnet"):
        find_resnet({name: torch.zeros(tensor.shape) for name, tensor in model.state_dict().items()}, "a.pth")


def test_a_pickled_module_is_read_as_its_state_dict(tmp_path: Path) -> None:
    model = torchvision.models.resnet18()
    torch.save({"net": nn.DataParallel(model)}, tmp_path / "a.pth")
    found = load_encoder(tmp_path / "a.pth")
    assert torch.equal(found.module.conv1.weight, model.conv1.weight)
    assert "net.module.fc (2 tensors)" in found.left_out


# One of several networks


def test_one_of_several_networks_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    torch.save({"state_dict": under("net1.") | under("net2.", OTHER)}, path)
    with pytest.raises(
        WeightsError, match=r"2 different ResNets \(state_dict.net1, state_dict.net2\); name one: "
    ) as caught:
        load_encoder(path)
    for choice in (f"{path}#state_dict.net1", f"{path}#state_dict.net2"):
        assert choice in str(caught.value)
    full, last = load_encoder(f"{path}#state_dict.net2"), load_encoder(f"{path}#net2")
    first = load_encoder(f"{path}#net1")
    assert torch.equal(full.module.conv1.weight, OTHER["conv1.weight"])
    assert torch.equal(first.module.conv1.weight, STATE["conv1.weight"])
    assert full.sha256 == last.sha256 != first.sha256  # results and cached features know an encoder by this
    assert str(last.path) == f"{path}#state_dict.net2"
    with pytest.raises(WeightsError, match=r"two.pth#net3: names 0 of its 2 ResNets; wanted one of .*#state_dict.net1"):
        load_encoder(f"{path}#net3")


def test_the_average_and_the_top_level_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a#b.pth"  # a name with the mark in it
    torch.save({**STATE, "ema": OTHER}, path)
    assert torch.equal(load_encoder(path).module.conv1.weight, STATE["conv1.weight"])
    assert torch.equal(load_encoder(f"{path}#.").module.conv1.weight, STATE["conv1.weight"])
    assert torch.equal(load_encoder(f"{path}#ema").module.conv1.weight, OTHER["conv1.weight"])
    assert f"{path}#ema takes that" in "; ".join(load_encoder(path).notes)


# Folders and indexes


def shards(folder: Path, state: State, *, suffix: str = "safetensors") -> Path:
    """As transformers writes a network that is larger than it wants a file to be."""
    folder.mkdir(exist_ok=True)
    half = len(state) // 2
    base = "model" if suffix == "safetensors" else "pytorch_model"
    index: dict[str, str] = {}
    for i, names in enumerate((list(state)[:half], list(state)[half:])):
        name = f"{base}-{i + 1:05}-of-00002.{suffix}"
        part = {one: state[one] for one in names}
        save_file(part, folder / name) if suffix == "safetensors" else torch.save(part, folder / name)
        index |= dict.fromkeys(names, name)
    path = folder / f"{base}.{suffix}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
    return path


def test_folders_of_others_are_read(tmp_path: Path) -> None:
    state = under("resnet.", renamed(transformers_name))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    save_file(state, tmp_path / "a/model.safetensors")
    torch.save(state, tmp_path / "b/pytorch_model.bin")
    (tmp_path / "link").symlink_to(tmp_path / "a/model.safetensors")
    for path in (
        tmp_path / "a", tmp_path / "b", tmp_path / "link", shards(tmp_path / "c", state).parent,
        shards(tmp_path / "d", state, suffix="bin"),
    ):  # fmt: skip
        assert torch.equal(load_encoder(path).module.conv1.weight, STATE["conv1.weight"]), path


def test_the_digest_of_an_index_is_of_its_shards(tmp_path: Path) -> None:
    path = shards(tmp_path / "a", STATE)
    before = load_encoder(path).sha256
    changed = {**STATE, "conv1.weight": STATE["conv1.weight"] + 1}
    shards(tmp_path / "a", changed)
    assert load_encoder(path).sha256 != before


def test_a_folder_without_an_encoder_names_what_it_holds(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "checkpoint.pt")
    with pytest.raises(
        WeightsError, match=r"no such encoder in this folder; wanted .*it holds checkpoint.pt: name the file"
    ):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index | {"x": "../other.safetensors"}, "names the shard ../other.safetensors"),
        (lambda index: index | {"x": "/etc/passwd"}, "names the shard /etc/passwd"),
        (lambda index: index | {"x": ".."}, r"names the shard \.\."),
        (lambda index: index | {"x": ""}, "names the shard ;"),
        (lambda index: index | {"x": "none.safetensors"}, "none.safetensors: missing"),
        (
            lambda index: index | {"x": "pipe.safetensors"},
            "pipe.safetensors: a folder or device, wanted a regular file",
        ),
        (lambda index: index | {"x": next(iter(index.values()))}, "x is not in model-00001-of-00002.safetensors"),
        (lambda index: index | {str(i): str(i) for i in range(2000)}, "an index of 2002 shards"),
        (lambda index: {"x": 3}, "not an index of shards"),
        (lambda index: [], "not an index of shards"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    path = shards(tmp_path / "a", STATE)
    save_file({"y": torch.zeros(1)}, tmp_path / "other.safetensors")
    os.mkfifo(tmp_path / "a/pipe.safetensors")
    index = json.loads(path.read_text())["weight_map"]
    path.write_text(json.dumps({"weight_map": change(index)}))
    with pytest.raises(WeightsError, match=message):
        load_encoder(path)


# Files that are no checkpoints of this kind, by name


def test_programs_and_graphs_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format outlives the functions that write it
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "export.pt2")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0")
    (tmp_path / "graph").write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0")
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    torch.save({"byol/~/res_net50/initial_conv": {"w": torch.zeros(1)}}, tmp_path / "jax.pth")
    torch.save({"res2_0_branch2a_w": torch.zeros(1)}, tmp_path / "caffe.pkl")
    for name, words in {
        "script.pt": r"a TorchScript program, .*state_dict\(\)",
        "export.pt2": r"a program of torch.export, .*state_dict",
        "arrays.npz": "NumPy's arrays",
        "net.onnx": "an ONNX graph",
        "graph": "an ONNX graph",
        "keras.h5": r"an HDF5 file \(Keras",
        "jax.pth": r"Haiku's \(JAX",
        "caffe.pkl": "Caffe2's",
    }.items():
        with pytest.raises(WeightsError, match=words) as caught:
            load_encoder(tmp_path / name)
        assert "\n" not in str(caught.value)

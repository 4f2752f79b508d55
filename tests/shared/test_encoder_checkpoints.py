"""Others' checkpoints, laid out as their code writes them, give the features of torchvision's module with the same weights."""

from __future__ import annotations

import argparse
import re
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
from genrep.encoders.architectures import RESNETS
from genrep.encoders.layouts import find_resnet, resnet_shapes
from genrep.errors import WeightsError

State = dict[str, Tensor]
IMAGES = torch.linspace(-2, 2, 2 * 3 * 40 * 40).view(2, 3, 40, 40).sin()


def resnet(seed: int, arch: str = "resnet18") -> nn.Module:
    """torchvision's, with batch-norm buffers that matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(torchvision.models, arch)()
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return resnet(1)


def features(model: nn.Module) -> Tensor:
    fc, model.fc = model.fc, nn.Identity()
    try:
        with torch.no_grad():
            return model(IMAGES)
    finally:
        model.fc = fc


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def backbone(model: nn.Module) -> State:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}


def genrep_names(model: nn.Module) -> State:
    """The re-implementation in GenRep and COP-Gen: a stem, and shortcuts."""
    renamed = {}
    for name, tensor in backbone(model).items():
        name = re.sub("^conv1", "stem.0", name)
        name = re.sub("^bn1", "stem.1", name)
        renamed[name.replace("downsample", "shortcut")] = tensor
    return renamed


def genrep_file(model: nn.Module, prefix: str) -> dict[str, Any]:
    """util.py's save_model: options, NumPy arrays and the optimizer beside the model."""
    state = under(prefix, genrep_names(model))
    state |= {f"head.{i}.{kind}": torch.zeros(4) for i in (0, 2) for kind in ("weight", "bias")}
    return {
        "opt": argparse.Namespace(method="SimCLR", lr=0.03, mean=None, folders=["a"]),
        "model": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(64, 3, 7, 7)}}, "param_groups": [{"lr": 0.03}]},
        "grad_updates": 101_400,
        "class_count": np.zeros(1000),
        "epoch": 20,
    }


def moco_file(model: nn.Module) -> dict[str, Any]:
    other = resnet(2)
    state = under("module.encoder_q.", backbone(model)) | under("module.encoder_k.", backbone(other))
    state |= {f"module.encoder_{side}.fc.{i}.weight": torch.zeros(8, 8) for side in "qk" for i in (0, 2)}
    state |= {"module.queue": torch.zeros(128, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def simsiam_file(model: nn.Module) -> dict[str, Any]:
    state = under("module.encoder.", backbone(model))
    state |= {"module.encoder.fc.0.weight": torch.zeros(8, 8), "module.encoder.fc.6.bias": torch.zeros(8)}
    state |= {"module.predictor.0.weight": torch.zeros(4, 8)}
    return {"epoch": 100, "arch": "resnet18", "state_dict": state}


def byol_file(model: nn.Module) -> dict[str, Any]:
    state = under("target_network.encoder.", backbone(resnet(3))) | under("online_network.encoder.", backbone(model))
    state |= {"online_network.projector.model.0.weight": torch.zeros(8, 8), "predictor.0.weight": torch.zeros(8, 8)}
    return {
        "pytorch-lightning_version": "1.6.0",
        "state_dict": state,
        "hyper_parameters": {"args": argparse.Namespace(tau=0.996)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_path": Path("x.ckpt"), "best_model_score": torch.tensor(0.5)}},
    }


def lightly_file(model: nn.Module) -> dict[str, Any]:
    """``nn.Sequential(*list(resnet.children())[:-1])``."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {}
    for name, tensor in backbone(model).items():
        first, _, rest = name.partition(".")
        state[f"backbone.{numbers[first]}.{rest}"] = tensor
        state[f"backbone_momentum.{numbers[first]}.{rest}"] = torch.zeros_like(tensor)
    state["projection_head.layers.0.weight"] = torch.zeros(8, 8)
    return {"state_dict": state}


def old_file(model: nn.Module) -> State:
    """Before PyTorch 0.4.1 batch norms did not count."""
    return {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}


LAYOUTS: dict[str, tuple[Callable[[nn.Module], Any], set[str]]] = {
    "torchvision": (lambda m: m.state_dict(), {"fc (2 tensors)"}),
    "torchvision, old": (old_file, {"fc (2 tensors)"}),
    "genrep, one GPU": (
        lambda m: genrep_file(m, "encoder."),
        {"class_count (1 tensor)", "model.head (4 tensors)", "optimizer (1 tensor)"},
    ),
    "genrep, more": (
        lambda m: genrep_file(m, "encoder.module."),
        {"class_count (1 tensor)", "model.head (4 tensors)", "optimizer (1 tensor)"},
    ),
    "cop-gen, linear": (
        lambda m: {"model": under("module.", genrep_names(m)), "classifier": {"fc.weight": torch.zeros(1)}},
        {"classifier (1 tensor)"},
    ),
    "moco": (
        moco_file,
        {
            "state_dict.module.encoder_k (122 tensors)",
            "state_dict.module.encoder_q.fc (2 tensors)",
            "state_dict.module.queue (1 tensor)",
            "state_dict.module.queue_ptr (1 tensor)",
        },
    ),
    "simsiam": (simsiam_file, {"state_dict.module.encoder.fc (2 tensors)", "state_dict.module.predictor (1 tensor)"}),
    "byol": (
        byol_file,
        {
            "callbacks (1 tensor)",
            "state_dict.online_network.projector (1 tensor)",
            "state_dict.predictor (1 tensor)",
            "state_dict.target_network (120 tensors)",
        },
    ),
    "lightly": (lightly_file, {"state_dict.backbone_momentum (120 tensors)", "state_dict.projection_head (1 tensor)"}),
    "barlow twins": (
        lambda m: {"model": under("module.backbone.", backbone(m)) | {"module.projector.0.weight": torch.zeros(1)}},
        {"model.module.projector (1 tensor)"},
    ),
    "compiled": (lambda m: under("_orig_mod.", backbone(m)), set()),
    "the same network twice": (
        lambda m: {"state_dict": under("model.", backbone(m)) | under("model.backbone.", backbone(m))},
        {"state_dict.model.backbone (120 tensors)"},
    ),
    "timm with an average": (
        lambda m: {"state_dict_ema": resnet(4).state_dict(), "state_dict": m.state_dict()},
        {"state_dict.fc (2 tensors)", "state_dict_ema (122 tensors)"},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_gives_torchvisions_features(layout: str, model: nn.Module, tmp_path: Path) -> None:
    make, left_out = LAYOUTS[layout]
    path = tmp_path / "last.pth"
    torch.save(make(model), path)
    loaded = load_encoder(path)
    with torch.no_grad():
        assert torch.equal(loaded.module(IMAGES), features(model))
    assert (loaded.facts.arch, loaded.facts.stem, loaded.trained) == ("resnet18", "imagenet", True)
    assert set(loaded.left_out) == left_out
    assert not loaded.module.training


@pytest.mark.slow
def test_files_of_old_torch_and_foreign_safetensors(model: nn.Module, tmp_path: Path) -> None:
    torch.save(genrep_file(model, "encoder."), tmp_path / "a.pth.tar", _use_new_zipfile_serialization=False)
    save_file(dict(model.state_dict()), tmp_path / "b.safetensors", metadata={"format": "pt"})
    save_file(dict(model.state_dict()), tmp_path / "model")  # known by its content
    for name in ("a.pth.tar", "b.safetensors", "model"):
        with torch.no_grad():
            assert torch.equal(load_encoder(tmp_path / name).module(IMAGES), features(model)), name


def test_timms_own_checkpoint(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet34").eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    loaded = load_encoder(tmp_path / "model.safetensors")
    theirs.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(IMAGES), theirs(IMAGES))
    assert loaded.facts.arch == "resnet34"


def test_bottlenecks_of_genrep_in_half_precision(tmp_path: Path) -> None:
    model = resnet(5, "resnet50").half().float()
    halves = {name: t.half() if t.is_floating_point() else t for name, t in genrep_names(model).items()}
    torch.save({"model": under("encoder.", halves), "opt": argparse.Namespace()}, tmp_path / "half.pth")
    loaded = load_encoder(str(tmp_path / "half.pth"))
    with torch.no_grad():
        assert torch.equal(loaded.module(IMAGES), features(model))
    assert loaded.facts.arch == "resnet50"


def test_the_stem_for_small_images_is_seen(tmp_path: Path) -> None:
    state = genrep_names(resnet(6))
    state = {name.replace("stem.0", "conv1").replace("stem.1", "bn1"): tensor for name, tensor in state.items()}
    state["conv1.weight"] = torch.randn(64, 3, 3, 3)
    torch.save({"model": under("encoder.", state)}, tmp_path / "supcon.pth")
    loaded = load_encoder(tmp_path / "supcon.pth")
    assert (loaded.facts.stem, loaded.facts.size) == ("cifar", 32)
    assert isinstance(loaded.module.maxpool, nn.Identity)
    assert any("stride 1 without pooling" in note for note in loaded.notes)


@pytest.mark.parametrize("arch", [*RESNETS, "resnet34:width=12", "resnet50:width=16"])
def test_every_arch_is_recognised_by_its_tensors(arch: str) -> None:
    state = {name: torch.zeros(shape) for name, shape in resnet_shapes(arch, "imagenet").items()}
    found = find_resnet({"state_dict": under("model.", state)}, "x")
    assert (found.arch, found.state.keys()) == (arch, state.keys())


def test_what_was_chosen_and_assumed_is_said(model: nn.Module, tmp_path: Path) -> None:
    torch.save(moco_file(model), tmp_path / "moco.pth")
    said = "; ".join(load_encoder(tmp_path / "moco.pth", mean=(0.5, 0.5, 0.5)).notes)
    assert "resnet18 with the imagenet stem" in said
    assert "took the ResNet at state_dict.module.encoder_q, not the one at state_dict.module.encoder_k" in said
    assert "size, std: not in the file; assuming 224 pixels and ImageNet's" in said


def test_the_caller_knows_size_and_statistics_better(model: nn.Module, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "a.pth")
    facts = load_encoder(tmp_path / "a.pth").facts
    assert (facts.size, facts.mean, facts.std) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    facts = load_encoder(tmp_path / "a.pth", size=112, mean=(0.1, 0.2, 0.3), std=(1, 1, 2)).facts
    assert (facts.size, facts.mean, facts.std) == (112, (0.1, 0.2, 0.3), (1, 1, 2))
    with pytest.raises(WeightsError, match=r"std .*wanted three numbers above 0"):
        load_encoder(tmp_path / "a.pth", std=(0.5, 0.0, 0.5))


class Attack:
    """What torch.load would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_in_a_checkpoint_is_run(model: nn.Module, tmp_path: Path) -> None:
    torch.save({"model": model.state_dict(), "opt": Attack(tmp_path / "touched")}, tmp_path / "a.pth")
    load_encoder(tmp_path / "a.pth")
    assert not (tmp_path / "touched").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "touched").exists()  # it would have been


def remove(*names: str) -> Callable[[State], State]:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def add(**tensors: Tensor) -> Callable[[State], State]:
    return lambda state: {**state, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("layer3.1.bn2.running_var"), r"1 tensors do not fit resnet18: layer3.1.bn2.running_var is missing"),
        (remove("conv1.weight", "bn1.bias"), r"2 tensors do not fit resnet18: bn1.bias is missing, conv1.weight is m"),
        (add(layer1__0__se__fc1__weight=torch.zeros(1)), r"layer1.0.se.fc1.weight is unknown"),
        (add(conv2__weight=torch.zeros(1)), r"conv2.weight is unknown; it has a stem of several convolutions"),
        (add(conv1__weight=torch.zeros(64, 1, 7, 7)), r"conv1.weight has shape \(64, 1, 7, 7\), wanted \(64, 3, 7, 7\)"),
        (add(bn1__weight=torch.full((64,), torch.nan)), r"bn1.weight is not finite"),
        (add(bn1__weight=torch.zeros(64, dtype=torch.int8)), r"bn1.weight is of torch.int8"),
        (add(stem__0__weight=torch.zeros(1)), r"two tensors for conv1.weight"),
        (lambda state: {n: t for n, t in state.items() if n.startswith("layer")}, r"bn1.bias is missing"),
        (lambda state: {n: t for n, t in state.items() if not n.startswith("layer4.1")}, r"layer4.1.bn1.bias is missing"),
        (lambda state: {"patch_embed.proj.weight": torch.zeros(1)}, r"no ResNet among its 1 tensors \(patch_embed"),
        (lambda state: {}, r"it holds no tensors by name"),
        (
            lambda state: under("a.", state) | under("b.", {n: t + 1 for n, t in state.items()}),
            r"it holds 2 different ResNets \(a, b\)",
        ),
    ],
)  # fmt: skip
def test_what_matches_only_partly_is_refused_with_what_does_not(
    model: nn.Module, change: Callable[[State], State], message: str
) -> None:
    with pytest.raises(WeightsError, match=f"^a.pth: .*{message}"):
        find_resnet(change(backbone(model)), "a.pth")


def test_the_average_is_no_answer_where_the_network_is_partial(model: nn.Module, tmp_path: Path) -> None:
    content = moco_file(model)
    del content["state_dict"]["module.encoder_q.layer2.0.conv2.weight"]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"layer2.0.conv2.weight is missing"):
        load_encoder(tmp_path / "a.pth")


def test_other_files_are_refused_in_one_line(model: nn.Module, tmp_path: Path) -> None:
    torch.save(argparse.Namespace(lr=1), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"holds a argparse.Namespace; wanted a dictionary"):
        load_encoder(tmp_path / "whole.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match="it is a web page"):
        load_encoder(tmp_path / "page.pth")
    with pytest.raises(WeightsError, match="no such encoder; wanted"):
        load_encoder(tmp_path / "none.pth")
    for path in tmp_path.glob("*"):
        with pytest.raises(WeightsError) as caught:
            load_encoder(path)
        assert "\n" not in str(caught.value)

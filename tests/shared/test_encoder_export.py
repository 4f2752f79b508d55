"""Exported files are what torchvision, timm and detectron2 read: whole, with equal features, or not written at all."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from genrep.encoders import build_encoder, export_encoder, load_encoder
from genrep.errors import ConfigError, WeightsError

IMAGES = torch.linspace(-2, 2, 2 * 3 * 40 * 40).view(2, 3, 40, 40).sin()


def encoder(arch: str, stem: str = "imagenet") -> nn.Module:
    module = build_encoder(arch, stem, seed=0)
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return module.eval()


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return encoder("resnet18")


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    return encoder("resnet50")


@pytest.mark.slow
def test_torchvision_lacks_only_its_classifier(resnet50: nn.Module, tmp_path: Path) -> None:
    assert export_encoder(resnet50, tmp_path / "r50.pth", "torchvision") == "resnet50"
    model = torchvision.models.resnet50().eval()
    state = torch.load(tmp_path / "r50.pth", weights_only=True)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])
    model.fc = nn.Identity()
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        assert torch.equal(model(IMAGES), resnet50(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_timm_loads_it_strictly(resnet18: nn.Module, tmp_path: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    export_encoder(resnet18, tmp_path / name, "timm")
    model = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(tmp_path / name)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), resnet18(IMAGES))


def detectron2_names(depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the convolutions in detectron2's resnet.py: BasicStem, BasicBlock, BottleneckBlock, res2 … res5."""
    blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    names = {"stem.conv1": (64, 3, 7, 7)}
    inputs = 64
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512)), start=2):
        for block in range(count):
            here = f"res{stage}.{block}."
            outputs = width if depth == 18 else 4 * width
            if depth == 18:
                names |= {here + "conv1": (width, inputs, 3, 3), here + "conv2": (width, width, 3, 3)}
            else:
                names |= {here + "conv1": (width, inputs, 1, 1), here + "conv2": (width, width, 3, 3)}
                names |= {here + "conv3": (outputs, width, 1, 1)}
            if inputs != outputs:
                names[here + "shortcut"] = (outputs, inputs, 1, 1)
            inputs = outputs
    return names


@pytest.mark.parametrize("depth", [18, 50])
def test_detectron2_finds_every_tensor(resnet18: nn.Module, resnet50: nn.Module, tmp_path: Path, depth: int) -> None:
    module = {18: resnet18, 50: resnet50}[depth]
    export_encoder(module, tmp_path / "r.pkl", "detectron2")
    data = (tmp_path / "r.pkl").read_bytes()
    content = pickle.loads(data, encoding="latin1")
    assert content.keys() == {"model", "__author__", "matching_heuristics"}
    assert (content["__author__"], content["matching_heuristics"]) == ("genrep", True)
    wanted = {}
    for name, shape in detectron2_names(depth).items():
        wanted[f"{name}.weight"] = shape
        wanted |= {f"{name}.norm.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
        wanted[f"{name}.norm.num_batches_tracked"] = ()
    assert all(isinstance(array, np.ndarray) for array in content["model"].values())
    assert {name: array.shape for name, array in content["model"].items()} == wanted
    for ours, theirs in (
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_var", "stem.conv1.norm.running_var"),
        ("layer1.1.bn2.weight", "res2.1.conv2.norm.weight"),
        ("layer4.0.downsample.0.weight", "res5.0.shortcut.weight"),
        ("layer2.0.downsample.1.running_mean", "res3.0.shortcut.norm.running_mean"),
    ):
        assert np.array_equal(content["model"][theirs], module.state_dict()[ours].numpy())


def test_numpy_1_and_2_can_read_the_detectron2_file(resnet18: nn.Module, tmp_path: Path) -> None:
    export_encoder(resnet18, tmp_path / "r.pkl", "detectron2")
    data = (tmp_path / "r.pkl").read_bytes()
    names = {str(argument) for operation, argument, _ in pickletools.genops(data) if operation.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"} or names == {
        "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype", "_codecs encode",
    }  # fmt: skip


@pytest.mark.slow
def test_what_is_not_whole_is_not_written(resnet18: nn.Module, tmp_path: Path) -> None:
    resnet18.layer2[0].conv1.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    try:
        for file_format, name in (("torchvision", "a.pth"), ("timm", "a.pth"), ("detectron2", "a.pkl")):
            with pytest.raises(WeightsError, match=rf"^format {file_format}: .*layer2.0.conv1.extra is unknown"):
                export_encoder(resnet18, tmp_path / name, file_format)
            with pytest.raises(WeightsError, match=rf"^format {file_format}: .*no tensors by name"):
                export_encoder(nn.ReLU(), tmp_path / name, file_format)
            with pytest.raises(
                WeightsError, match=rf"^format {file_format}: .*has a 7x7 stem; this encoder has the cifar one"
            ):
                export_encoder(encoder("resnet18", "cifar"), tmp_path / name, file_format)
    finally:
        del resnet18.layer2[0].conv1._parameters["extra"]
    assert list(tmp_path.iterdir()) == []


def test_names_that_the_library_would_not_read_are_refused(resnet18: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^out .*: detectron2 reads files by their name; wanted one that ends in .pkl"
    ):
        export_encoder(resnet18, tmp_path / "a.pth", "detectron2")
    with pytest.raises(ConfigError, match=r"^format 'keras': wanted one of torchvision, timm, detectron2"):
        export_encoder(resnet18, tmp_path / "a.pth", "keras")


def test_an_exported_file_is_read_back(resnet18: nn.Module, tmp_path: Path) -> None:
    export_encoder(nn.DataParallel(resnet18), tmp_path / "a.pth", "torchvision")
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "a.pth").module(IMAGES), resnet18(IMAGES))

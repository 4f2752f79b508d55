"""Tensors on the right device, tried without one: PyTorch's fake tensors know shapes, types and devices, and hold no values.

What runs on a GPU is run here with fake tensors of the device "cuda". A tensor that the code makes on the CPU and forgets
there meets one of the GPU, and PyTorch refuses. Backward passes cannot be tried so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_device import FakeDevice
from torch import Tensor, nn

from genrep.devices import to_device
from genrep.generate import load_generator
from genrep.generate.pixels import to_uint8
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD, PIXEL_VIEWS
from genrep.pixel_views.apply import apply_views
from genrep.pixel_views.dense import differentiable_views, of_stored
from genrep.pixel_views.parameters import draw
from genrep.pixel_views.table import number_table
from genrep.train.objectives import OBJECTIVES, Setup, Step, build_objective

GOLDENS = Path(__file__).parent / "goldens"
OF_MASKS = ("ibot", "synclr")  # how many patches are masked is a value, and fake tensors have none


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    return FakeDevice(monkeypatch)


def test_a_forgotten_tensor_is_found(device: FakeDevice) -> None:
    with device:
        there = device.moved(torch.zeros(3))
        assert (there * 2.0).device.type == "cuda"
        with pytest.raises(RuntimeError, match="device"):
            there + torch.arange(3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in OF_MASKS])
def test_objectives(name: str, precision: torch.dtype | None, device: FakeDevice) -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
        return latents.flatten(1)[:, :4].tanh().view(-1, 1, 1, 4).expand(-1, 3, 16, 4).repeat(1, 1, 1, 4)

    setup = Setup(encoder=encoder, width=16, seed=5, latent_shape=(2, 3), labels=(3, 7, 11), decode=decode)
    step = Step(encoder, build_objective(name, setup))
    views, count = min(step.objective.num_views, 2), 6
    with device, torch.autocast("cuda", dtype=precision, enabled=precision is not None):
        device.move(step)
        batch = {
            "label": torch.empty(count, dtype=torch.int64, device="cuda"),
            "z_anchor": torch.empty(count, 2, 3, device="cuda"),
            "anchor": torch.empty(count, 16, 16, 3, dtype=torch.uint8, device="cuda"),
        }
        images = torch.empty(views * count, 3, 16, 16, device="cuda")
        output = step(images, {field: batch[field] for field in step.objective.fields}, 0)
        assert output.loss.device.type == "cuda" and output.loss.dtype == torch.float32
        assert {values.device.type for values in output.metrics.values()} <= {"cuda"}
        assert output.embeddings.device.type == "cuda"
        step.objective.after_step(encoder, 0, 10)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["eager", "compiled", "differentiable"])
@pytest.mark.parametrize("name", PIXEL_VIEWS)
def test_pixel_views(name: str, way: str, device: FakeDevice) -> None:
    count, size, norm = 32, 16, (IMAGENET_MEAN, IMAGENET_STD)
    views, index = PIXEL_VIEWS[name], np.arange(32)
    parameters = draw(views, seed=1, epoch=0, index=index, view=index % 2, image_shape=(20, 24), size=size)
    with device:
        images = torch.empty(count, 20, 24, 3, dtype=torch.uint8, device="cuda")
        if way == "eager":
            found = apply_views(images, parameters, size, *norm)
        elif way == "compiled":
            numbers = to_device(number_table(parameters, size, *norm), images.device)
            found = of_stored(images, numbers, views, size)
        else:
            found = differentiable_views(torch.empty(count, 3, 20, 24, device="cuda"), parameters, size, *norm)
    assert found.device.type == "cuda" and found.shape == (count, 3, size, size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "file"),
    [
        ("stylegan2", "cfgf64/ada.nosrc.pkl"),
        ("stylegan2", "cond32_fp16cfg/network-snapshot.nosrc.proto4.pkl"),
        ("bigbigan", "bigbigan_small128/BigBiGAN_x1.pth"),
        ("biggan_deep_128", "biggan_deep_small64"),
        ("biggan", "biggan_shared_hier64/state_dict.pt"),
        ("icgan", "icgan64/experiment"),
    ],  # not Residual Flow: its inverse ends at a value, and fake tensors have none
)
def test_generators(
    recipe: str, file: str, device: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENREP_HOME", str(tmp_path))
    options = {}
    if recipe == "icgan":
        options["features"] = torch.load(GOLDENS / "icgan64/golden.pt", weights_only=True)["feats"]
    generator = load_generator(recipe, weights=GOLDENS / file, **options)
    conditional = generator.num_classes > 0
    with device:
        for name, value in vars(generator).items():
            if isinstance(value, nn.Module):
                device.move(value)
            elif isinstance(value, Tensor):
                setattr(generator, name, device.moved(value))
        z = torch.empty(2, *generator.latent.shape, device="cuda")
        y = torch.zeros(2, dtype=torch.int64, device="cuda") if conditional else None
        images = generator.synthesize(z, y)
        assert images.device.type == "cuda" and images.shape == (2, 3, *generator.image_shape)
        assert to_uint8(images, "127.5x+128").device.type == "cuda"

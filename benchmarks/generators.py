"""Images per second of every generator family at its published size, with seeded random weights.

    python benchmarks/generators.py [--device cuda] [--family stylegan2_car ...] [--reference DIR]

The values of the weights do not change the speed, but for residual_flow_mnist: how many steps its inverse takes is a matter of
the weights, and trained ones may take more. On a GPU (or with --variants) also precisions, memory formats and torch.compile,
and which is fastest. ``--reference DIR`` is a checkout of NVlabs/stylegan2-ada-pytorch, pytorch_pretrained_biggan or
ajbrock/BigGAN-PyTorch, whose code is imported: it runs in turns with ours, with the same weights.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from genrep.errors import GenRepError
from genrep.generate.generators.biggan.state import Layout, expected_shapes
from genrep.generate.generators.checkpoint import Checkpoint, checkpoint_from_safetensors
from genrep.generate.generators.families import family
from genrep.seeding import derive

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"  # lists of the published networks' tensors, and how to fill them from a seed
SEED = 0
TURN = 0.2  # seconds that a turn takes at least
CLASSES = 1000
Run = Callable[[], Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family at its published size."""

    build: Callable[[], tuple[Checkpoint, State]]  # its checkpoint, and the tensors as the published file has them
    batch: int  # the larger one on a CPU
    features: int = 0  # width of instance features


def fill(shapes: dict[str, Any], rules: str) -> State:
    """The tensors of these names and shapes, each from its name and the seed, by tests/goldens/recipe.py."""
    sys.path.insert(0, str(GOLDENS))
    recipe = importlib.import_module("recipe")
    values = recipe.fill({name: tuple(shape) for name, shape in shapes.items()}, SEED, getattr(recipe, rules))
    values = recipe.finalize_hf_sn(values) if rules == "BIGGAN_HF" else values
    return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}


def recognised(kind: str, state: State) -> tuple[Checkpoint, State]:
    """What a user's file with these tensors becomes."""
    checkpoint = family(kind).recognise(state, Path("G_ema.pth"), named=True)
    assert checkpoint is not None, kind
    return checkpoint, state


def listed(kind: str, keys: str, rules: str) -> Callable[[], tuple[Checkpoint, State]]:
    """A network whose names and shapes are in the goldens."""
    return lambda: recognised(kind, fill(json.loads((GOLDENS / keys).read_text()), rules))


def stylegan2_fashion() -> tuple[Checkpoint, State]:
    """The network that ships with the package."""
    checkpoint = checkpoint_from_safetensors(ROOT / "generate" / "weights" / "stylegan2_fashion.safetensors")
    assert checkpoint is not None
    return checkpoint, checkpoint.tensors


def icgan_256() -> tuple[Checkpoint, State]:
    """IC-GAN's published network of 256 px: a BigGAN of 96 channels, no classes."""
    shapes = expected_shapes(
        Layout(
            bottom=4,
            channels=tuple(96 * width for width in (16, 16, 8, 8, 4, 2, 1)),
            attention=frozenset({3}),
            z_width=17,
            hierarchical=True,
            num_classes=0,
            class_width=0,
            shared_classes=False,
            feature_dim=2048,
            feature_width=512,
        )
    )
    vectors = {f"{name[:-6]}u0": (1, shape[0]) for name, shape in shapes.items() if name.endswith("weight")}
    return recognised("icgan", fill(shapes | vectors, "BIGGAN_AJ"))


def residual_flow_mnist() -> tuple[Checkpoint, State]:
    """As published: at each of 3 scales 16 blocks (3x3, 1x1, 3x3; 512 channels), at the end 4 fully connected ones (128)."""
    random = torch.Generator().manual_seed(derive("residual_flow_mnist", SEED))
    state: State = {}
    chains: list[list[Any]] = []
    for scale, (channels, side) in enumerate(((1, 28), (4, 14), (16, 7))):
        chain: list[Any] = [] if scale else [{"logit": 1e-6}]
        widths = [] if scale else [channels]  # of the chain's activation norms
        for block in range(20 if scale == 2 else 16):
            flat = block >= 16
            width = channels * side**2 if flat else channels
            place = f"transforms.{scale}.chain.{2 * block + (0 if scale else 2)}.nnet."
            state |= flow_branch(place, width, 1 if flat else side, flat, bool(scale or block), random)
            affine = "linear" if flat else "conv"
            chain += ["actnorm"] if not scale and not block else []
            chain.append({"residual": ["swish"] * bool(scale or block) + [affine, "swish", affine, "swish", affine]})
            chain.append("actnorm")
            widths.append(width)
        places = [i for i, layer in enumerate(chain) if layer == "actnorm"]
        for i, width in zip(places, widths, strict=True):
            for name in ("weight", "bias"):
                state[f"transforms.{scale}.chain.{i}.{name}"] = 0.1 * torch.randn(width, generator=random)
        chains.append(chain + ["squeeze"] * (scale < 2))
    config = {"chains": chains, "image_shape": [1, 28, 28], "factor_out": False, "squeeze_first": False, "padding": 0}
    config |= {"coeff": 0.98, "iterations": None, "atol": 1e-3, "rtol": 1e-3}
    return Checkpoint(family="residual_flow", tensors=state, config=config), state


def flow_branch(place: str, width: int, side: int, flat: bool, first_swish: bool, random: torch.Generator) -> State:
    """The tensors of one residual branch."""
    hidden, state = 128 if flat else 512, {}
    if first_swish:
        state[f"{place}0.beta"] = torch.tensor([0.5])
    for i, (inputs, outputs) in enumerate(pairwise((width, hidden, hidden, width))):
        kernel = 1 if flat or i == 1 else 3
        name, pixels = f"{place}{2 * i + first_swish}.", 1 if kernel == 1 else side**2
        shape = (outputs, inputs) if flat else (outputs, inputs, kernel, kernel)
        state[f"{name}weight"] = torch.randn(shape, generator=random) / (inputs * kernel**2) ** 0.5
        state[f"{name}bias"] = 0.1 * torch.randn(outputs, generator=random)
        state[f"{name}u"] = torch.nn.functional.normalize(torch.randn(outputs * pixels, generator=random), dim=0)
        state[f"{name}v"] = torch.nn.functional.normalize(torch.randn(inputs * pixels, generator=random), dim=0)
        if i < 2:
            state[f"{place}{2 * i + 1 + first_swish}.beta"] = torch.tensor([0.5])
    return state


CASES = {
    "stylegan2_car": Case(build=listed("stylegan2", "car512/keys_ada_car512.json", "STYLEGAN2_ADA"), batch=4),
    "stylegan2_fashion": Case(build=stylegan2_fashion, batch=64),
    "biggan_deep_128": Case(
        build=listed("biggan_deep", "biggan_deep_full/keys_deep128.json", "BIGGAN_HF"), batch=8
    ),
    "biggan_deep_256": Case(
        build=listed("biggan_deep", "biggan_deep_full/keys_deep256.json", "BIGGAN_HF"), batch=4
    ),
    "biggan_deep_512": Case(
        build=listed("biggan_deep", "biggan_deep_full/keys_deep512.json", "BIGGAN_HF"), batch=2
    ),
    "bigbigan": Case(build=listed("bigbigan", "bigbigan_full/keys.json", "BIGGAN_AJ"), batch=8),
    "biggan_128": Case(build=listed("biggan", "bigbigan_full/keys.json", "BIGGAN_AJ"), batch=8),  # the same sizes
    "icgan_256": Case(build=icgan_256, batch=4, features=2048),
    "residual_flow_mnist": Case(build=residual_flow_mnist, batch=16),
}


def hugging_face(checkpoint: Checkpoint, state: State, device: str) -> Callable[[Tensor, Tensor | None], Tensor]:
    """BigGAN-deep of pytorch_pretrained_biggan."""
    config = importlib.import_module("pytorch_pretrained_biggan.config").BigGANConfig
    names = {"5": "128"}  # by the number of blocks that double the resolution
    size = 4 * 2 ** sum(checkpoint.config["upsample"])
    published = json.loads((GOLDENS / "biggan_deep_full" / f"config_deep{size}.json").read_text())
    del names
    model = importlib.import_module("pytorch_pretrained_biggan.model").BigGAN(config.from_dict(published))
    model.load_state_dict(state)
    model = model.eval().requires_grad_(False).to(device)
    return lambda z, y: model(z, torch.nn.functional.one_hot(y, CLASSES).float(), 1.0)

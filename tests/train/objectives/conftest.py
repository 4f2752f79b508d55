"""Random unit vectors, and an encoder of a few weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_transformer import TinyTransformer
from torch import Tensor, nn

from genrep.train.objectives import Setup

WIDTH = 16


class Views:
    """``rows[v][i]`` for the plain loops, ``tensor`` (V, B, D) float64 for the function under test."""

    def __init__(self, views: int, samples: int, dim: int, seed: int, normal: bool = True) -> None:
        values = torch.randn(views, samples, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self.tensor = (F.normalize(values, dim=2) if normal else values).requires_grad_()
        self.rows = self.tensor.tolist()


@pytest.fixture
def random_views() -> Callable[..., Views]:
    return Views


@pytest.fixture
def tiny_encoder() -> nn.Module:
    """(N, 3, 4, 4) -> (N, 16), its weights a function of nothing else."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, WIDTH), nn.Tanh())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return encoder


@pytest.fixture
def encoder_of(tiny_encoder: nn.Module) -> Callable[[str], nn.Module]:
    """A network that the objective can train."""
    return lambda name: TinyTransformer(WIDTH) if name in ("ibot", "synclr") else tiny_encoder


@pytest.fixture
def setup(tiny_encoder: nn.Module) -> Callable[..., Setup]:
    def make(**changes: Any) -> Setup:
        facts: dict[str, Any] = {"latent_shape": (2, 3), "labels": (3, 7, 11), "decode": decode}
        return Setup(**{"encoder": tiny_encoder, "width": WIDTH, "seed": 5, **facts, **changes})

    return make


def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
    """A generator of 4x4 images: every channel and row repeats the latents."""
    return latents.flatten(1)[:, :4].tanh().view(-1, 1, 1, 4).expand(-1, 3, 4, 4)


@pytest.fixture
def images() -> Callable[[int, int], Tensor]:
    def make(views: int, samples: int) -> Tensor:
        return torch.randn(views * samples, 3, 4, 4, generator=torch.Generator().manual_seed(views + samples))

    return make


@pytest.fixture
def batch() -> Callable[[int], dict[str, Tensor]]:
    def make(samples: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(samples)
        return {
            "label": torch.tensor([3, 7, 11])[torch.arange(samples) % 3],
            "index": torch.arange(samples) + 40,
            "z_anchor": torch.randn(samples, 2, 3, generator=generator),
            "anchor": torch.randint(256, (samples, 4, 4, 3), generator=generator, dtype=torch.uint8),
        }

    return make

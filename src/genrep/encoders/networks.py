"""The networks that are trained: an encoder and, for contrastive objectives, a projector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from genrep.errors import WeightsError, one_of
from genrep.seeding import derive

from . import ARCHS, STEMS
from .convolutions import guard_convolutions


def build_encoder(arch: str, stem: str, seed: int, *, zero_init_residual: bool = False) -> nn.Module:
    """A ResNet whose output is the pooled feature vector, with torchvision's initialisation drawn from ``seed``.

    Shape of its forward: ``(N, 3, H, W) -> (N, ARCHS[arch])``.

    Args:
        stem: ``imagenet``: torchvision's 7x7 convolution of stride 2 and max-pooling; ``cifar``: 3x3 of stride 1 and no
            pooling, for small images (SimCLR, appendix B.9).
        zero_init_residual: the weight of the last batch norm of every residual branch (bn3 of bottlenecks, bn2 of basic
            blocks) begins at 0, so that every block begins as the identity (Goyal et al. 2017, section 5.1; SimSiam).

    Raises:
        WeightsError: an unknown arch or stem.
    """
    if arch not in ARCHS:
        raise WeightsError(f"arch {arch!r}: wanted one of {one_of(arch, ARCHS)}")
    if stem not in STEMS:
        raise WeightsError(f"stem {stem!r}: wanted one of {one_of(stem, STEMS)}")
    with _seeded(derive("encoder", seed)):
        encoder: nn.Module = getattr(torchvision.models, arch)(weights=None, zero_init_residual=zero_init_residual)
        if stem == "cifar":
            encoder.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
            encoder.maxpool = nn.Identity()
    encoder.fc = nn.Identity()
    return guard_convolutions(encoder)


class Projector(nn.Module):
    """Linear - ReLU - Linear without batch norm, then unit length (GenRep's and COP-Gen's head).

    Shape: ``(N, dim) -> (N, out)``.
    """

    def __init__(self, dim: int, out: int, seed: int) -> None:
        super().__init__()
        with _seeded(derive("projector", seed)):
            self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, out))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features).float(), dim=1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from the CPU's stream of this seed, and leave the global one as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

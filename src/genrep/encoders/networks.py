"""The networks that are trained: an encoder and, for contrastive objectives, a projector.

Their convolutions have right gradients on a CPU with AMX too. oneDNN's bfloat16 kernels for AMX have three faults
(docs/onednn.md): where the input is narrower than the stride, the weight gradient holds uninitialised memory at the taps that
see padding only; a map whose output is one pixel wide and several high comes out wrong; and so do maps of some channels where
the stride is 4 or more. Such layers compute in float32 instead: narrow ones are small, long strides make few outputs.
"""

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


LOW = (torch.bfloat16, torch.float16)


class Conv2d(nn.Conv2d):
    """torch's own, but float32 in place of 16 bits where oneDNN is wrong on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(N, C, H, W) -> (N, C', H', W')``, of the type that torch's own would return."""
        dtype = _low_precision(x)
        if dtype is None or not _is_wrong(self, x):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return self._conv_forward(x.float(), self.weight.float(), bias).to(dtype)


def guard_convolutions(module: nn.Module) -> nn.Module:
    """Make every plain ``nn.Conv2d`` in a module a ``Conv2d``, in place; its parameters and their names stay. Returns it."""
    for part in module.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = Conv2d
    return module


def _low_precision(x: Tensor) -> torch.dtype | None:
    """The 16-bit type that a convolution of this input would compute in on a CPU; None elsewhere."""
    if x.device.type != "cpu":
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype if dtype in LOW else None


def _is_wrong(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether oneDNN is wrong here, or may be: only widths matter, and only with a stride."""
    stride, kernel = layer.stride[1], layer.kernel_size[1]
    if stride == 1 or kernel == 1:
        return False
    if stride > 2:  # found from 4 on with 16 channels, by other reports at 3: not worth telling apart
        return True
    height, width = x.shape[-2:]
    if width < stride:
        return True
    padding = (0, 0) if isinstance(layer.padding, str) else layer.padding  # "valid": "same" takes no stride
    rows, columns = (
        (side + 2 * around - reach * (taps - 1) - 1) // step + 1
        for side, around, reach, taps, step in zip(
            (height, width), padding, layer.dilation, layer.kernel_size, layer.stride
        )
    )
    return columns == 1 and rows > 1

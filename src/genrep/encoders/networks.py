"""The networks that are trained: an encoder and, for contrastive objectives, a projector.

An encoder gives pooled features, ``encoder(images)``, or those of all places too, ``encoder(images, tokens=True)``.

Their convolutions have right gradients on a CPU with AMX too. oneDNN's bfloat16 kernels for AMX have three faults
(docs/onednn.md): where the input is narrower than the stride, the weight gradient holds uninitialised memory at the taps that
see padding only; a map whose output is one pixel wide and several high comes out wrong; and so do maps of some channels where
the stride is 4 or more. Such layers compute in float32 instead: narrow ones are small, long strides make few outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from genrep.errors import WeightsError
from genrep.seeding import derive


class Features(NamedTuple):
    """What an encoder makes of N images."""

    pooled: Tensor  # (N, width)
    cls: Tensor | None  # (N, C), a vision transformer's class token after the last norm
    patches: Tensor  # (N, h * w, C), row by row: a transformer's patch tokens after the last norm, a ResNet's last map
    grid: tuple[int, int]  # h, w


class Encoder(nn.Module):
    """What all our encoders have."""

    takes_masks = False  # whether ``forward`` takes a mask of patches
    side_multiple = 1  # pixels that the sides of images are multiples of
    has_class_token = False

    @property
    def width(self) -> int:
        """Length of the pooled features."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """Length of the features of a patch."""
        return self.width

    def class_tokens(self, images: Tensor, blocks: int) -> Tensor:
        """What DINOv2's linear probes read: see ``VisionTransformer``. Raises WeightsError: there is no class token."""
        raise WeightsError(f"{type(self).__name__}: has no class token; wanted a vision transformer that has one")

    def interpolated(self, shape: tuple[int, int]) -> str | None:
        """What is done to its positions for images of this height and width, in words; None: nothing, or it has none."""
        return None


class ResNet(torchvision.models.ResNet, Encoder):  # type: ignore[misc]
    """torchvision's, with features in place of classes."""

    # torchvision's
    conv1: Any
    bn1: Any
    relu: Any
    maxpool: Any
    layer1: Any
    layer2: Any
    layer3: Any
    layer4: Any
    avgpool: Any
    fc: Any
    _norm_layer: Any
    _make_layer: Any
    inplanes: Any
    dilation: Any
    groups: Any
    base_width: Any

    @property
    def width(self) -> int:
        """Length of the pooled features."""
        last = self.layer4[-1]
        norm = last.bn3 if hasattr(last, "bn3") else last.bn2
        return int(norm.num_features)

    def forward(self, images: Tensor, *, tokens: bool = False) -> Tensor | Features:
        """Pooled features, or with ``tokens`` the last map too. Shape: ``(N, 3, H, W) -> (N, width)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = torch.flatten(self.avgpool(x), 1)
        if not tokens:
            return pooled
        return Features(pooled, None, x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]))


WIDTH = 64  # channels of torchvision's first stage


class Projector(nn.Module):
    """Linear - ReLU - Linear without batch norm, then unit length (GenRep's and COP-Gen's head).

    Shape: ``(N, dim) -> (N, out)``.
    """

    def __init__(self, dim: int, out: int, seed: int) -> None:
        super().__init__()
        with seeded(derive("projector", seed)):
            self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, out))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features).float(), dim=1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
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

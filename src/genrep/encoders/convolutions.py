"""Convolutions whose gradients are right on a CPU with AMX too.

oneDNN's bfloat16 kernels for AMX have three faults (docs/onednn.md): where the input is narrower than the stride, the weight
gradient holds uninitialised memory at the taps that see padding only; a map whose output is one pixel wide and several
high comes out wrong; and so do maps of some channels where the stride is 4 or more. Such layers compute in float32 instead:
narrow ones are small, long strides make few outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

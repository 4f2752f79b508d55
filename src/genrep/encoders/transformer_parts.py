"""Parts of published vision transformers that timm's network of these names has not.

MoCo v3's convolutional stem, the ways in which authors interpolate a table of positions, and DINOv3's rotary positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import vision_transformer as theirs
from torch import Tensor, nn

from genrep.errors import WeightsError

from .networks import Conv2d

INTERPOLATIONS = {  # of a table of positions, and how each is said
    "antialias": "bicubic, antialiased",  # timm, DINOv2 with registers, OpenCLIP
    "bicubic": "bicubic, without antialiasing",  # MAE, SynCLR, transformers
    "offset": "bicubic with DINO's offset of 0.1, without antialiasing",  # DINO, DINOv2 without registers
    "sincos": "the sine-cosine table of the new grid",  # MoCo v3
}
ROTARY = ("float32", "bfloat16")  # types that rotary positions are computed in
_OFFSET = 0.1
_STEM_SIDE = 16  # pixels of a patch, after four strides of 2


class ConvStem(nn.Module):
    """MoCo v3's stem of convolutions in place of patches (Xiao et al. 2021): four 3x3 of stride 2, then a 1x1.

    Shape: ``(N, 3, H, W) -> (N, H / 16, W / 16, C)``.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.img_size, self.patch_size = (size, size), (_STEM_SIDE, _STEM_SIDE)
        self.grid_size = (size // _STEM_SIDE, size // _STEM_SIDE)
        layers: list[nn.Module] = []
        channels = 3
        for made in (width // 8, width // 4, width // 2, width):
            layers += [
                Conv2d(channels, made, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(made),
                nn.ReLU(inplace=True),
            ]
            channels = made
        self.proj = nn.Sequential(*layers, Conv2d(channels, width, kernel_size=1))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.proj(images)
        return found.permute(0, 2, 3, 1)


def sincos(grid: tuple[int, int], width: int, *, columns_first: bool = False) -> Tensor:
    """MoCo v3's table of positions: sines and cosines of the row, then of the column, a quarter of the channels each.

    The frequencies are 10000^(-k / (width / 4)). MAE's has the column first. Shape: ``(rows * columns, width)``, row by row.

    Raises:
        WeightsError: the width is no multiple of 4.
    """
    if width % 4:
        raise WeightsError(f"width {width}: sine-cosine positions want a multiple of 4")
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    places = torch.meshgrid(rows, columns, indexing="ij")
    angles = [place.flatten()[:, None] * omega for place in (reversed(places) if columns_first else places)]
    return torch.cat([function(angle) for angle in angles for function in (torch.sin, torch.cos)], dim=1).float()


def resampled(table: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int, how: str) -> Tensor:
    """A table of positions for another grid of patches, by one of ``INTERPOLATIONS``.

    Shape: ``(1, prefix + rows * columns, C)``, before and after.
    """
    if tuple(old) == tuple(new):
        return table
    first, patches = table[:, :prefix], table[:, prefix:]
    width = table.shape[2]
    if how == "sincos":
        return torch.cat([first, sincos(new, width).to(table)[None]], dim=1)
    grid = patches.float().reshape(1, *old, width).permute(0, 3, 1, 2)
    if how == "offset":  # the sampling step is old / (new + 0.1), not old / new
        factors = tuple((wanted + _OFFSET) / had for wanted, had in zip(new, old))
        made = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    else:
        made = F.interpolate(grid, size=new, mode="bicubic", antialias=how == "antialias")
    return torch.cat([first, made.permute(0, 2, 3, 1).reshape(1, -1, width).to(table.dtype)], dim=1)


class Rotary(nn.Module):
    """DINOv3's rotary positions: sines and cosines of each patch's place, for queries and keys.

    Args:
        count: number of periods, a quarter of a head's channels.
        dtype: what they are computed in. DINOv3's published networks compute in float32, those of a training in bfloat16.
    """

    periods: Tensor

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("periods", 100.0 ** (torch.arange(count) / count))

    def forward(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Sines and cosines. Shape: ``(rows * columns, 4 * count)`` each, row by row."""
        kind: Any = {"dtype": self.dtype, "device": self.periods.device}
        places = [torch.arange(0.5, side, **kind) / side for side in grid]
        coordinates = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1).flatten(0, 1)
        coordinates = 2.0 * coordinates - 1.0
        angles = 2 * math.pi * coordinates[:, :, None] / self.periods.to(self.dtype)
        angles = angles.flatten(1, 2).tile(2)
        return torch.sin(angles), torch.cos(angles)


class RotaryBlock(theirs.Block):  # type: ignore[misc]
    """timm's block, whose queries and keys of patches are rotated by their places."""

    def forward(self, x: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Shape: ``(N, tokens, C)``, before and after. ``places``: of ``Rotary``."""
        x = x + self.drop_path1(self.ls1(self._attended(self.norm1(x), places)))
        whole: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return whole

    def _attended(self, x: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        attn = self.attn
        number, count, _ = x.shape
        qkv = attn.qkv(x).reshape(number, count, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(rotated(q, *places).to(v.dtype), rotated(k, *places).to(v.dtype), v)
        found: Tensor = attn.proj(x.transpose(1, 2).reshape(number, count, -1))
        return found


def rotated(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the last tokens, the patches, each channel with that half a head further. All take the type of the angles."""
    x = x.to(sin.dtype)
    first = x.shape[-2] - sin.shape[-2]
    patches = x[..., first:, :]
    one, other = patches.chunk(2, dim=-1)
    return torch.cat([x[..., :first, :], patches * cos + torch.cat([-other, one], dim=-1) * sin], dim=-2)

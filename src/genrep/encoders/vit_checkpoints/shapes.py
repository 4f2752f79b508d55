"""What the shapes of a vision transformer's tensors tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from genrep.errors import WeightsError

CONV_STEM_SIDE = 16  # pixels of a patch of MoCo v3's convolutions


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What the shapes of a network tell."""

    width: int
    depth: int
    patch: int
    conv_stem: bool
    registers: int
    grid: int | None  # patches along a side of the table of positions; None: there is no table
    no_embed_class: bool  # the table is of patches only


def shapes_in(state: Mapping[str, Tensor], where: str, *, positions: int | None, apart: bool | None) -> Shapes:
    """The shapes of a network under timm's names.

    Args:
        positions: how many of its table come before the patches; None: one for each token that does.
        apart: whether the table is of patches only; None: if it is a square.

    Raises:
        WeightsError: its patches or its table are not those of square images of three channels.
    """
    stem = state.get("patch_embed.proj.0.weight")
    kernel = state["patch_embed.proj.weight"] if stem is None else stem
    if kernel.dim() != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3] or 0 in kernel.shape:
        shape = tuple(kernel.shape)
        raise WeightsError(f"{where}: its patches are embedded by a kernel {shape}; wanted a square one of 3 channels")
    last = kernel if stem is None else state.get("patch_embed.proj.12.weight", kernel)
    numbers = [int(found[1]) for name in state if (found := re.match(r"blocks\.(\d{1,3})\.", name))]
    registers = state["reg_token"].shape[1] if "reg_token" in state and state["reg_token"].dim() == 3 else 0
    grid = None
    before = ("cls_token" in state) + registers
    if (table := state.get("pos_embed")) is not None and table.dim() == 3:
        count = table.shape[1]
        apart = before > 0 and _side(count) is not None if apart is None else apart
        grid = _side(count if apart else count - (before if positions is None else positions))
        if grid is None:
            raise WeightsError(f"{where}: a table of {count} positions; wanted a square of patches")
    return Shapes(
        width=last.shape[0],
        depth=max(numbers, default=-1) + 1,
        patch=kernel.shape[2] if stem is None else CONV_STEM_SIDE,
        conv_stem=stem is not None,
        registers=registers,
        grid=grid,
        no_embed_class=bool(apart),
    )


def _side(count: int) -> int | None:
    side = math.isqrt(max(count, 0))
    return side if side > 0 and side * side == count else None


def is_gated(state: Mapping[str, Tensor]) -> bool:
    """Whether half of the hidden layer is a gate (SwiGLU)."""
    first, second = state.get("blocks.0.mlp.fc1.weight"), state.get("blocks.0.mlp.fc2.weight")
    if first is None or second is None or first.dim() != 2 or second.dim() != 2:
        return False
    return bool(first.shape[0] == 2 * second.shape[1])


def hidden_ratio(state: Mapping[str, Tensor], width: int) -> float:
    """The ratio by which timm makes the hidden width of a block from that of the network: ``int(width * ratio)``."""
    layer = state.get("blocks.0.mlp.fc1.weight")
    if layer is None or layer.dim() != 2:
        return 4.0
    hidden = layer.shape[0]
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width

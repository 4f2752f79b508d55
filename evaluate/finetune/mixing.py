"""Mixup, CutMix and drop path, whose draws are functions of (seed, step)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from genrep.seeding import derive, uniforms

from .config import FinetuneSettings

CUTMIX = 0.5  # how probably a batch is cut instead of mixed


def mixed(
    images: Tensor, labels: Tensor, num_classes: int, law: FinetuneSettings, *, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """A batch mixed with itself in reverse order, and its soft labels: timm's ``Mixup`` of whole batches.

    Shape: ``(B, 3, H, W)``, ``(B,)`` -> ``(B, 3, H, W)``, ``(B, num_classes)``.
    """
    from timm.data.mixup import mixup_target

    key = derive("mixup", seed, step)
    stream = np.random.RandomState([key & 0xFFFFFFFF, key >> 32])
    stream.rand()  # timm's: whether to mix at all
    cut = stream.rand() < CUTMIX
    alpha = law.cutmix if cut else law.mixup
    part = float(stream.beta(alpha, alpha))
    if cut and part != 1:
        images, part = _cut(images, part, stream)
    elif part != 1:
        images = images * part + images.flip(0) * (1 - part)
    return images, mixup_target(labels, num_classes, part, law.smoothing)


def _cut(images: Tensor, part: float, stream: np.random.RandomState) -> tuple[Tensor, float]:
    """A square of the other image, cut off at the border, in each; and the part that is left."""
    high, wide = images.shape[-2:]
    side = np.sqrt(1 - part)
    h, w = int(high * side), int(wide * side)
    y, x = stream.randint(0, high), stream.randint(0, wide)
    top, bottom = np.clip([y - h // 2, y + (h + 1) // 2], 0, high)
    left, right = np.clip([x - w // 2, x + (w + 1) // 2], 0, wide)
    found = images.clone()
    found[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return found, float(1 - (bottom - top) * (right - left) / (high * wide))


class DropPath(nn.Module):
    """A branch that is left out for some images of a batch; the others' is scaled up to the same mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.factors: Tensor | None = None  # of the images of this step's batch; None: all are 1

    def forward(self, branch: Tensor) -> Tensor:
        """Shape: ``(B, tokens, C)``, before and after."""
        if self.factors is None or not self.training:
            return branch
        return branch * self.factors.to(branch)[:, None, None]


def add_drop_path(encoder: nn.Module, rate: float) -> list[DropPath]:
    """Give a vision transformer's blocks drop path, from 0 at the first to ``rate`` at the last. Other networks have none."""
    blocks = [block for block in getattr(encoder, "blocks", ()) if hasattr(block, "drop_path1")]
    found = []
    for number, block in enumerate(blocks):
        for name in ("drop_path1", "drop_path2"):
            path = DropPath(rate * number / max(1, len(blocks) - 1))
            setattr(block, name, path)
            found.append(path)
    return found


def draw_paths(paths: list[DropPath], count: int, *, seed: int, step: int) -> None:
    """Draw which branches of a batch of ``count`` images are left out in this step."""
    if not paths:
        return
    numbers = uniforms(derive("drop-path", seed, step), np.arange(count, dtype=np.int64), 0, len(paths))
    for path, column in zip(paths, numbers.T):
        keep = 1 - path.rate
        path.factors = torch.from_numpy((column < keep) / keep).float() if path.rate else None

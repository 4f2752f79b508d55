"""From a generator's float images to the uint8 images of a dataset, and how those are encoded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from genrep.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

# The published conversions differ by up to a level, so a recipe names its own: gain, offset; then clamp and truncate.
FORMULAS: dict[str, tuple[float, float]] = {
    "127.5x+128": (127.5, 128.0),  # NVIDIA's StyleGAN2
    "127.5x+127.5": (127.5, 127.5),  # GenRep's cars
    "128x+128": (128.0, 128.0),  # BigGAN and BigBiGAN in GenRep and COP-Gen: 256 (x + 1) / 2
}
RAW_UP_TO = 64  # pixels: larger images are stored as JPEG by default
DEFAULT_JPEG = "jpeg:90:444"  # measured in docs/encoding.md


def framed(images: Tensor, crop: tuple[int, int, int, int] | None, resize: tuple[int, int] | None = None) -> Tensor:
    """Crop a network's output and shrink it (bilinear, antialiased) as the recipe says; differentiable.

    Shape: ``(B, 3, H, W) -> (B, 3, h, w)``.
    """
    if crop is not None:
        top, left, height, width = crop
        images = images[:, :, top : top + height, left : left + width]
    if resize is not None:
        import torch.nn.functional as F

        images = F.interpolate(images.float(), resize, mode="bilinear", align_corners=False, antialias=True)
    return images


def to_uint8(
    images: Tensor,
    formula: str,
    crop: tuple[int, int, int, int] | None = None,
    resize: tuple[int, int] | None = None,
) -> Tensor:
    """Crop, shrink and quantise on the images' device. Shape: ``(B, 3, H, W)`` float -> ``(B, h, w, 3)`` uint8."""
    import torch

    images = framed(images, crop, resize)
    gain, offset = FORMULAS[formula]
    levels = images.float().mul(gain).add_(offset).clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()


def parse_encoding(text: str) -> int | None:
    """JPEG quality of ``jpeg:Q`` or ``jpeg:Q:444``, None for ``raw``.

    Raises:
        RecipeError: anything else.
    """
    if text == "raw":
        return None
    match = re.fullmatch(r"jpeg:(\d{1,3})(:444)?", text) if isinstance(text, str) else None
    if match is None or not 1 <= int(match[1]) <= 100:
        raise RecipeError.naming("{encoding} {!r}: wanted raw or jpeg:Q[:444] with Q from 1 to 100", text)
    return int(match[1])


def default_encoding(height: int, width: int) -> str:
    """Raw for small images, JPEG for others."""
    return "raw" if max(height, width) <= RAW_UP_TO else DEFAULT_JPEG

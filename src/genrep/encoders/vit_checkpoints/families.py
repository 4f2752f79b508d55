"""Whose a vision transformer is, and what all networks of one origin have though no tensor shows it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD

from ..transformer_parts import sincos
from .named import named_network
from .told import TRANSFORMERS, TRANSFORMERS_CLIP, TRANSFORMERS_DINOV3, Told

HALVES = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HEADS = {1280: 16, 1408: 16, 1664: 16}  # of the widths where that is not so: ViT-H, ViT-g and ViT-bigG
_TOLERANCE = 1e-3  # between a stored table and one of sines and cosines, which may have been in half precision


@dataclass(frozen=True, kw_only=True)
class Family:
    """What all networks of one origin have, and no tensor shows."""

    title: str
    interpolation: str
    norm_eps: float = 1e-6
    act_layer: str = "gelu"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    heads: Mapping[int, int] = field(default_factory=dict)  # by width, where they are not of 64 channels


_CLIP: dict[str, Any] = {"norm_eps": 1e-5, "mean": CLIP_MEAN, "std": CLIP_STD}
FAMILIES = {
    "dino": Family(title="DINO", interpolation="offset"),
    "mocov3": Family(title="MoCo v3", interpolation="sincos", heads={384: 12}),
    "mae": Family(title="MAE", interpolation="bicubic", heads=_HEADS),
    "synclr": Family(title="StableRep or SynCLR", interpolation="bicubic", heads=_HEADS),
    "dinov2": Family(title="DINOv2", interpolation="offset"),
    "dinov2_reg": Family(title="DINOv2 with registers", interpolation="antialias"),
    "dinov3": Family(title="DINOv3", interpolation="antialias", norm_eps=1e-5),
    "openai": Family(title="OpenAI's CLIP", interpolation="antialias", act_layer="quick_gelu", **_CLIP),
    "openclip": Family(title="OpenCLIP", interpolation="antialias", heads=_HEADS, **_CLIP),
    "transformers_clip": Family(
        title="transformers' CLIP", interpolation="bicubic", act_layer="quick_gelu", heads=_HEADS, **_CLIP
    ),
    "transformers": Family(
        title="transformers", interpolation="bicubic", norm_eps=1e-12, mean=HALVES, std=HALVES, heads=_HEADS
    ),
    "timm": Family(title="timm", interpolation="antialias", heads=_HEADS),
}
_OF_TRANSFORMERS = {
    TRANSFORMERS: "transformers",
    TRANSFORMERS_CLIP: "transformers_clip",
    TRANSFORMERS_DINOV3: "dinov3",
}


def family_of(state: Mapping[str, Tensor], names: Mapping[str, Tensor], prefix: str, told: Told, *, safe: bool) -> str:
    """Which family a network is of, by what stands in the file: names, tables of positions, settings.

    Args:
        state: the network under timm's names.
        names: all tensors of the file.
        prefix: what stands before the network's names there.
        safe: whether the file is of safetensors.
    """
    if told.by_transformers:
        return _OF_TRANSFORMERS[told.layout]
    if told.layout == "clip":
        by_openclip = bool(told.config) or safe or "module." in prefix or "state_dict." in prefix
        by_openai = f"{prefix.removesuffix('visual.')}input_resolution" in names
        return "openclip" if not by_openai and (by_openclip or "blocks.0.ls1.gamma" in state) else "openai"
    beside = {name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)}
    found = _by_parts(state, beside) or _by_positions(state, beside, prefix, told)
    if found is not None:
        return found
    if prefix.endswith("visual."):
        return "synclr"
    classifier = names.get(f"{prefix}head.weight")
    if _is_timms(state, classifier, prefix, told):
        return "timm"
    return "dinov2" if "blocks.0.ls1.gamma" in state else "dino"


def _by_parts(state: Mapping[str, Tensor], beside: set[str]) -> str | None:
    """A family whose networks have parts that no others have."""
    if "rope.periods" in state:
        return "dinov3"
    if "register_tokens" in beside or {"mask_token", "reg_token"} <= beside:
        return "dinov2_reg"
    return "dinov2" if "mask_token" in beside and "blocks.0.ls1.gamma" in state else None


def _by_positions(state: Mapping[str, Tensor], beside: set[str], prefix: str, told: Told) -> str | None:
    """MoCo v3 or MAE, whose positions are fixed tables."""
    if re.search(r"(?:^|\.)(?:base|momentum)_encoder\.", prefix) or _has_table(state, columns_first=False):
        return "mocov3"
    tuned_by_mae = "fc_norm.weight" in state and {"nb_classes", "global_pool"} <= told.args.keys()
    return "mae" if "decoder_embed" in beside or tuned_by_mae or _has_table(state, columns_first=True) else None


def _is_timms(state: Mapping[str, Tensor], classifier: Tensor | None, prefix: str, told: Told) -> bool:
    by_name = bool(told.config) or (told.arch is not None and named_network(told.arch) is not None)
    if by_name and {"student", "teacher"}.isdisjoint(prefix.split(".")):
        return True
    if classifier is not None and classifier.dim() == 2:
        return True
    return not {"reg_token", "norm_pre.weight", "fc_norm.weight"}.isdisjoint(state)


def _has_table(state: Mapping[str, Tensor], *, columns_first: bool) -> bool:
    """Whether the positions are the fixed table of MoCo v3, or with ``columns_first`` of MAE."""
    table = state.get("pos_embed")
    if table is None or table.dim() != 3 or not table.is_floating_point():
        return False
    side, width = math.isqrt(table.shape[1] - 1) if table.shape[1] else 0, table.shape[2]
    if side < 2 or side * side + 1 != table.shape[1] or width % 4:
        return False
    wanted = sincos((side, side), width, columns_first=columns_first)
    return bool((table[0, 1:].float() - wanted).abs().max() < _TOLERANCE)

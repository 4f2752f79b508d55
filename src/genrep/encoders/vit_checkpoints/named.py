"""What timm says of a network by its name: what no tensor shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import timm
import torch
from timm import create_model
from timm.models import vision_transformer as theirs

from genrep.errors import WeightsError

from ..architectures import RESNETS, architecture

_ACTS = {"GELU": "gelu", "QuickGELU": "quick_gelu", "GELUTanh": "gelu_tanh", "SiLU": "silu"}


@dataclass(frozen=True, kw_only=True)
class NamedNetwork:
    """A network of timm's VisionTransformer class."""

    name: str
    width: int
    depth: int
    heads: int
    act_layer: str
    norm_eps: float
    pooled_by: str  # cls or avg, of one that has a class token
    mean: tuple[float, ...]
    std: tuple[float, ...]


@cache
def named_network(name: str) -> NamedNetwork | None:
    """The network of this name; None if timm has none of its VisionTransformer class that ours can be."""
    try:
        parsed = architecture(name)
    except WeightsError:
        return None
    if name in RESNETS or ":" in name or parsed.name.partition(".")[0] not in timm.list_models(include_tags=False):
        return None
    with torch.device("meta"):
        made = create_model(parsed.name.partition(".")[0], pretrained=False)
    if type(made) is not theirs.VisionTransformer or not hasattr(made.blocks[0], "attn"):
        return None
    block = made.blocks[0]
    act = _ACTS.get(type(getattr(block.mlp, "act", None)).__name__)
    eps = getattr(block.norm1, "eps", None)
    if act is None or eps is None:
        return None
    images = made.pretrained_cfg
    return NamedNetwork(
        name=name,
        width=made.embed_dim,
        depth=len(made.blocks),
        heads=block.attn.num_heads,
        act_layer=act,
        norm_eps=float(eps),
        pooled_by="avg" if made.global_pool == "avg" else "cls",
        mean=tuple(images["mean"]),
        std=tuple(images["std"]),
    )

"""The names of a vision transformer's tensors in others' files, and timm's names for them.

timm          DINO's names, which MoCo v3, MAE, DINOv2, DINOv3, StableRep and SynCLR have too: patch_embed blocks.0.attn.qkv
clip          OpenAI's and OpenCLIP's visual part: conv1 class_embedding transformer.resblocks.0.attn.in_proj_weight
transformers  ViTModel, Dinov2Model: embeddings.patch_embeddings.projection encoder.layer.0.attention.attention.query
transformers' CLIP    CLIPModel, CLIPVisionModel: embeddings.class_embedding encoder.layers.0.self_attn.q_proj
transformers' DINOv3  DINOv3ViTModel: embeddings.patch_embeddings.weight layer.0.attention.q_proj
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.state_dicts import IDLE, prefixes
from genrep.untrusted import label

from .told import TRANSFORMERS, TRANSFORMERS_CLIP, TRANSFORMERS_DINOV3

_Renames = tuple[tuple[re.Pattern[str], str], ...]


@dataclass(frozen=True)
class _Layout:
    """How a kind of file names a network. Each is known by one of the ``marks``, and ``blocks`` below the same prefix."""

    marks: tuple[str, ...]
    blocks: str
    inside: re.Pattern[str]  # first parts of names that take part in the features, known to us or not
    renames: _Renames


def _renames(*pairs: tuple[str, str]) -> _Renames:
    return tuple((re.compile(pattern), new) for pattern, new in pairs)


_TIMM = _renames(
    (r"^(?:register_tokens|storage_tokens)$", "reg_token"),
    (r"^rope_embed\.periods$", "rope.periods"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # chunks of DINOv2's training
    (r"^(blocks\.\d+)\.gamma_([12])$", r"\1.ls\2.gamma"),
    (r"^(blocks\.\d+\.mlp)\.w12\.", r"\1.fc1."),
)
_CLIP = _renames(
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"^(blocks\.\d+)\.ls_([12])\.", r"\1.ls\2."),
    (r"^(blocks\.\d+\.attn)\.in_proj_(weight|bias)$", r"\1.qkv.\2"),
    (r"^(blocks\.\d+\.attn)\.out_proj\.", r"\1.proj."),
    (r"^(blocks\.\d+\.mlp)\.c_fc\.", r"\1.fc1."),
    (r"^(blocks\.\d+\.mlp)\.c_proj\.", r"\1.fc2."),
)
_TRANSFORMERS = _renames(
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.attention\.attention\.(query|key|value)\.", r"\1.attn.\2."),
    (r"^(blocks\.\d+)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
    (r"^(blocks\.\d+\.mlp)\.weights_in\.", r"\1.fc1."),
    (r"^(blocks\.\d+\.mlp)\.weights_out\.", r"\1.fc2."),
)
_TRANSFORMERS_CLIP = _renames(
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^pre_layrnorm\.", "norm_pre."),  # as they spell it
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.layer_norm([12])\.", r"\1.norm\2."),
    (r"^(blocks\.\d+)\.self_attn\.q_proj\.", r"\1.attn.query."),
    (r"^(blocks\.\d+)\.self_attn\.k_proj\.", r"\1.attn.key."),
    (r"^(blocks\.\d+)\.self_attn\.v_proj\.", r"\1.attn.value."),
    (r"^(blocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.proj."),
)
_TRANSFORMERS_DINOV3 = _renames(
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^layer\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.attention\.q_proj\.", r"\1.attn.query."),
    (r"^(blocks\.\d+)\.attention\.k_proj\.", r"\1.attn.key."),
    (r"^(blocks\.\d+)\.attention\.v_proj\.", r"\1.attn.value."),
    (r"^(blocks\.\d+)\.attention\.o_proj\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
    (r"^(blocks\.\d+\.mlp)\.gate_proj\.", r"\1.w1."),
    (r"^(blocks\.\d+\.mlp)\.down_proj\.", r"\1.fc2."),
)
_OWN = (
    r"cls_token|dist_token|reg_token|register_tokens|storage_tokens|pos_embed\w*|patch_embed\w*|blocks\w*|layers?|stages?"
    r"|norm\w*|fc_norm|cls_norm|rope\w*|rel_pos\w*|relative_\w*|freqs\w*|ln_\w+|pre_norm|attn_pool|\w*adapter\w*|\w*prompt\w*"
)
LAYOUTS = {
    "timm": _Layout(("patch_embed.proj.weight", "patch_embed.proj.0.weight"), "blocks.", re.compile(_OWN), _TIMM),
    "clip": _Layout(
        ("class_embedding",),
        "transformer.resblocks.",
        re.compile(
            r"conv\w*|class_embedding|positional_embedding|ln_\w+|transformer|attn_pool|patchnorm\w*|\w*adapter\w*"
        ),
        _CLIP,
    ),
    TRANSFORMERS: _Layout(
        ("embeddings.patch_embeddings.projection.weight",),
        "encoder.layer.",
        re.compile(r"embeddings|encoder|layernorm"),
        _TRANSFORMERS,
    ),
    TRANSFORMERS_CLIP: _Layout(
        ("embeddings.class_embedding",),
        "encoder.layers.",
        re.compile(r"embeddings|encoder|pre_layrnorm|post_layernorm"),
        _TRANSFORMERS_CLIP,
    ),
    TRANSFORMERS_DINOV3: _Layout(
        ("embeddings.patch_embeddings.weight",),
        "layer.",
        re.compile(r"embeddings|layer|norm"),
        _TRANSFORMERS_DINOV3,
    ),
}
_NO_PART = re.compile(r"embeddings\.(?:mask_token|position_ids)")  # what masked patches get; 0, 1, 2, …


def candidates(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The layout of everything that looks like a vision transformer, by the prefix of its names."""
    found: dict[str, str] = {}
    for layout, how in LAYOUTS.items():
        for mark in how.marks:
            for prefix in prefixes(tensors, mark):
                inner = f"{prefix}{how.blocks}"
                if any(name.startswith(inner) for name in tensors):
                    found.setdefault(prefix, layout)
    return found


@dataclass(frozen=True, kw_only=True)
class Translated:
    """A network under timm's names."""

    state: dict[str, Tensor]  # those that no transformer has are among them
    used: set[str]  # full names in the file
    idle: tuple[str, ...]  # names that take no part


def translated(below: Mapping[str, str], tensors: Mapping[str, Tensor], layout: str, where: str) -> Translated:
    """The tensors of a network under timm's names; what stands beside it is not among them.

    Args:
        below: the network's own names, each with the full one.

    Raises:
        WeightsError: two tensors have one name, or parts of one tensor are missing or do not fit together.
    """
    how = LAYOUTS[layout]
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    idle: list[str] = []
    for name, full in below.items():
        if IDLE.search(name):
            idle.append(name)
        elif how.inside.fullmatch(name.partition(".")[0]) and not _NO_PART.fullmatch(name):
            new = name
            for pattern, replacement in how.renames:
                new = pattern.sub(replacement, new)
            if new in state:
                raise WeightsError(f"{where}: it holds two tensors for {label(new)}")
            state[new] = tensors[full]
            used.add(full)
    used |= {below[name] for name in idle}
    return Translated(state=_joined(state, layout, where), used=used, idle=tuple(idle))


_PARTS = (  # tensors that timm's network has as one, and the parts in others' order
    ("attn.qkv.weight", ("attn.query.weight", "attn.key.weight", "attn.value.weight")),
    ("attn.qkv.bias", ("attn.query.bias", "attn.key.bias", "attn.value.bias")),
    ("mlp.fc1.weight", ("mlp.w1.weight", "mlp.w2.weight")),
    ("mlp.fc1.bias", ("mlp.w1.bias", "mlp.w2.bias")),
    ("mlp.fc1.weight", ("mlp.w1.weight", "mlp.up_proj.weight")),  # transformers' DINOv3, with a gate
    ("mlp.fc1.bias", ("mlp.w1.bias", "mlp.up_proj.bias")),
    ("mlp.fc1.weight", ("mlp.up_proj.weight",)),
    ("mlp.fc1.bias", ("mlp.up_proj.bias",)),
    ("mlp.fc2.weight", ("mlp.w3.weight",)),
    ("mlp.fc2.bias", ("mlp.w3.bias",)),
)


def _joined(state: Mapping[str, Tensor], layout: str, where: str) -> dict[str, Tensor]:
    """Parts of one tensor as that tensor, and tokens in timm's shapes. Raises WeightsError."""
    made = dict(state)
    for block in sorted({found[0] for name in state if (found := re.match(r"blocks\.\d+\.", name))}):
        query = made.get(f"{block}attn.query.bias") if layout == TRANSFORMERS_DINOV3 else None
        if query is not None:  # its keys have no bias
            made.setdefault(f"{block}attn.key.bias", torch.zeros_like(query))
        for whole, parts in _PARTS:
            held = [f"{block}{part}" for part in parts if f"{block}{part}" in made]
            if len(held) != len(parts):  # all or none: what is left is an unknown tensor
                continue
            pieces = [made.pop(name) for name in held]
            if len({piece.shape for piece in pieces}) != 1 or pieces[0].dim() not in (1, 2):
                raise WeightsError(
                    f"{where}: {block}{whole}: its parts have the shapes {[tuple(p.shape) for p in pieces]}"
                )
            made[f"{block}{whole}"] = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        if (mask := made.pop(f"{block}attn.qkv.bias_mask", None)) is not None:  # DINOv3: keys have no bias
            bias = made.get(f"{block}attn.qkv.bias")
            if bias is None or mask.shape != bias.shape:
                raise WeightsError(f"{where}: {block}attn.qkv.bias_mask: wanted a bias of the same shape")
            made[f"{block}attn.qkv.bias"] = bias.float() * mask.float()
    for name in ("cls_token", "reg_token", "pos_embed"):
        if name in made and made[name].dim() < 3:
            made[name] = made[name].reshape(1, -1, made[name].shape[-1] if made[name].dim() else 1)
    if "reg_token" in made and made["reg_token"].shape[1:2] == (0,):  # a network without registers
        del made["reg_token"]
    return made


_REASONS = (
    (r"^dist_token$|distillation_token", "a token for distillation (DeiT)"),
    (r"relative_position|rel_pos", "relative positions (BEiT)"),
    (r"\.attn\.[qv]_bias$", "biases of queries and values apart (BEiT, EVA)"),
    (r"^layers|^stages|downsample", "stages of several resolutions (Swin, PVT)"),
    (r"\.(?:q_norm|k_norm)\.", "norms of queries and keys"),
    (r"^attn_pool\.", "features pooled by attention (SigLIP, CoCa)"),
    (r"^rope\b|^freqs", "rotary positions of another kind than DINOv3's"),
    (r"\.(?:lora_\w+|weight_g|weight_v|parametrizations)", "weights in parts (LoRA, weight norm)"),
    (r"adapter|prompt", "adapters or prompts"),
)


def reason(unknown: Iterable[str], missing: Iterable[str]) -> str | None:
    """The kind of network that has these names, which no plain vision transformer has, and lacks those."""
    names = list(unknown)
    found = next((what for pattern, what in _REASONS if any(re.search(pattern, name) for name in names)), None)
    return found or ("no table of positions (but rotary or relative ones)" if "pos_embed" in set(missing) else None)

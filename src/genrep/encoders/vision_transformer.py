"""Vision transformers: timm's networks under timm's names, with pooled features and patch tokens.

timm builds the network of a name; here is what it computes. ``model`` says what else a network is built from:

    patch_size     pixels of a patch's side                     no_embed_class  positions are added to patches only
    global_pool    cls, avg (of the patches) or cls+avg         qkv_bias        whether queries, keys and values have a bias
    reg_tokens     number of register tokens                    norm_eps        epsilon of the layer norms
    layer_scale    whether branches are scaled per channel      act_layer       gelu, quick_gelu, gelu_tanh, silu
    pre_norm       a norm before the blocks, as CLIP has it     mlp_ratio       hidden width of a block by its width
    class_token    whether there is one                         fc_norm         the last norm follows pooling, not the blocks

and of others' checkpoints (``transformer_parts.py``):

    table_size     pixels of the images that the table of positions was made for, where ``size`` is another
    interpolation  how it is interpolated                       conv_stem       MoCo v3's convolutions in place of patches
    rotary         DINOv3's positions, and their type           patch_norm      patches have a last norm of their own
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm import create_model
from timm.layers import LayerNorm
from timm.models import vision_transformer as theirs
from torch import Tensor, nn

from genrep.errors import WeightsError, suggestion
from genrep.untrusted import label

from . import EncoderFacts
from .architectures import ACTIVATIONS, POOLS, Architecture, architecture
from .networks import Encoder, Features
from .transformer_parts import INTERPOLATIONS, ROTARY, ConvStem, Rotary, RotaryBlock, resampled, sincos

HEAD = 64  # channels of a head, where only a width is given
_KINDS: dict[str, tuple[Any, float, float]] = {  # of numbers: type, least, most
    "patch_size": (int, 1, 256),
    "reg_tokens": (int, 0, 256),
    "norm_eps": (float, 0, 1),
    "mlp_ratio": (float, 0.01, 64),
    "table_size": (int, 1, 8192),
}
_SWITCHES = (
    *("layer_scale", "pre_norm", "no_embed_class", "qkv_bias", "class_token", "fc_norm"),
    *("conv_stem", "patch_norm"),
)
_NAMES: dict[str, tuple[str, ...]] = {
    "global_pool": POOLS,
    "act_layer": ACTIVATIONS,
    "interpolation": tuple(INTERPOLATIONS),
    "rotary": ROTARY,
}
_NOT_TIMMS = ("conv_stem", "patch_norm", "rotary")  # parts that its VisionTransformer cannot have


class VisionTransformer(theirs.VisionTransformer, Encoder):  # type: ignore[misc]
    """timm's, with features in place of classes: its parameters and their names are timm's."""

    takes_masks = True
    pooled_by: str  # one of POOLS
    interpolation: str  # one of INTERPOLATIONS
    rope: Rotary | None
    cls_norm: nn.Module | None  # of the tokens before the patches, where those have a norm of their own
    # timm's
    embed_dim: int
    num_prefix_tokens: int
    has_class_token: bool
    patch_embed: Any
    pos_embed: Any
    cls_token: Any
    norm_pre: Any
    blocks: Any
    norm: Any
    fc_norm: Any
    reg_token: Any
    no_embed_class: bool
    init_weights: Any

    @property
    def side_multiple(self) -> int:  # type: ignore[override]
        """Pixels that the sides of images are multiples of."""
        return int(self.patch_embed.patch_size[0])

    @property
    def width(self) -> int:
        """Length of the pooled features."""
        return int(self.embed_dim) * (2 if self.pooled_by == "cls+avg" else 1)

    @property
    def channels(self) -> int:
        """Length of the features of a patch."""
        return int(self.embed_dim)

    @property
    def positions_for(self) -> int:
        """Side in pixels of the images that the table of positions was made for."""
        return int(self.patch_embed.img_size[0])

    def forward(
        self, images: Tensor, *, tokens: bool = False, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor | Features:
        """Pooled features, or with ``tokens`` all of them.

        Images of another size than the table of positions was made for have it interpolated.

        Shape: ``(N, 3, H, W) -> (N, width)``.

        Args:
            mask: Shape ``(N, P)``: patches whose embeddings ``mask_token``, shape ``(C,)``, replaces before the positions are
                added (BEiT, iBOT).

        Raises:
            WeightsError: a side is no multiple of the patches'.
        """
        x, grid = self._embedded(images, mask, mask_token)
        x = self._normed(self._through_blocks(self.norm_pre(x), grid))
        first = self.num_prefix_tokens
        patches = x[:, first:]
        found = Features(
            pooled=self._pooled(x, patches), cls=x[:, 0] if self.has_class_token else None, patches=patches, grid=grid
        )
        return found if tokens else found.pooled

    def class_tokens(self, images: Tensor, blocks: int) -> Tensor:
        """The class tokens of the last blocks, each after the last norm, oldest first, then the mean of the patches.

        DINOv2's and DINOv3's linear probes read them (``create_linear_input`` of ``eval/linear.py``). The patches are those of
        the last block; registers do not count.

        Shape: ``(N, 3, H, W) -> (N, (blocks + 1) * C)``.

        Raises:
            WeightsError: there is no class token, or there are fewer blocks.
        """
        if not self.has_class_token:
            return super().class_tokens(images, blocks)
        if not 1 <= blocks <= len(self.blocks):
            raise WeightsError(f"class tokens of the last {blocks} blocks: this transformer has {len(self.blocks)}")
        x, grid = self._embedded(images, None, None)
        x = self.norm_pre(x)
        places = () if self.rope is None else (self.rope(grid),)
        found: list[Tensor] = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x, *places)
            if number > len(self.blocks) - blocks:
                normed = self._normed(x)
                found.append(normed[:, 0])
        return torch.cat([*found, normed[:, self.num_prefix_tokens :].mean(dim=1)], dim=1)

    def _embedded(
        self, images: Tensor, mask: Tensor | None, mask_token: Tensor | None
    ) -> tuple[Tensor, tuple[int, int]]:
        """All tokens with their positions, and rows and columns of the patches."""
        high, wide = images.shape[-2:]
        side = self.side_multiple
        if high % side or wide % side:
            raise WeightsError(
                f"images of {high}x{wide} pixels: wanted sides that are multiples of the patches' {side}"
            )
        x = self._patches(images)
        if mask is not None:
            assert mask_token is not None
            x = torch.where(mask.view(*x.shape[:3], 1), mask_token.to(x.dtype), x)
        return self._pos_embed(x), (x.shape[1], x.shape[2])

    def _pos_embed(self, x: Tensor) -> Tensor:
        """All tokens, with positions. Shape: ``(N, h, w, C) -> (N, tokens, C)``."""
        number, high, wide, _ = x.shape
        x = x.flatten(1, 2)
        first = [part.expand(number, -1, -1) for part in (self.cls_token, self.reg_token) if part is not None]
        if self.pos_embed is None:
            return torch.cat([*first, x], dim=1)
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        table = resampled(self.pos_embed, self.patch_embed.grid_size, (high, wide), prefix, self.interpolation)
        if self.no_embed_class:
            return torch.cat([*first, x + table], dim=1)
        return torch.cat([*first, x], dim=1) + table

    def _through_blocks(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.rope is None:
            found: Tensor = self.blocks(x)
            return found
        places = self.rope(grid)
        for block in self.blocks:
            x = block(x, places)
        return x

    def _normed(self, x: Tensor) -> Tensor:
        if self.cls_norm is None:
            found: Tensor = self.norm(x)
            return found
        first = self.num_prefix_tokens
        return torch.cat([self.cls_norm(x[:, :first]), self.norm(x[:, first:])], dim=1)

    def _patches(self, images: Tensor) -> Tensor:
        """Embeddings of the patches: a matrix product, which is right and fast on a CPU too. Shape: ``-> (N, h, w, C)``."""
        convolution, side = self.patch_embed.proj, self.side_multiple
        if not isinstance(convolution, nn.Conv2d):
            found: Tensor = self.patch_embed(images)
            return found
        number, channels, high, wide = images.shape
        cut = (
            images.reshape(number, channels, high // side, side, wide // side, side)
            .permute(0, 2, 4, 1, 3, 5)
            .flatten(3)
        )
        return self.patch_embed.norm(F.linear(cut, convolution.weight.flatten(1), convolution.bias))

    def interpolated(self, shape: tuple[int, int]) -> str | None:
        """What is done to the positions for images of this height and width, in words; None: nothing, or it has no table."""
        own, side = self.positions_for, self.side_multiple
        if self.pos_embed is None or all(pixels // side == own // side for pixels in shape):
            return None
        to = str(shape[0]) if shape[0] == shape[1] else "x".join(map(str, shape))
        return f"positions made for {own} pixels are interpolated to {to} ({INTERPOLATIONS[self.interpolation]})"

    def pool(self, way: str) -> None:
        """Pool features by one of ``POOLS`` from now on. Raises WeightsError: there is no class token."""
        if way not in POOLS:
            raise WeightsError.naming("{global_pool} {}: wanted one of {}", label(way), ", ".join(POOLS))
        if way != "avg" and not self.has_class_token:
            raise WeightsError.naming("{global_pool} {}: this transformer has no class token; wanted avg", way)
        self.pooled_by = way

    def _pooled(self, x: Tensor, patches: Tensor) -> Tensor:
        found = [x[:, 0]] if "cls" in self.pooled_by else []
        if "avg" in self.pooled_by:
            found.append(patches.mean(dim=1))
        return torch.cat([self.fc_norm(part) for part in found], dim=1)


def build_vit(arch: Architecture, size: int, model: Mapping[str, Any], *, drop_path: float = 0.0) -> VisionTransformer:
    """A vision transformer as timm draws it, for images of ``size`` pixels.

    With ``position=sincos`` it is MoCo v3's (Chen et al. 2021, appendix): a fixed table of positions, and its initialisation.

    Raises:
        WeightsError: timm has no transformer of this name, or ``model`` or the size do not make one.
    """
    check_model(model)
    arguments = {**timm_arguments(arch, size, model), "drop_path_rate": drop_path}
    if (eps := model.get("norm_eps")) is not None:
        arguments["norm_layer"] = partial(LayerNorm, eps=eps)
    built = _created(arch, arguments)
    if type(built) is not theirs.VisionTransformer:
        raise WeightsError.naming(
            "{arch} {}: timm builds it as {}; wanted one of its VisionTransformer", arch.name, type(built).__name__
        )
    built.__class__ = VisionTransformer
    _add_parts(built, model)
    for side in (size, model.get("table_size", size)):
        if side % built.side_multiple:
            raise WeightsError.naming(
                "{patch_size} {}: does not divide images of {} pixels; give another, or images of another size",
                built.side_multiple,
                side,
            )
    built.pool(model.get("global_pool") or ("cls" if built.has_class_token else "avg"))
    if arch.position == "sincos":
        if built.pos_embed is None or not built.has_class_token:
            raise WeightsError.naming(
                "{arch} {}: position sincos is MoCo v3's, of a class token and a table of positions; it lacks one",
                arch.name,
            )
        if built.pos_embed.device.type != "meta":
            _begin_as_moco_v3(built)
        built.pos_embed.requires_grad_(False)
    whole: VisionTransformer = built
    return whole


def _add_parts(vit: VisionTransformer, model: Mapping[str, Any]) -> None:
    """What timm's network lacks. Raises WeightsError for a part that does not go with its shape."""
    vit.interpolation = model.get("interpolation", "antialias")
    if model.get("conv_stem"):
        if vit.embed_dim % 8 or vit.side_multiple != 16:
            raise WeightsError("conv_stem: wanted a width that is a multiple of 8, and patches of 16 pixels")
        vit.patch_embed = ConvStem(vit.patch_embed.img_size[0], vit.embed_dim)
    vit.cls_norm = LayerNorm(vit.embed_dim, eps=vit.norm.eps) if model.get("patch_norm") else None
    vit.rope = None
    if (kind := model.get("rotary")) is not None:
        channels = vit.embed_dim // vit.blocks[0].attn.num_heads
        if channels % 4:
            raise WeightsError(f"rotary: heads have {channels} channels; wanted a multiple of 4")
        vit.rope = Rotary(channels // 4, torch.bfloat16 if kind == "bfloat16" else torch.float32)
        for block in vit.blocks:
            block.__class__ = RotaryBlock


@cache
def _has_class_token(name: str) -> bool:
    """Whether timm's network of this name has one. Raises WeightsError: timm has no such network."""
    with torch.device("meta"):
        made = _created(Architecture(name=name), {"depth": 1, "num_classes": 0, "global_pool": "avg", "fc_norm": False})
    return bool(getattr(made, "has_class_token", True))


def _created(arch: Architecture, arguments: Mapping[str, Any]) -> Any:
    if not timm.is_model(arch.name):
        near = suggestion(arch.name, timm.list_models("vit_*"))
        raise WeightsError.naming("{arch} {}: timm {} has no such model{}", arch.name, timm.__version__, near)
    try:
        made = create_model(arch.name, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise WeightsError.naming("{arch} {}: timm refuses it: {}", arch.name, label(str(error))) from error
    return made


def timm_arguments(arch: Architecture, size: int, model: Mapping[str, Any]) -> dict[str, Any]:
    """What ``timm.create_model(arch.name, …)`` takes to build this network.

    JSON can hold it. It says nothing of ``norm_eps``, which timm has no word for: its own is 1e-6.
    """
    names = {"width": "embed_dim", "depth": "depth", "heads": "num_heads"}
    made: dict[str, Any] = {names[key]: value for key, value in arch.numbers.items()}
    if "width" in arch.numbers and "heads" not in arch.numbers:
        made["num_heads"] = max(1, arch.numbers["width"] // HEAD)
    made |= {"img_size": model.get("table_size", size), "num_classes": 0, "global_pool": "token"}
    made |= {"fc_norm": bool(model.get("fc_norm")), "dynamic_img_size": True}
    class_token = model.get("class_token")
    if not (_has_class_token(arch.name) if class_token is None else class_token) or model.get("global_pool") == "avg":
        made["global_pool"] = "avg"
    plain = (
        "patch_size",
        "reg_tokens",
        "pre_norm",
        "no_embed_class",
        "qkv_bias",
        "act_layer",
        "mlp_ratio",
        "class_token",
    )
    made |= {key: model[key] for key in plain if model.get(key) is not None}
    if (scaled := model.get("layer_scale")) is not None:
        made["init_values"] = 1e-5 if scaled else None
    if model.get("rotary") is not None:
        made["pos_embed"] = "none"
    return made


def timm_config(facts: EncoderFacts) -> dict[str, Any] | None:
    """What timm needs to build and fill this network: ``create_model(architecture, **model_args)``, and its images.

    None: it has a part that timm's network cannot have.
    """
    if any(facts.model.get(part) for part in _NOT_TIMMS):
        return None
    arch = architecture(facts.arch)
    images = {
        "input_size": [3, facts.size, facts.size],
        "mean": list(facts.mean),
        "std": list(facts.std),
        "num_classes": 0,
    }
    arguments = timm_arguments(arch, facts.size, facts.model)
    return {"architecture": arch.name, "model_args": arguments, "pretrained_cfg": images}


def check_model(model: Mapping[str, Any]) -> None:
    """Raises WeightsError unless all that ``model`` says is known and in bounds."""
    for key, value in model.items():
        name = label(key)
        if key in _NAMES:
            if value not in _NAMES[key]:
                raise WeightsError.naming(f"{{{key}}} {{}}: wanted {{}}", label(str(value)), " or ".join(_NAMES[key]))
        elif key in _SWITCHES:
            if not isinstance(value, bool):
                raise WeightsError(f"{name} {label(str(value))}: wanted true or false")
        elif key in _KINDS:
            kind, least, most = _KINDS[key]
            if isinstance(value, bool) or not isinstance(value, (int, kind)) or not least <= float(value) <= most:
                raise WeightsError.naming(f"{{{key}}} {{}}: wanted {{}} to {{}}", label(str(value)), least, most)
        else:
            raise WeightsError(
                f"{name}: no part of a vision transformer{suggestion(key, (*_NAMES, *_SWITCHES, *_KINDS))}"
            )


@torch.no_grad()
def _begin_as_moco_v3(vit: VisionTransformer) -> None:
    """MoCo v3's fixed positions and initial weights, from torch's generator (``vits.py`` of its authors' code)."""
    vit.init_weights("moco")
    side = vit.side_multiple
    bound = math.sqrt(6 / (3 * side * side + vit.embed_dim))
    nn.init.uniform_(vit.patch_embed.proj.weight, -bound, bound)
    if vit.patch_embed.proj.bias is not None:
        nn.init.zeros_(vit.patch_embed.proj.bias)
    nn.init.normal_(vit.cls_token, std=1e-6)
    table = sincos(vit.patch_embed.grid_size, vit.embed_dim)
    vit.pos_embed.zero_()
    vit.pos_embed[0, -len(table) :] = table

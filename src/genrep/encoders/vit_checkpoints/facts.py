"""From a network's shapes, and what is told beside them, to the facts that it is built from.

Width, depth, patches and the grid of positions come from shapes. Heads, activation, epsilon and the way of interpolation
leave no trace in them: they are told by a configuration, or are the family's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.pixel_views import IMAGENET_MEAN
from genrep.untrusted import label

from .. import PATCH, EncoderFacts
from ..architectures import ACTIVATIONS
from ..vision_transformer import HEAD
from .families import FAMILIES, Family
from .named import NamedNetwork, named_network
from .shapes import Shapes, hidden_ratio, is_gated, shapes_in
from .told import Told

_USUAL = 224  # pixels of a side, where a file tells none
_NETWORKS = {  # of timm, by width, depth and heads: the names that networks are told by
    (192, 12, 3): "vit_tiny_patch16_224",
    (384, 12, 6): "vit_small_patch16_224",
    (768, 12, 12): "vit_base_patch16_224",
    (1024, 24, 16): "vit_large_patch16_224",
    (1280, 32, 16): "vit_huge_patch14_224",
}
_CLIPS = {(768, 12, 12): "vit_base_patch16_clip_224", (1024, 24, 16): "vit_large_patch14_clip_224"}
_GATED = {(1536, 40, 24): "vit_giant_patch14_dinov2"}
_PLAIN: dict[str, Any] = {  # what the first of these have without a word
    **{"reg_tokens": 0, "layer_scale": False, "pre_norm": False, "qkv_bias": True, "class_token": True},
    **{"no_embed_class": False, "fc_norm": False, "mlp_ratio": 4.0, "norm_eps": 1e-6, "act_layer": "gelu"},
}
_PLAIN_CLIP = {**_PLAIN, "pre_norm": True, "norm_eps": 1e-5}
_ABSENT = {"conv_stem": False, "patch_norm": False, "rotary": None, "interpolation": None, "table_size": None}
_ARGUMENTS = {  # of timm's networks: those that shapes tell, those that are read, and those that change no features
    *("img_size", "patch_size", "in_chans", "num_classes", "global_pool", "embed_dim", "depth", "num_heads"),
    *("mlp_ratio", "qkv_bias", "init_values", "class_token", "no_embed_class", "reg_tokens", "pre_norm", "fc_norm"),
    *("act_layer", "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "weight_init", "fix_init", "drop_rate"),
    *("pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
}
_ACTS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quickgelu": "quick_gelu", "swish": "silu"}


@dataclass(frozen=True, kw_only=True)
class Described:
    """The facts of a network, its tensors as those facts have them, and what was assumed."""

    facts: EncoderFacts
    state: dict[str, Tensor]
    notes: tuple[str, ...]


def described(
    state: Mapping[str, Tensor], kind: str, told: Told, *, heads: int | None, act_layer: str | None
) -> Described:
    """The facts of a network, from its shapes, its family and what is told.

    Args:
        state: the network under timm's names.
        kind: its family, one of ``FAMILIES``.
        heads, act_layer: the user's, in place of the file's.

    Raises:
        WeightsError: it is no vision transformer of ours, what is told does not fit it, or its heads are not told at all.
    """
    return _Reading(dict(state), kind, told).facts(heads, act_layer)


@dataclass
class _Reading:
    state: dict[str, Tensor]
    kind: str
    told: Told
    notes: list[str] = field(default_factory=list)
    family: Family = field(init=False)
    named: NamedNetwork | None = field(init=False)
    shapes: Shapes = field(init=False)

    def __post_init__(self) -> None:
        self.family, self.named = FAMILIES[self.kind], None
        apart: bool | None = False
        if self.kind == "timm":
            self._check_arguments()
            self.named = named_network(self.told.name("architecture") or self.told.arch or "")
            apart = self._arguments("no_embed_class", bool)
        registers_have_none = self.kind in ("dinov2_reg", "transformers")
        self.shapes = shapes_in(self.state, self.told.where, positions=1 if registers_have_none else None, apart=apart)
        self._check_numbers()
        if registers_have_none and self.shapes.registers:
            self._fold_position()

    def facts(self, heads: int | None, act_layer: str | None) -> Described:
        """See ``described``."""
        shapes, family, named = self.shapes, self.family, self.named
        number = self._heads(heads)
        if self.kind == "dinov3" and self.told.by_transformers:
            self._add_periods(shapes.width // number)
        act, eps = act_layer or self._activation(), self._epsilon()
        model = self._model()
        if named is None or act != named.act_layer:
            model["act_layer"] = act
        if named is None:  # else its name says so, and of which kind its norms are
            model["norm_eps"] = eps
        if self.kind == "openai":
            self.state = {name: _rounded(name, tensor) for name, tensor in self.state.items()}
        if "patch_embed.proj.bias" not in self.state and not model["pre_norm"] and not shapes.conv_stem:
            self.state["patch_embed.proj.bias"] = torch.zeros(shapes.width)
        size, model["table_size"] = self._sizes()
        mean, std = self._normalisation()
        title = f"a vision transformer of {family.title}: width {shapes.width}, depth {shapes.depth}, {number} heads"
        self.notes.insert(0, f"{title}, patches of {shapes.patch} pixels, epsilon {eps:g}, {act}")
        arch, usual = self._arch(number)
        model = {key: value for key, value in model.items() if key not in usual or value != usual[key]}
        facts = EncoderFacts(arch=arch, stem=PATCH, size=size, mean=mean, std=std, model=model)
        return Described(facts=facts, state=self.state, notes=tuple(self.notes))

    def _check_arguments(self) -> None:
        for key, value in self.told.part("model_args").items():
            if key not in _ARGUMENTS:
                raise self.told.fault(f"model_args {label(key)}", value, "arguments of a plain vision transformer only")

    def _check_numbers(self) -> None:
        """Raise WeightsError unless the numbers told are those of the tensors: a configuration may be of another file."""
        told, shapes = self.told, self.shapes
        found = {"width": shapes.width, "depth": shapes.depth, "patch": shapes.patch}
        within, names = told.config, {"width": "hidden_size", "depth": "num_hidden_layers", "patch": "patch_size"}
        if told.layout == "timm":
            within, names = told.part("model_args"), {"width": "embed_dim", "depth": "depth"}
        elif told.layout == "clip":
            within, names = told.part("vision_cfg", told.part("model_cfg")), {"width": "width", "patch": "patch_size"}
        for what, name in names.items():
            if (said := told.whole(name, within=within)) not in (None, found[what]):
                raise told.fault(name, said, f"{found[what]}, as the tensors of {told.where} have it")

    def _arguments(self, key: str, kind: type) -> Any:
        """An argument of timm's configuration. Raises WeightsError: it is not of this type."""
        found = self.told.part("model_args").get(key)
        if found is not None and not isinstance(found, kind):
            raise self.told.fault(key, found, "true or false")
        return found

    def _fold_position(self) -> None:
        """Registers get no position: the class token's is added to it, and the table keeps the patches', as timm has it."""
        if {"pos_embed", "cls_token"} <= self.state.keys():
            table = self.state["pos_embed"].float()
            self.state["cls_token"] = self.state["cls_token"].float() + table[:, :1]
            self.state["pos_embed"] = table[:, 1:]
            self.shapes = replace(self.shapes, no_embed_class=True)

    def _add_periods(self, channels: int) -> None:
        """Rotary periods, which transformers computes from its configuration instead of storing them."""
        base = self.told.number("rope_theta", most=1e6)
        if base == 0:
            raise self.told.fault("rope_theta", base, "a number above 0")
        steps = torch.arange(channels // 4) / (channels // 4)
        self.state["rope.periods"] = (100.0 if base is None else base) ** steps

    def _heads(self, asked: int | None) -> int:
        """The number of heads: the user's, the configuration's, the named network's, or the family's usual one."""
        width = self.shapes.width
        found = self._told_heads() if asked is None else asked
        if found is None:
            found = self.family.heads.get(width, width // HEAD if width % HEAD == 0 else 0)
            if not found:
                raise WeightsError.naming(
                    "{}: the number of heads is not in the file, and its width {} is no multiple of {}; give {heads}",
                    self.told.where,
                    width,
                    HEAD,
                )
            if self.kind != "openai":  # whose networks all have heads of 64 channels
                self.notes.append(f"heads: not in the file; assuming {found}, of {width // found} channels")
        if found < 1 or width % found:
            raise WeightsError.naming("{}: {heads} {}: wanted a divisor of its width {}", self.told.where, found, width)
        return found

    def _told_heads(self) -> int | None:
        told, width = self.told, self.shapes.width
        found = None
        if told.by_transformers:
            found = told.whole("num_attention_heads")
        elif told.layout == "clip" and told.config:
            found = width // (told.whole("head_width", within=told.part("vision_cfg", told.part("model_cfg"))) or HEAD)
        elif told.config:
            found = told.whole("num_heads", within=told.part("model_args"))
        if found is None and self.named is not None and self.named.width == width:
            found = self.named.heads
        if found is None and (periods := self.state.get("rope.periods")) is not None and periods.numel():
            found = width // (4 * periods.numel())
        return found

    def _model(self) -> dict[str, Any]:
        """What the network is built from beside its name, but for norms and activation."""
        state, shapes = self.state, self.shapes
        pools_first = "fc_norm.weight" in state and "norm.weight" not in state
        interpolation = self.family.interpolation
        if self.kind == "transformers" and shapes.registers:
            interpolation = "antialias"
        return {
            "patch_size": shapes.patch,
            "reg_tokens": shapes.registers,
            "layer_scale": "blocks.0.ls1.gamma" in state,
            "pre_norm": "norm_pre.weight" in state,
            "qkv_bias": "blocks.0.attn.qkv.bias" in state,
            "class_token": "cls_token" in state,
            "no_embed_class": shapes.no_embed_class,
            "fc_norm": pools_first,
            "conv_stem": shapes.conv_stem,
            "patch_norm": "cls_norm.weight" in state,
            "mlp_ratio": hidden_ratio(state, shapes.width),
            "interpolation": None if shapes.grid is None else interpolation,
            "rotary": self._rotary(),
            "global_pool": "avg" if pools_first or "cls_token" not in state else self._pool(),
        }

    def _pool(self) -> str:
        told, named = self.told, self.named
        if self.kind != "timm":
            return "cls"
        found = told.name("global_pool", told.part("model_args")) or told.name("global_pool")
        if found is None and named is not None:
            return named.pooled_by
        if found not in (None, "token", "avg", ""):
            raise told.fault("global_pool", found, "token or avg")
        return "avg" if found == "avg" else "cls"

    def _epsilon(self) -> float:
        state = self.state
        if self.told.by_transformers:
            found = self.told.number("layer_norm_eps")
            scaled = self.kind == "transformers" and "blocks.0.ls1.gamma" in state
            usual = FAMILIES["dinov2"] if scaled else self.family
            return usual.norm_eps if found is None else found
        if self.named is not None:
            return self.named.norm_eps
        if self.kind == "timm" and "norm_pre.weight" in state:
            return FAMILIES["openclip"].norm_eps
        if self._rotary() == "bfloat16":  # of a training, whose norms are plain ones
            return FAMILIES["dino"].norm_eps
        return self.family.norm_eps

    def _activation(self) -> str:
        told, usual = self.told, self.family.act_layer if self.named is None else self.named.act_layer
        if is_gated(self.state):
            return "silu"
        if told.layout == "clip" or (self.kind == "transformers_clip" and not told.config):
            return self._clips_activation()
        within = told.part("model_args") if told.layout == "timm" else told.config
        key = "act_layer" if told.layout == "timm" else "hidden_act"
        found = told.name(key, within)
        if found is None:
            return usual
        if (known := _ACTS.get(found, found)) not in ACTIVATIONS:
            raise told.fault(key, found, f"one of {', '.join(ACTIVATIONS)}")
        return known

    def _clips_activation(self) -> str:
        act = self.family.act_layer
        if not self.told.config:
            other = "quick_gelu" if act == "gelu" else "gelu"
            self.notes.append(f"act_layer: not in the file; assuming {act}, as {self.family.title} has it, not {other}")
            return act
        quick = self.told.part("model_cfg").get("quick_gelu", False)
        if not isinstance(quick, bool):
            raise self.told.fault("quick_gelu", quick, "true or false")
        return "quick_gelu" if quick else "gelu"

    def _rotary(self) -> str | None:
        periods = self.state.get("rope.periods")
        if periods is None:
            return None
        return "bfloat16" if periods.dtype == torch.bfloat16 else "float32"

    def _sizes(self) -> tuple[int, int | None]:
        """Side of the images; and of those that the table of positions was made for, if that is another."""
        shapes = self.shapes
        usual = max(_USUAL // shapes.patch, 1) * shapes.patch
        if shapes.grid is None:
            self.notes.append(f"size: not in the file; assuming {usual} pixels")
            return usual, None
        table = shapes.grid * shapes.patch
        if self.kind in ("dinov2", "dinov2_reg") and table == 518:
            self.notes.append(f"size: not in the file; assuming {usual} pixels, at which its authors evaluate")
            return usual, table
        return table, None

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        told, named, family = self.told, self.named, self.family
        found: dict[str, tuple[float, ...] | None] = {}
        for name in ("mean", "std"):
            value = None
            if told.by_transformers:
                value = told.channels(f"image_{name}", told.preprocessor)
                value = getattr(family, name) if value is None and self.kind == "transformers_clip" else value
            elif told.layout == "clip":
                value = told.channels(name, told.part("preprocess_cfg")) or getattr(family, name)
            elif self.kind == "timm":
                value = told.channels(name, told.part("pretrained_cfg")) or told.channels(name, told.args)
                value = value or (None if named is None else getattr(named, name))
            found[name] = value
        if missing := [name for name, value in found.items() if value is None]:
            whose = "ImageNet's" if family.mean == IMAGENET_MEAN else "0.5"
            self.notes.append(f"{', '.join(missing)}: not in the file; assuming {whose}")
        return found["mean"] or family.mean, found["std"] or family.std

    def _arch(self, heads: int) -> tuple[str, Mapping[str, Any]]:
        """timm's name of the network, or of one of its kind with the numbers that differ; and what that has without a word."""
        mine = (self.shapes.width, self.shapes.depth, heads)
        usual: dict[str, Any] = dict(_ABSENT)
        if self.named is not None:
            name, numbers = self.named.name, (self.named.width, self.named.depth, self.named.heads)
        else:
            known = _GATED if is_gated(self.state) else _CLIPS if "norm_pre.weight" in self.state else _NETWORKS
            numbers = min(known, key=lambda one: (one != mine, one[:2] != mine[:2], abs(one[0] - mine[0])))
            name = known[numbers]
            usual |= _PLAIN if known is _NETWORKS else _PLAIN_CLIP if known is _CLIPS else {}
        keys = ("width", "depth", "heads")
        differ = [key for key, one, other in zip(keys, mine, numbers) if one != other]
        if "width" in differ and "heads" not in differ:
            differ.append("heads")  # else they would follow from the width
        given = ",".join(f"{key}={mine[keys.index(key)]}" for key in differ)
        return (f"{name}:{given}" if given else name), usual


_HALF = re.compile(r"patch_embed\.proj\.|blocks\.\d+\.(?:attn|mlp)\.")


def _rounded(name: str, tensor: Tensor) -> Tensor:
    """OpenAI's loader rounds these to half precision, whatever the file holds."""
    return tensor.half().float() if _HALF.match(name) else tensor

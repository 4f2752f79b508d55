"""The names of architectures, ``NAME`` or ``NAME:key=value,…``: what is trained, kept in files and told in results.

    resnet18 … resnet152           torchvision's; width: channels of the first stage (64), which the others are multiples of
    vit_tiny_patch16_224, …        timm's vision transformers; width, depth, heads, and position (learned or sincos)

This module is light: it knows no network. ``building.build_encoder`` builds what is named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from genrep.errors import WeightsError, suggestion
from genrep.untrusted import label

RESNETS = {  # channels of the features per channel of the first stage
    **{"resnet18": 8, "resnet34": 8},
    **{"resnet50": 32, "resnet101": 32, "resnet152": 32},
}
STEMS = ("imagenet", "cifar")
PATCH = "patch"  # the stem of a vision transformer, in facts
POOLS = ("cls", "avg", "cls+avg")
POSITIONS = ("learned", "sincos")
ACTIVATIONS = ("gelu", "quick_gelu", "gelu_tanh", "silu")
SHOWN = (*RESNETS, "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224")
WAYS = f"{', '.join(RESNETS)}, or a vision transformer of timm such as vit_small_patch16_224"
# The largest that a name may ask for: names come in files of strangers.
_MOST = {"width": 8192, "depth": 128, "heads": 256}
_KEYS = {"resnet": ("width",), "vit": ("width", "depth", "heads", "position")}
_VIT = re.compile(r"(?:vit|deit|deit3|beit3|flexivit|eva|aimv2)_\w+(?:\.\w+)?")
_LONGEST = 200  # characters


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A name, taken apart."""

    name: str  # torchvision's or timm's
    numbers: dict[str, int] = field(default_factory=dict)  # those given of width, depth and heads
    position: str = "learned"

    @property
    def is_vit(self) -> bool:
        """Whether it is a vision transformer."""
        return self.name not in RESNETS


@cache
def architecture(text: str) -> Architecture:
    """Take a name apart. Whether timm has a transformer of this name is found when it is built.

    Raises:
        WeightsError: no architecture is called so, or it has no such key or value.

    >>> architecture("vit_tiny_patch16_224:depth=6").numbers
    {'depth': 6}
    """
    name, colon, rest = text.partition(":")
    if len(text) > _LONGEST or not (name in RESNETS or _VIT.fullmatch(name)):
        raise WeightsError.naming("{arch} {!r}: wanted one of {}{}", text[:80], WAYS, suggestion(name, SHOWN))
    keys = _KEYS["resnet" if name in RESNETS else "vit"]
    found: dict[str, str] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = part.partition("=")
        if not equals or key not in keys or key in found:
            raise WeightsError.naming(
                "{arch} {}: {} after {}; wanted {}", label(text), label(part) or "nothing", name, _keys(keys)
            )
        found[key] = value
    position = found.pop("position", "learned")
    if position not in POSITIONS:
        raise WeightsError.naming(
            "{arch} {}: position {}; wanted {}", label(text), label(position), " or ".join(POSITIONS)
        )
    return Architecture(name=name, numbers={key: _number(text, key, found[key]) for key in found}, position=position)


def resnet(text: str) -> Architecture:
    """As ``architecture``, of ResNets alone. Raises WeightsError."""
    found = architecture(text)
    if found.is_vit:
        raise WeightsError.naming("{arch} {}: is a vision transformer; wanted one of {}", text, ", ".join(RESNETS))
    return found


def in_words(facts: Mapping[str, Any]) -> str:
    """An encoder as a table says it, from facts of an entry of results or of a run's settings, which may be anyone's.

    >>> in_words({"arch": "resnet18", "stem": "cifar"})
    'resnet18, cifar stem'
    >>> in_words({"arch": "vit_tiny_patch16_224", "stem": "patch", "model": {"patch_size": 8, "global_pool": "cls"}})
    'vit_tiny_patch16_224, patch 8, cls'
    """
    arch, stem = facts.get("arch", "?"), facts.get("stem", "?")
    model = facts.get("model", facts)
    if not isinstance(model, Mapping) or not (stem == PATCH or _VIT.match(str(arch))):
        return f"{arch}, {stem} stem"
    side, pool = model.get("patch_size"), model.get("global_pool")
    told = [f"patch {side}"] if isinstance(side, int) else []
    return ", ".join([str(arch), *told, *([pool] if pool in POOLS else [])])


def _keys(keys: Iterable[str]) -> str:
    return ", ".join("position=learned or sincos" if key == "position" else f"{key}=NUMBER" for key in keys)


def _number(text: str, key: str, value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", value) or int(value) > _MOST[key]:
        raise WeightsError.naming(
            "{arch} {}: {} {}; wanted a whole number from 1 to {}",
            label(text),
            key,
            label(value) or "empty",
            _MOST[key],
        )
    return int(value)

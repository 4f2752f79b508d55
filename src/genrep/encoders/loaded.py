"""An encoder that is ready for use, and what is known about its origin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genrep.errors import WeightsError
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD
from genrep.untrusted import shown

from . import PATCH, STEMS, EncoderFacts, architecture
from .building import build_encoder
from .networks import Encoder

OWN = "own"  # the stem of anyone's own network
MAX_SIZE = 4096  # pixels of a side, which a file's word may ask for
_SIZES = {"cifar": 32}  # of encoders whose file does not say it; 224 for all others


@dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """An encoder in evaluation mode, and where it came from."""

    module: nn.Module  # (N, 3, H, W) -> (N, D)
    facts: EncoderFacts
    path: Path  # the file; "package.module:factory" or "random-init" where there is none
    sha256: str  # of the file; of names and values of the tensors where there is none
    trained: bool = True  # False: random-initialised here
    left_out: tuple[str, ...] = ()  # what else the file holds, e.g. "optimizer (322 tensors)"
    notes: tuple[str, ...] = ()  # what the file did not say and was assumed, and what was chosen among several


def random_encoder(
    arch: str,
    stem: str,
    seed: int,
    *,
    model: Mapping[str, Any] | None = None,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> LoadedEncoder:
    """An untrained encoder: ``build_encoder`` with this seed. Raises WeightsError for an unknown arch or stem."""
    facts = with_overrides(default_facts(arch, stem, model), size=size, mean=mean, std=std)
    module = built(facts, seed).eval()
    # Tensors do not show how a transformer pools, nor how many heads it has.
    named = (facts.arch, module.pooled_by) if facts.stem == PATCH else ()
    digest = state_sha256(module, *named)
    return LoadedEncoder(module=module, facts=facts, path=Path("random-init"), sha256=digest, trained=False)


def built(facts: EncoderFacts, seed: int = 0) -> Encoder:
    """``build_encoder`` for these facts."""
    return build_encoder(facts.arch, facts.stem, seed, size=facts.size, model=facts.model)


def default_facts(arch: str, stem: str, model: Mapping[str, Any] | None = None) -> EncoderFacts:
    """For an encoder whose file says nothing: ImageNet's statistics, 224 pixels (32 with the stem for small images)."""
    size, model = _SIZES.get(stem, 224), model or {}
    if stem != OWN and architecture(arch).is_vit:
        stem = PATCH
    return EncoderFacts(arch=arch, stem=stem, size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD, model=model)


def with_overrides(
    facts: EncoderFacts, *, size: int | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> EncoderFacts:
    """The facts, with the caller's values instead of the file's. Raises WeightsError for impossible values."""
    facts = replace(facts, size=facts.size if size is None else size, mean=mean or facts.mean, std=std or facts.std)
    _check_images(facts, "")
    return facts


def check_facts(facts: EncoderFacts, where: str) -> None:
    """Raise WeightsError unless these are facts of one of our networks, with sizes and statistics that images can have."""
    try:
        stems = (PATCH,) if architecture(facts.arch).is_vit else STEMS
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from None
    if facts.stem not in stems:
        raise WeightsError(f"{where}: stem {shown(facts.stem)}: wanted one of {', '.join(stems)}")
    _check_images(facts, f"{where}: ")


def _check_images(facts: EncoderFacts, where: str) -> None:
    if not 1 <= facts.size <= MAX_SIZE:
        raise WeightsError(f"{where}size {shown(facts.size)}: wanted at least 1 pixel and at most {MAX_SIZE}")
    for name, values in (("mean", facts.mean), ("std", facts.std)):
        if len(values) != 3 or not all(abs(value) < float("inf") for value in values):
            raise WeightsError(f"{where}{name} {shown(values)}: wanted three numbers")
    if min(facts.std) <= 0:
        raise WeightsError(f"{where}std {shown(facts.std)}: wanted three numbers above 0")


def state_sha256(module: nn.Module, *names: str) -> str:
    """A digest of the names and values of a module's tensors."""
    digest = hashlib.sha256("".join(names).encode())
    for name, tensor in module.state_dict().items():
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()

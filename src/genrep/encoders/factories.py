"""Anyone's own encoder, ``package.module:factory``: found, called, and looked at before a number is measured with it.

def bigbigan_encoder() -> nn.Module:   # (N, 3, H, W) -> (N, D)
    module = …
    module.size, module.mean, module.std = 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)   # images in [-1, 1]
    return module                      # or: return module, {"size": 256, "mean": …, "std": …}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrep.errors import GenRepError, WeightsError
from genrep.imports import find_factory

from . import EncoderFacts
from .loaded import LoadedEncoder, default_facts, state_sha256, with_overrides
from .networks import guard_convolutions

_FACTS = ("size", "mean", "std")


def open_factory(
    name: str, *, size: int | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> LoadedEncoder:
    """Import ``package.module:factory``, call it, and test its result on two images.

    Raises:
        WeightsError: the factory cannot be imported or raised, or its module does not map (N, 3, H, W) to finite (N, D).
    """
    factory = find_factory(name, "encoder", "a module", WeightsError)
    try:
        made = factory()
    except GenRepError:
        raise
    except Exception as error:  # whatever a stranger's factory raises is theirs to mend, in one line
        raise WeightsError.naming(
            "{encoder} {}: the factory raised {}: {}", name, type(error).__name__, error
        ) from error
    module, told = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module) or not isinstance(told, Mapping):
        raise WeightsError.naming(
            "{encoder} {}: the factory returned a {}; wanted a torch.nn.Module, or it and a "
            "dictionary of size, mean and std",
            name,
            type(made).__name__,
        )
    facts, assumed = _facts(name, module, told)
    facts = with_overrides(facts, size=size, mean=mean, std=std)
    assumed = [fact for fact in assumed if {"size": size, "mean": mean, "std": std}[fact] is None]
    guard_convolutions(module).eval()
    _try(name, module, facts.size)
    said = (
        (f"{', '.join(assumed)}: not given by the factory; assuming {facts.size} pixels and ImageNet's",)
        if assumed
        else ()
    )
    return LoadedEncoder(module=module, facts=facts, path=Path(name), sha256=state_sha256(module, name), notes=said)


def _facts(name: str, module: nn.Module, told: Mapping[str, Any]) -> tuple[EncoderFacts, list[str]]:
    """The facts from the dictionary, else from the module's attributes; and the names of those found in neither."""
    if unknown := sorted(map(str, told.keys() - set(_FACTS))):
        raise WeightsError.naming(
            "{encoder} {}: its dictionary holds {}; wanted {}", name, ", ".join(unknown), ", ".join(_FACTS)
        )
    facts = default_facts(name, "own")
    assumed = []
    for fact in _FACTS:
        value = told.get(fact, getattr(module, fact, None))
        if value is None or callable(value):
            assumed.append(fact)
            continue
        try:
            kept: Any = int(value) if fact == "size" else tuple(torch.as_tensor(value).double().flatten().tolist())
        except (TypeError, ValueError, RuntimeError):
            wanted = "pixels" if fact == "size" else "three numbers"
            raise WeightsError.naming("{encoder} {}: its {} is {!r}; wanted {}", name, fact, value, wanted) from None
        facts = replace(facts, **{fact: kept})
    return facts, assumed


def _try(name: str, module: nn.Module, size: int) -> None:
    """Raise WeightsError unless two images of this size become two finite vectors."""
    first = next(module.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            features = module(torch.zeros(2, 3, size, size, device=first.device))
    except Exception as error:  # a stranger's forward may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError.naming(
            "{encoder} {}: its module raised {} at images (2, 3, {}, {})", name, reason, size, size
        ) from error
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise WeightsError.naming(
            "{encoder} {}: two images of {} pixels gave {}; wanted features (2, D)", name, size, got
        )
    if not features.is_floating_point() or not bool(features.isfinite().all()):
        raise WeightsError.naming(
            "{encoder} {}: its features are {}, not finite; wanted finite floats", name, features.dtype
        )

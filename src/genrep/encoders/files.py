"""``encoder.safetensors``: every key of torchvision's state dict but ``fc``, batch-norm buffers included, no prefix.

Its metadata say ``arch``, ``stem``, ``size`` (pixels trained at), ``mean`` and ``std`` (JSON lists).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from genrep.errors import WeightsError
from genrep.files import write_atomic

from . import ENCODER_FILE, EncoderFacts
from .networks import build_encoder


@dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """An encoder in evaluation mode, and where it came from."""

    module: nn.Module
    facts: EncoderFacts
    path: Path
    sha256: str  # of the file


def save_encoder(path: Path, encoder: nn.Module, facts: EncoderFacts) -> None:
    """Write an encoder, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    metadata = {
        "format": "pt",
        "arch": facts.arch,
        "stem": facts.stem,
        "size": str(facts.size),
        "mean": json.dumps(list(facts.mean)),
        "std": json.dumps(list(facts.std)),
    }
    write_atomic(path, save(state, metadata=metadata))


def load_encoder(path: Path) -> LoadedEncoder:
    """Read an encoder from its file or from the run folder that holds it.

    Raises:
        WeightsError: there is none, or it is not complete: nothing is ever left at its random initialisation.
    """
    if path.is_dir():
        path = path / ENCODER_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: no such encoder; a finished run of genrep-train writes one")
    data = path.read_bytes()
    try:
        state = load(data)
        facts = _facts(data)
    except KeyError as error:
        raise WeightsError(f"{path}: its metadata lack {error}; wanted an encoder that genrep-train wrote") from error
    except (SafetensorError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not an encoder's safetensors ({error})") from error
    with torch.device("meta"):  # names and shapes only: no initialisation to throw away, and none that could stay
        module = build_encoder(facts.arch, facts.stem, seed=0)
    misfits = _misfits(state, module.state_dict())
    if misfits:
        raise WeightsError(f"{path}: {len(misfits)} tensors do not fit {facts.arch}, e.g. {misfits[0]}")
    module.load_state_dict(state, assign=True)
    return LoadedEncoder(module=module.eval(), facts=facts, path=path, sha256=hashlib.sha256(data).hexdigest())


def _facts(data: bytes) -> EncoderFacts:
    """The metadata: a safetensors file begins with the length of a JSON header, 8 bytes, then the header."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__", {})
    return EncoderFacts(
        arch=metadata["arch"],
        stem=metadata["stem"],
        size=int(metadata["size"]),
        mean=_three(metadata["mean"]),
        std=_three(metadata["std"]),
    )


def _three(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in json.loads(text))
    return red, green, blue


def _misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    missing = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    unknown = [f"{name} is unknown" for name in state.keys() - wanted.keys()]
    shapes = [
        f"{name} has shape {tuple(state[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in state.keys() & wanted.keys()
        if state[name].shape != wanted[name].shape
    ]
    return sorted(missing) + sorted(unknown) + sorted(shapes)

"""``encoder.safetensors``: every key of torchvision's state dict but ``fc``, batch-norm buffers included, no prefix.

Its metadata say ``arch``, ``stem``, ``size`` (pixels trained at), ``mean`` and ``std`` (JSON lists). Others' checkpoints are
read too, and no code of theirs is run: safetensors by that library, pickles by ``genrep.unpickle``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from genrep.errors import WeightsError
from genrep.files import sha256_file, user_path, write_atomic

from . import ENCODER_FILE, EncoderFacts
from .layouts import check_fit, find_resnet, misfits_of, plain, resnet_shapes
from .loaded import LoadedEncoder, default_facts, with_overrides
from .networks import build_encoder

__all__ = ["LoadedEncoder", "load_encoder", "save_encoder"]

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


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


def load_encoder(
    source: str | Path,
    *,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> LoadedEncoder:
    """Read an encoder: ours, anyone's ResNet, or anyone's own.

    Args:
        source: a run's folder; its ``encoder.safetensors``; a checkpoint (``.pth``, ``.pt``, ``.tar``, ``.ckpt``,
            ``.safetensors``) that holds a ResNet in one of the layouts of ``layouts.py``; or ``package.module:factory``
            (``factories.py``), the only one of these that runs code.
        size, mean, std: of the images, instead of what the file says, or of 224 and ImageNet's where it says nothing.

    Raises:
        WeightsError: there is none, it is not finite, or not complete: nothing is ever left at its random initialisation.
    """
    path = user_path(source)
    if not path.exists() and _FACTORY.fullmatch(str(source)):
        from .factories import open_factory

        return open_factory(str(source), size=size, mean=mean, std=std)
    if path.is_dir():
        path = path / ENCODER_FILE
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such encoder; wanted the folder of a finished run of genrep-train, a checkpoint, "
            "or package.module:factory"
        )
    if _is_safetensors(path):
        return _load_safetensors(path, size=size, mean=mean, std=std)
    from genrep.unpickle import read_file

    return _foreign(path, read_file(path), sha256_file(path), size=size, mean=mean, std=std)


def _is_safetensors(path: Path) -> bool:
    """By name or by content: 8 bytes of length, then a JSON header."""
    with open(path, "rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or (start[8:] == b"{" and start[:4] != b"PK\x03\x04")


def _load_safetensors(path: Path, **overrides: Any) -> LoadedEncoder:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    try:
        state = load(data)
        metadata = _metadata(data)
    except (SafetensorError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not an encoder's safetensors ({error})") from error
    if metadata.keys().isdisjoint({"arch", "stem"}):
        return _foreign(path, state, digest, **overrides)
    try:
        facts = _facts(metadata)
    except KeyError as error:
        raise WeightsError(f"{path}: its metadata lack {error}; wanted an encoder that genrep-train wrote") from error
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not an encoder's safetensors ({error})") from error
    wanted = resnet_shapes(facts.arch, facts.stem)
    check_fit(misfits_of(state, wanted), facts.arch, str(path))
    state = plain(state, wanted, str(path))
    facts = with_overrides(facts, **overrides)
    return LoadedEncoder(module=_filled(facts, state), facts=facts, path=path, sha256=digest)


def _foreign(path: Path, content: object, digest: str, **overrides: Any) -> LoadedEncoder:
    found = find_resnet(content, str(path))
    facts = with_overrides(default_facts(found.arch, found.stem), **overrides)
    assumed = [name for name, value in overrides.items() if value is None]
    said = [f"{', '.join(assumed)}: not in the file, so {facts.size} pixels and ImageNet's"] if assumed else []
    return LoadedEncoder(
        module=_filled(facts, found.state),
        facts=facts,
        path=path,
        sha256=digest,
        left_out=found.left_out,
        notes=(f"{found.arch} with the {found.stem} stem", *found.notes, *said),
    )


def _filled(facts: EncoderFacts, state: Mapping[str, Tensor]) -> nn.Module:
    with torch.device("meta"):  # names and shapes only: no initialisation to throw away, and none that could stay
        module = build_encoder(facts.arch, facts.stem, seed=0)
    module.load_state_dict(state, assign=True)
    return module.eval()


def _metadata(data: bytes) -> dict[str, str]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__") or {}
    return metadata


def _facts(metadata: Mapping[str, str]) -> EncoderFacts:
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

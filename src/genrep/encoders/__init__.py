"""Encoders: torchvision's ResNets without their classifier, the projector on top, and the file that an encoder is kept in.

    networks.py   build_encoder, Projector
    files.py      save_encoder, load_encoder
    devices.py    where networks run, and in which precision

This module itself is light: it holds the names. ``load_encoder``, ``save_encoder`` and ``build_encoder`` are found here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .files import LoadedEncoder, load_encoder, save_encoder
    from .networks import Projector, build_encoder

__all__ = [
    "ARCHS",
    "DEVICES",
    "EMBEDDING_DIM",
    "ENCODER_FILE",
    "PRECISIONS",
    "STEMS",
    "EncoderFacts",
    "LoadedEncoder",
    "Projector",
    "build_encoder",
    "load_encoder",
    "save_encoder",
]

ENCODER_FILE = "encoder.safetensors"
ARCHS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
}  # length of the features
STEMS = ("imagenet", "cifar")
EMBEDDING_DIM = 128  # of the projector's output (GenRep, COP-Gen)
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")

_LAZY = {
    "LoadedEncoder": "files",
    "load_encoder": "files",
    "save_encoder": "files",
    "Projector": "networks",
    "build_encoder": "networks",
}


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """What one must know to build an encoder and to feed it."""

    arch: str
    stem: str
    size: int  # side in pixels of the images that it was trained on
    mean: tuple[float, ...]  # of the channels, in [0, 1]
    std: tuple[float, ...]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

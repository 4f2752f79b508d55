"""Encoders: ResNets and vision transformers without their classifier, the projector on top, and the files they are kept in.

    architectures.py  what is called how; options.py: as settings
    building.py   build_encoder
    networks.py   ResNets and the Projector; vision_transformer.py
    loaded.py     LoadedEncoder, random_encoder
    files.py      save_encoder, load_encoder
    vit_checkpoints/  vision transformers in strangers' checkpoints
    layouts.py    where a stranger's checkpoint keeps its ResNet; names.py: under which names
    factories.py  anyone's own encoder, package.module:factory
    export.py     export_encoder: torchvision's, timm's and detectron2's files

This module itself is light: it holds the names. The functions are found here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genrep.imports import lazy

from .architectures import ACTIVATIONS, PATCH, POOLS, SHOWN, STEMS, WAYS, architecture

if TYPE_CHECKING:
    from .building import build_encoder
    from .export import export_encoder
    from .files import load_encoder, save_encoder
    from .loaded import LoadedEncoder, random_encoder
    from .networks import Features, Projector

__all__ = [
    "ACTIVATIONS",
    "DEVICES",
    "EMBEDDING_DIM",
    "ENCODER_FILE",
    "EXPORT_FORMATS",
    "PATCH",
    "POOLS",
    "PRECISIONS",
    "SHOWN",
    "STEMS",
    "WAYS",
    "EncoderFacts",
    "Features",
    "LoadedEncoder",
    "Projector",
    "architecture",
    "build_encoder",
    "export_encoder",
    "load_encoder",
    "random_encoder",
    "save_encoder",
]

ENCODER_FILE = "encoder.safetensors"
EMBEDDING_DIM = 128  # of the projector's output (GenRep, COP-Gen)
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
KNN_NEIGHBOURS, KNN_TEMPERATURE = 20, 0.07  # of the k-nearest-neighbour classifier on features (genrep.knn)
EXPORT_FORMATS = {
    "torchvision": (".pth", ".pt"),
    "timm": (".safetensors", ".pth", ".pt"),
    "detectron2": (".pkl",),
}  # and the ends of file names by which these libraries know how to read them

_LAZY = {
    "LoadedEncoder": "loaded",
    "Features": "networks",
    "Projector": "networks",
    "build_encoder": "building",
    "export_encoder": "export",
    "load_encoder": "files",
    "random_encoder": "loaded",
    "save_encoder": "files",
}


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """The facts needed to build an encoder and to feed it images."""

    arch: str  # as architectures.py has it; "package.module:factory" for anyone's own
    stem: str  # one of STEMS, PATCH of a vision transformer; "own" for anyone's own
    size: int  # side in pixels of the images that it was trained on
    mean: tuple[float, ...]  # of the channels, in [0, 1]
    std: tuple[float, ...]
    model: Mapping[str, Any] = field(
        default_factory=dict
    )  # what else a transformer is built from: vision_transformer.py


__getattr__ = lazy(__name__, _LAZY)

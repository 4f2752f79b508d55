"""Encoders as files of other libraries: torchvision's, timm's and detectron2's names."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from genrep.errors import ConfigError, WeightsError, one_of
from genrep.files import write_atomic
from genrep.tensor_files import safetensors_bytes

from . import EXPORT_FORMATS, EncoderFacts
from .layouts import find_resnet

_DETECTRON2 = (
    (re.compile(r"^conv1\."), "stem.conv1."),
    (re.compile(r"^bn1\."), "stem.conv1.norm."),
    (re.compile(r"^layer([1-4])\."), lambda found: f"res{int(found[1]) + 1}."),
    (re.compile(r"\.bn([1-3])\."), r".conv\1.norm."),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
)


def check_export(path: Path, format: str) -> None:
    """Raise ConfigError unless the format is known and its library would read a file of this name."""
    if format not in EXPORT_FORMATS:
        raise ConfigError.naming("{format} {!r}: wanted one of {}", format, one_of(format, EXPORT_FORMATS))
    ends = EXPORT_FORMATS[format]
    if path.suffix not in ends:
        raise ConfigError.naming(
            "{out} {}: {} reads files by their name; wanted one that ends in {}", path, format, " or ".join(ends)
        )


def export_encoder(encoder: nn.Module, path: Path, format: str, facts: EncoderFacts | None = None) -> str:
    """Write an encoder for another library, whole or not at all; returns its arch.

    torchvision: a state dict that ``torchvision.models.<arch>()`` loads, lacking only ``fc``. timm: one that
    ``timm.create_model(<arch>, num_classes=0)`` loads strictly. detectron2: a pickle of NumPy arrays under its names, for
    ``MODEL.WEIGHTS`` with ``RESNETS.STRIDE_IN_1X1 False`` and ``INPUT.FORMAT RGB``.

    A vision transformer is written for timm alone. With its ``facts``, the metadata of a safetensors file say in ``timm`` what
    ``timm.create_model`` takes.

    Raises:
        ConfigError: an unknown format, or a file name that its library would not read.
        WeightsError: the encoder is not, entirely, a network that the library builds: a ResNet of the usual width with the
            7x7 stem, or for timm a vision transformer.
    """
    check_export(path, format)
    if getattr(encoder, "takes_masks", False):
        return _export_transformer(encoder, path, format, facts)
    try:
        found = find_resnet(encoder.state_dict(), format)
    except WeightsError as error:
        raise WeightsError.naming("{format} {}", error) from error
    if found.stem != "imagenet":
        raise WeightsError.naming(
            "{format} {}: its {} has a 7x7 stem; this encoder has the {} one", format, found.arch, found.stem
        )
    if ":" in found.arch:
        raise WeightsError.naming("{format} {}: builds {} of the usual width only", format, found.arch)
    state = {name: tensor.cpu().clone() for name, tensor in found.state.items()}
    if format == "detectron2":
        write_atomic(path, _detectron2(state))
    else:
        _write(path, state, {})
    return found.arch


def _export_transformer(encoder: nn.Module, path: Path, format: str, facts: EncoderFacts | None) -> str:
    arch = "a vision transformer" if facts is None else facts.arch
    if format != "timm":
        raise WeightsError.naming("{format} {}: knows no vision transformer of these names; wanted timm", format)
    metadata = {}
    if facts is not None:
        from .vision_transformer import timm_config

        if (config := timm_config(facts)) is None:
            raise WeightsError.naming("{format} {}: has no network with the parts of this one", format)
        metadata["timm"] = json.dumps(config)
    _write(path, {name: tensor.cpu().clone() for name, tensor in encoder.state_dict().items()}, metadata)
    return arch


def _write(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    if path.suffix == ".safetensors":
        write_atomic(path, safetensors_bytes(state, metadata))
        return
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def _detectron2(state: Mapping[str, Tensor]) -> bytes:
    """The pickle of detectron2's converted models: ``matching_heuristics`` makes it find the names below any prefix."""
    model = {}
    for name, tensor in state.items():
        for pattern, replacement in _DETECTRON2:
            name = pattern.sub(replacement, name)
        model[name] = tensor.numpy()
    data = pickle.dumps({"model": model, "__author__": "genrep", "matching_heuristics": True}, protocol=3)
    # NumPy 2 moved this function, and still finds it at the place that NumPy 1 knows. It stands before all arrays.
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)

"""A generator's weights in the one form that the rest reads: named tensors, and facts that leave no trace in them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep import tensor_files
from genrep.errors import WeightsError
from genrep.files import canonical_json, write_atomic

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "genrep-generator/1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a weights file of any format becomes.

    ``tensors``: the network's parameters and buffers under the names of our modules, on the CPU, floating point ones as
    float32. ``config``: JSON values that the network's function depends on and that cannot be read off the tensors.
    """

    family: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # where in its file it was found, and what of the file is left out

    def digest(self) -> str:
        """Hex sha256 over names, shapes, dtypes and little-endian bytes, in order of name: the same from any container."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name].detach().cpu().contiguous()
            array = tensor.numpy()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name}\x1f{tuple(tensor.shape)}\x1f{array.dtype.name}\x1f".encode())
            digest.update(little.tobytes())
        return digest.hexdigest()


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write safetensors whose metadata hold family and config."""
    metadata = {
        "genrep": FORMAT,
        "family": checkpoint.family,
        "config": canonical_json(checkpoint.config).decode(),
    }
    write_atomic(path, tensor_files.safetensors_bytes(checkpoint.tensors, metadata))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (floating point ones as float32) and metadata of a safetensors file. Raises WeightsError if it is none."""
    state, metadata = tensor_files.read_safetensors(path, f"weights {path}")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, metadata


def checkpoint_from_safetensors(path: Path) -> Checkpoint | None:
    """The checkpoint that ``save_checkpoint`` (or fit-gan) wrote; None if the file names no family."""
    tensors, metadata = read_safetensors(path)
    if "family" not in metadata:
        return None
    try:
        config = json.loads(metadata.get("config", "{}"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise WeightsError(f"weights {path}: its metadata's config is no JSON object")
    return Checkpoint(family=metadata["family"], tensors=tensors, config=config)

"""safetensors files whose bytes are a function of their content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .files import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

ALIGNMENT = 8  # bytes: tensors begin at a multiple of this


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, of tensors on any device, with its header in canonical order.

    The library writes the metadata in an order that changes with every call, so that a file's sha256 would too.
    """
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(whole, metadata={"format": "pt", **metadata})
    end = 8 + int.from_bytes(data[:8], "little")
    text = canonical_json(json.loads(data[8:end]))
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + data[end:]

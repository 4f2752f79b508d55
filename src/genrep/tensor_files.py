"""safetensors files. Their bytes are a function of their content; reading trusts nothing in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import WeightsError
from .files import canonical_json
from .untrusted import content_faults, one_line, open_regular, printable, read_at

if TYPE_CHECKING:
    from torch import Tensor

ALIGNMENT = 8  # bytes: tensors begin at a multiple of this
_HEADER = 1 << 24  # bytes: a hundred times what the largest published checkpoints' headers take
_START = 8  # bytes: the header's length


def is_safetensors(path: Path) -> bool:
    """By name or by content: the length of a header, then a JSON object. Raises WeightsError if it cannot be opened."""
    descriptor = open_regular(path, WeightsError, follow=True)
    try:
        start = bytes(read_at(descriptor, _START + 1, 0))
    finally:
        os.close(descriptor)
    return path.suffix == ".safetensors" or (start[_START:] == b"{" and start[:4] != b"PK\x03\x04")


def read_safetensors(path: Path, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's tensors and metadata. Raises WeightsError, which begins with ``where``, if it is not a safetensors file."""
    from safetensors import SafetensorError, safe_open

    metadata = _metadata(path, where)
    try:
        with content_faults(where, WeightsError), safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, metadata
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{where}: not a readable safetensors file ({one_line(str(error))})") from None


def _metadata(path: Path, where: str) -> dict[str, str]:
    """The metadata in the header, whose length is bounded before it is read."""
    descriptor = open_regular(path, WeightsError, follow=True)
    try:
        size = int.from_bytes(read_at(descriptor, _START, 0), "little")
        room = os.fstat(descriptor).st_size - _START
        if size > min(_HEADER, room):
            raise WeightsError(
                f"{printable(where)}: not a readable safetensors file (a header of {size:,} bytes; wanted at most "
                f"{max(min(_HEADER, room), 0):,})"
            )
        text = bytes(read_at(descriptor, size, _START))
    finally:
        os.close(descriptor)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{printable(where)}: not a readable safetensors file ({one_line(str(error))})") from None
    metadata = (header.get("__metadata__") or {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{printable(where)}: not a readable safetensors file (its metadata are no table of texts)")
    return metadata


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

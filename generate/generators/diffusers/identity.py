"""The digest that stands for a model: of tensors, settings and tokenizers, and of no name or place."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.files import canonical_json

from .folder import ModelFolder, read_tokenizer_settings

if TYPE_CHECKING:
    from torch import Tensor


class Identity:
    """Adds up what a model is made of; components in any order, the digest is the same."""

    def __init__(self, folder: ModelFolder) -> None:
        self.parts: dict[str, Any] = {"pipeline": folder.kind.kind, "index": folder.index}

    def add_config(self, component: str, name: str, config: Mapping[str, Any]) -> None:
        """The class and the settings of a component."""
        settings = {key: _finite(value) for key, value in config.items() if key != "_class_name"}
        self.parts.setdefault(component, {}).update({"class": name, "config": settings})

    def add_tensors(self, component: str, tensors: Mapping[str, Tensor]) -> None:
        """The tensors of a component as its files store them."""
        self.parts.setdefault(component, {})["tensors"] = digest_tensors(tensors)

    def add_tokenizer(self, component: str, files: Mapping[str, Path]) -> None:
        """The files of a tokenizer: settings without keys that say nothing, the others byte for byte."""
        found = {}
        for name, path in files.items():
            if name in ("tokenizer_config.json", "special_tokens_map.json"):
                data = canonical_json(read_tokenizer_settings(path))
            else:
                data = path.read_bytes()
            found[name] = hashlib.sha256(data).hexdigest()
        self.parts.setdefault(component, {})["files"] = found

    def digest(self) -> str:
        """Hex sha256."""
        return hashlib.sha256(canonical_json(self.parts)).hexdigest()


def _finite(value: Any) -> Any:
    """Infinity as a text, which canonical JSON has no number for."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hex sha256 over names, dtypes, shapes and little-endian bytes, in order of name: the same from one file or many."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        kind = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\x1f{tuple(tensor.shape)}\x1f{kind}\x1f".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

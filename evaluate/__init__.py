"""Measuring encoders: every number with the protocol it was measured by. Knows encoders, neither shards nor generators."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import LinearConfig
    from .run import LinearResult, evaluate_linear

__all__ = ["LinearConfig", "LinearResult", "evaluate_linear"]

# Found when asked for, so that `genrep-evaluate --help` does not wait for torch.
_LAZY = {"LinearConfig": "config", "LinearResult": "run", "evaluate_linear": "run"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

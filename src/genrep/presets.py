"""The one place where others look up a training's preset: ``genrep.train.presets``, which is found at run time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOME = "genrep.train.presets"


def preset_settings(name: str) -> dict[str, Any]:
    """Options of ``genrep-train`` that a preset stands for. Raises ValueError if there is none of this name."""
    settings: dict[str, Any] = import_module(HOME).preset(name)
    return settings

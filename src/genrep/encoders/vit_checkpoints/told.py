"""What a checkpoint says of its network beside the tensors, and the configuration that lies beside it. Both are strangers'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genrep.errors import WeightsError
from genrep.unpickle import Opaque
from genrep.untrusted import content_faults, label, printable, read_bounded

TRANSFORMERS, TRANSFORMERS_CLIP, TRANSFORMERS_DINOV3 = "transformers", "transformers' CLIP", "transformers' DINOv3"
_LARGEST = 1 << 20  # bytes of a configuration
_CONFIGS = {
    "timm": ("config.json",),
    "clip": ("open_clip_config.json",),
    TRANSFORMERS: ("config.json", "preprocessor_config.json"),
    TRANSFORMERS_CLIP: ("config.json", "preprocessor_config.json"),
    TRANSFORMERS_DINOV3: ("config.json", "preprocessor_config.json"),
}
_OWN = {"timm": "architecture", "clip": "model_cfg"}  # by which a configuration is known; of transformers' by its model
_MODELS = {
    TRANSFORMERS: ("vit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers"),
    TRANSFORMERS_CLIP: ("clip", "clip_vision_model"),
    TRANSFORMERS_DINOV3: ("dinov3_vit",),
}
LONGEST = 100  # characters of a name


@dataclass(frozen=True)
class Told:
    """What is said, as it is found: ``config`` and ``preprocessor`` are the files' JSON, ``args`` a training's settings."""

    layout: str
    where: str
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    arch: str | None = None  # the name of an architecture that the training gave
    files: tuple[str, ...] = ()  # that were read beside the checkpoint

    def whole(
        self, key: str, *, least: int = 1, most: int = 8192, within: Mapping[str, Any] | None = None
    ) -> int | None:
        """A whole number of the configuration; None if it has none. Raises WeightsError for any other value."""
        value = (self.config if within is None else within).get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.fault(key, value, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, *, most: float = 1.0) -> float | None:
        """A number from 0 to ``most``. Raises WeightsError for any other value."""
        value = self.config.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            raise self.fault(key, value, f"a number from 0 to {most:g}")
        return float(value)

    def name(self, key: str, within: Mapping[str, Any] | None = None) -> str | None:
        """A short text. Raises WeightsError for any other value."""
        value = (self.config if within is None else within).get(key)
        if value is not None and not (isinstance(value, str) and len(value) <= LONGEST):
            raise self.fault(key, value, "a name")
        return value

    @property
    def by_transformers(self) -> bool:
        """Whether the configuration's words are those of transformers."""
        return self.layout in _MODELS

    def part(self, key: str, within: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """A table of the configuration, empty if it has none. Raises WeightsError for any other value."""
        value = (self.config if within is None else within).get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, value, "a table")
        return value

    def channels(self, key: str, within: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Three numbers. Raises WeightsError for any other value."""
        value = within.get(key)
        if value is None:
            return None
        fits = isinstance(value, (list, tuple)) and len(value) == 3
        if not fits or not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value):
            raise self.fault(key, value, "three numbers")
        return tuple(float(one) for one in value)

    def fault(self, key: str, value: object, wanted: str) -> WeightsError:
        """An error about an entry of the configuration."""
        where = " and ".join(self.files) or self.where
        return WeightsError(f"{where}: {key} is {label(json.dumps(value, default=str))}; wanted {wanted}")


def told_by(content: object, path: Path | None, layout: str, where: str) -> Told:
    """What the content of a checkpoint says of its network, and the files beside ``path`` that belong to this layout.

    Raises:
        WeightsError: a file beside it is not JSON, or too large.
    """
    folder = content if isinstance(content, Mapping) else {}
    args = _attributes(folder.get("args"))
    names = (folder.get("arch"), args.get("model"), args.get("arch"))
    arch = next((name for name in names if isinstance(name, str) and len(name) <= LONGEST), None)
    config: Mapping[str, Any] = {}
    preprocessor: Mapping[str, Any] = {}
    files: list[str] = []
    for name in _CONFIGS[layout] if path is not None else ():
        beside = path.with_name(name)  # type: ignore[union-attr]
        if not beside.exists():
            continue
        found = _json(beside)
        if name == "preprocessor_config.json":
            preprocessor = found
        elif not _is_of(found, layout):
            continue  # another's: of a run, or of a network around this one
        else:
            config = found
        files.append(printable(str(beside)))
    told = Told(layout, where, config, preprocessor, args, arch, tuple(files))
    return replace(told, config=told.part("vision_config") or config) if layout == TRANSFORMERS_CLIP else told


def _is_of(config: Mapping[str, Any], layout: str) -> bool:
    """Whether a configuration is of a network of this layout."""
    return config.get("model_type") in _MODELS[layout] if layout in _MODELS else _OWN[layout] in config


def _attributes(value: object) -> Mapping[str, Any]:
    """A training's settings: a dictionary, or the record of an ``argparse.Namespace``."""
    if isinstance(value, Opaque):
        value = value.state
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> Mapping[str, Any]:
    data = read_bounded(path, _LARGEST, WeightsError, follow=True)
    with content_faults(f"{printable(str(path))}: not JSON", WeightsError):
        found = json.loads(data)
    if not isinstance(found, dict):
        raise WeightsError(f"{printable(str(path))}: a JSON {type(found).__name__}; wanted an object")
    return found

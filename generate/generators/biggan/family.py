"""Family "biggan": class-conditional checkpoints of ajbrock/BigGAN-PyTorch (and of its descendants), hierarchical or not.

Its experiments, like IC-GAN's, are folders of weights ``G[_ema][_suffix].pth`` with ``state_dict[_suffix].pth`` beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.errors import GeneratorError, WeightsError

from ..base import Checkpoint
from .networks import BigGANBase, check_choices, open_network
from .state import DEEP_MARK, Settings, canonical, convert, infer_layout, looks_like_biggan, naming

WEIGHTS = re.compile(r"G(?P<ema>_ema)?(?P<suffix>_\w+)?\.pth")


def find_weights(folder: Path) -> Path | None:
    """The best weights of an experiment's folder, or of the only one in it.

    The averaged weights (``G_ema``) before the others; then the lowest ``best_FID`` in the state beside them; then snapshots
    called best; then the last ones saved (no suffix). None if there are none.

    Raises:
        WeightsError: there are several experiments, or a state cannot be read.
    """
    if not folder.is_dir():
        return None
    found = {
        place: [path for path in sorted(place.glob("G*.pth")) if _parts(path)]
        for place in (folder, *sorted(child for child in folder.iterdir() if child.is_dir()))
    }
    if not found[folder]:
        found = {place: paths for place, paths in found.items() if paths}
        if len(found) > 1:
            raise WeightsError(f"weights {folder}: holds {', '.join(place.name for place in found)}; name one of them")
    paths = next(iter(found.values()), [])
    averaged = [path for path in paths if path.name.startswith("G_ema")]
    candidates = averaged or paths
    return min(candidates, key=_rank) if len(candidates) > 1 else next(iter(candidates), None)


def read_settings(weights: Path) -> Settings:
    """The settings in the state beside a weights file, or the published code's defaults where it says nothing.

    Raises:
        WeightsError: the state holds a configuration that the published code calls by these names but this one cannot run.
    """
    config = _state_beside(weights).get("config", {})
    if not isinstance(config, Mapping):
        return Settings()
    norm = config.get("norm_style", "bn")
    if norm != "bn":
        raise WeightsError(f"weights {weights}: normalisation {norm!r} is not supported, only batch norm")
    values: dict[str, Any] = {
        "bn_eps": _number(config.get("BN_eps"), 1e-5),
        "sn_eps": _number(config.get("SN_eps"), 1e-6),
    }
    names = {"hier": "hierarchical", "class_cond": "class_conditional", "instance_cond": "instance_conditional"}
    for theirs, ours in names.items():
        if str(config.get(theirs)) in ("True", "False"):
            values[ours] = str(config[theirs]) == "True"
    with naming(f"weights {weights}, in the config beside it"):
        return Settings.from_json(values)


def _parts(path: Path) -> re.Match[str] | None:
    match = WEIGHTS.fullmatch(path.name)
    return None if match is None or (match["suffix"] or "").startswith("_optim") else match


def _state_beside(weights: Path) -> Mapping[str, Any]:
    from genrep.unpickle import read_file

    match = _parts(weights)
    path = weights.with_name(f"state_dict{match['suffix'] or ''}.pth") if match else None
    content = read_file(path) if path is not None and path.is_file() else {}
    return content if isinstance(content, Mapping) else {}


def _rank(weights: Path) -> tuple[float, int, str]:
    # The last state saved knows the best FID so far, so that it draws with the snapshot that had it.
    match = _parts(weights)
    suffix = match["suffix"] or "" if match else ""
    kind = 0 if suffix.startswith("_best") else 2 if suffix else 1
    return _number(_state_beside(weights).get("best_FID"), float("inf")), kind, weights.name


def _number(value: object, default: float) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        return default


OPTIONS: frozenset[str] = frozenset()
find = find_weights


class BigGANGenerator(BigGANBase):
    """z and a class -> images; z ~ N(0, 1) as in training, or what the recipe says."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.num_classes = self.layout.num_classes

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``."""
        self.check_latents(z)
        if y is None:
            raise GeneratorError(f"this generator has {self.num_classes} classes: synthesize needs y")
        check_choices(y, z.shape[0], self.num_classes, "classes")
        return self.network(z, self.network.embed_classes(y))


def recognise(content: object, path: Path, *, named: bool, network: str | None = None) -> Checkpoint | None:
    """See ``Family.recognise``. The options come from ``state_dict*.pth`` beside the weights, if that is there."""
    found = looks_like_biggan(content, f"weights {path}", network)
    if found is None:
        return None
    if DEEP_MARK in found.tensors:
        raise WeightsError(f"weights {path}: a BigGAN-deep from BigGAN-PyTorch is not supported")
    settings = read_settings(path)
    with naming(f"weights {path}"):
        if infer_layout(canonical(found.tensors), settings)[0].feature_dim:
            return None  # an IC-GAN
        return convert("biggan", found, settings)


def open_checkpoint(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> BigGANGenerator:
    """See ``Family.open_checkpoint``."""
    return BigGANGenerator(open_network(checkpoint, device))

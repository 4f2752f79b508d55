"""What settings of a training need of each other, and what they exclude."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from genrep.errors import ConfigError

if TYPE_CHECKING:
    from . import TrainConfig

_ONLINE_ONLY = (
    *("views", "filter", "weigh", "features", "steps_per_epoch", "classes", "num_positives"),
    *("prompts", "anchors", "root", "download", "split", "guidance", "sampler_steps"),
)
_STORED_ONLY = ("data", "mix", "shuffle_window", "image_size", "partial")


_NEEDS = {
    **{"weights": "gen", "truncation": "gen"},
    "clip_per_tensor": "clip_gradients",
    **{"local_size": "local_crops", "local_scale": "local_crops"},
    **{"root": "anchors", "download": "anchors"},
    **{"knn_every": "knn_data", "knn_data": "knn_every", "knn_root": "knn_data"},
}


def check_together(config: TrainConfig) -> None:
    """Check settings that need or exclude each other. Raises ConfigError."""
    naming = ConfigError.naming
    if config.epochs is not None and config.steps is not None:
        raise naming("{epochs} {} and {steps} {}: give only one of the two", config.epochs, config.steps)
    if not config.folders and not config.online:
        raise naming("{data}: wanted a dataset, or {online} with {gen}")
    defaults = {one.name: one.default for one in fields(config)}
    for name in _STORED_ONLY if config.online else _ONLINE_ONLY:
        if getattr(config, name) not in (None, (), False, defaults[name]):
            raise naming(f"{{{name}}}: {'cannot be combined with' if config.online else 'requires'} {{online}}")
    if config.online:
        _check_online(config)
    elif config.gen is not None and config.objective != "autoencoder":
        raise naming("{gen} {}: requires {online} or {objective} autoencoder", config.gen)
    for name, other in _NEEDS.items():
        if getattr(config, name) not in (None, False) and getattr(config, other) in (None, 0):
            raise naming(f"{{{name}}} {{}}: requires {{{other}}}", getattr(config, name))
    if config.mix is not None and len(config.folders) != 2:
        raise naming("{mix} {:g}: requires {data} twice, found {}", config.mix, len(config.folders))
    _check_scales(config)
    if config.shuffle_window is not None:
        _check_window(config.shuffle_window)


def _check_scales(config: TrainConfig) -> None:
    """Check ranges, and what changes from a beginning to an end."""
    if config.weight_decay_end is not None and config.weight_decay == 0:
        raise ConfigError.naming(
            "{weight_decay_end} {:g}: {weight_decay} 0 has nothing to change; give more", config.weight_decay_end
        )
    for name in ("crop_scale", "local_scale"):
        scale = getattr(config, name)
        if scale is not None and not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
            text = ",".join(f"{part:g}" for part in scale)
            raise ConfigError.naming(
                f"{{{name}}} {{}}: wanted two parts of an image's area, 0 < LOW <= HIGH <= 1", text
            )


def _check_online(config: TrainConfig) -> None:
    """Check what images made during training need and exclude."""
    for name in ("gen", "steps_per_epoch"):
        if getattr(config, name) is None:
            raise ConfigError.naming(f"{{online}}: requires {{{name}}}")
    if config.limit != 1:
        raise ConfigError.naming("{limit} {}: cannot be combined with {online}", config.limit)


def _check_window(window: str) -> None:
    from ..data.order import parse_window  # with NumPy, which a help text should not wait for

    try:
        parse_window(window)
    except ValueError as error:
        reason = str(error).removeprefix("shuffle_window ")
        raise ConfigError.naming("{shuffle_window} {}", reason) from error

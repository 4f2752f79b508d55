"""What a run of ``genrep-train`` is asked for. ``plan.py`` resolves it against the dataset and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from genrep.encoders import ARCHS, DEVICES, STEMS
from genrep.files import user_path
from genrep.pixel_views import PIXEL_VIEWS, PixelViews
from genrep.suggestions import one_of

from .objectives import OBJECTIVES

POSITIVES = ("stored", "anchor", "random", "all")
OPTIMIZERS = ("sgd", "lars", "adamw")
SCHEDULES = ("cosine", "cosine-by-epoch")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TARGET_SCHEDULES = ("constant", "cosine")
DEFAULT_EPOCHS = 20  # GenRep on ImageNet-1k

# Settings that only some objectives have; None: the objective's own default.
OBJECTIVE_OPTIONS = (
    *("temperature", "base_temperature", "weight_sigma", "target_momentum", "target_schedule", "queue_size"),
    *("class_head", "latent_weight", "pixel_weight"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run; the defaults are GenRep's. None: see ``plan.resolve``, and for objectives their classes.

    ``TrainConfig(**{**preset("genrep-in1k"), "data": …, "out": …})`` is a paper's row (``presets.py``).
    """

    out: Path
    # Samples: stored ones, or made while training
    data: Path | Sequence[Path] = ()  # finished datasets and folders of images
    mix: float | None = None  # fraction of the first set's samples that images of the second replace
    limit: float = 1.0  # fraction of the samples, chosen by the seed
    shuffle_window: str | None = None  # shards or bytes in use at a time
    image_size: int | None = None  # side of the central squares that whole pictures are cut to, before all else
    partial: bool = False  # take datasets of which shards are missing
    online: bool = False
    gen: str | None = None  # the generator, with online; that to decode with, for the autoencoder
    weights: Path | None = None  # of gen
    views: str | None = None  # with online: T_z
    filter: str | None = None  # with online: a discriminator that chooses samples
    classes: str = "all"  # with online
    truncation: float | None = None  # of gen
    features: str | None = None  # with online: instance features
    num_positives: int = 1  # with online
    steps_per_epoch: int | None = None  # with online
    # Network
    arch: str = "resnet18"
    stem: str = "imagenet"
    zero_init_residual: bool = False
    # Objective
    objective: str = "simclr"
    temperature: float | None = None
    base_temperature: float | None = None
    weight_sigma: float | None = None
    target_momentum: float | None = None
    target_schedule: str | None = None
    queue_size: int | None = None
    class_head: bool | None = None
    latent_weight: float | None = None
    pixel_weight: float | None = None
    # Length and optimiser
    epochs: int | None = None  # this or steps
    steps: int | None = None  # updates
    batch_size: int = 256  # samples of an update, over all processes
    accumulate: int = 1  # parts of a process's batch, one after another
    optimizer: str = "sgd"
    lr: float | None = None  # at batch size 256; the run's peak is in proportion to its batch size
    weight_decay: float | None = None
    momentum: float = 0.9  # of SGD and LARS
    schedule: str = "cosine"
    lr_floor: float = 1e-3  # part of the peak that the cosine ends at
    warmup_epochs: float | None = None
    # Views
    positive: str | None = None  # one of POSITIVES: the second view is of a stored positive, of the anchor itself, …
    pixel_views: str = "simclr"
    crop: int | None = None  # side in pixels of the images that the network sees
    centre: int | None = (
        None  # of the central square that views without a random crop show, resized to crop; None: crop's
    )
    # Run
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    sync_batchnorm: bool = False
    workers: int | None = None  # threads that read ahead
    checkpoint_every: int = 1  # epochs
    checkpoint_minutes: float = 15.0  # within an epoch
    keep_checkpoints: int = 1  # the last ones
    log_every: int = 10  # steps
    knn_every: int | None = None  # epochs
    knn_data: str | None = None  # a labelled dataset's name, or a folder
    knn_root: Path | None = None
    collapse_std: float = 0.1  # relative std of the embeddings (infonce.relative_std) that counts as collapsed
    collapse_steps: int = 500  # so many steps below it end the run

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        from genrep.datasets_manifest import dataset_folder

        data = (self.data,) if isinstance(self.data, (str, Path)) else self.data
        object.__setattr__(self, "data", tuple(dataset_folder(one) for one in data))
        for name in ("out", "weights", "knn_root"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, user_path(getattr(self, name)))
        for name, known in _CHOICES.items():
            _check_choice(name, getattr(self, name), known)
        for name, low in _AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{option(name)} {value}: wanted at least {low}")
        for name in ("lr", "temperature", "base_temperature", "weight_sigma", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{option(name)} {value}: wanted a positive number")
        for name in ("weight_decay", "warmup_epochs", "latent_weight", "pixel_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{option(name)} {value}: wanted a number that is not negative")
        for name in ("mix", "lr_floor", "target_momentum"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{option(name)} {value}: wanted 0 to 1")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum {self.momentum}: wanted 0 to below 1")
        if not 0 < self.limit <= 1:
            raise ValueError(f"--limit {self.limit}: wanted above 0, at most 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^63 - 1")
        _check_together(self)
        if self.shuffle_window is not None:
            _check_window(self.shuffle_window)

    @property
    def folders(self) -> tuple[Path, ...]:
        """``data``, always several."""
        return tuple(self.data)  # type: ignore[arg-type]

    def law_of_views(self) -> PixelViews:
        """The law of the pixel views."""
        return replace(PIXEL_VIEWS[self.pixel_views], centre=self.centre)

    def objective_options(self) -> dict[str, Any]:
        """Those of ``OBJECTIVE_OPTIONS`` that were given."""
        return {name: getattr(self, name) for name in OBJECTIVE_OPTIONS if getattr(self, name) is not None}


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "arch": tuple(ARCHS),
    "stem": STEMS,
    "objective": tuple(OBJECTIVES),
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "target_schedule": (None, *TARGET_SCHEDULES),
    "positive": (None, *POSITIVES),
    "pixel_views": tuple(PIXEL_VIEWS),
    "device": DEVICES,
    "precision": PRECISIONS,
}
_AT_LEAST = {
    **dict.fromkeys(("epochs", "steps", "crop", "centre", "workers", "accumulate", "image_size", "num_positives"), 1),
    **dict.fromkeys(("checkpoint_every", "keep_checkpoints", "log_every", "knn_every", "queue_size"), 1),
    **dict.fromkeys(("steps_per_epoch",), 1),
    "batch_size": 2,
}
_ONLINE_ONLY = ("views", "filter", "features", "steps_per_epoch", "classes", "num_positives")
_STORED_ONLY = ("data", "mix", "shuffle_window", "image_size", "partial")


_NEEDS = {
    **{"weights": "gen", "truncation": "gen"},
    **{"knn_every": "knn_data", "knn_data": "knn_every", "knn_root": "knn_data"},
}
_DEFAULTS = {one.name: one.default for one in fields(TrainConfig)}


def _check_choice(name: str, value: object, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise ValueError(f"{option(name)} {value!r}: wanted one of {one_of(value, known)}")


def _check_window(window: str) -> None:
    from .data.window import parse_window  # with NumPy, which a help text should not wait for

    try:
        parse_window(window)
    except ValueError as error:
        raise ValueError(f"--shuffle-window {str(error).removeprefix('shuffle_window ')}") from error


def _check_together(config: TrainConfig) -> None:
    """Options that need or exclude each other."""
    if config.epochs is not None and config.steps is not None:
        raise ValueError(f"--epochs {config.epochs} and --steps {config.steps}: give one of the two")
    if not config.folders and not config.online:
        raise ValueError("--data: wanted a dataset, or --online with --gen")
    foreign = _STORED_ONLY if config.online else _ONLINE_ONLY
    for name in foreign:
        if getattr(config, name) not in (None, (), False, _DEFAULTS[name]):
            raise ValueError(f"{option(name)}: wanted only {'without' if config.online else 'with'} --online")
    if config.online:
        for name in ("gen", "steps_per_epoch"):
            if getattr(config, name) is None:
                raise ValueError(f"--online: wanted {option(name)} beside it")
        if config.limit != 1:
            raise ValueError(f"--limit {config.limit}: wanted only without --online")
    elif config.gen is not None and config.objective != "autoencoder":
        raise ValueError(f"--gen {config.gen}: wanted with --online or --objective autoencoder")
    for name, other in _NEEDS.items():
        if getattr(config, name) is not None and getattr(config, other) is None:
            raise ValueError(f"{option(name)} {getattr(config, name)}: wanted {option(other)} beside it")
    if config.mix is not None and len(config.folders) != 2:
        raise ValueError(f"--mix {config.mix:g}: wanted --data twice, found {len(config.folders)}")


def option(name: str) -> str:
    """A field's option on the command line."""
    return "--" + name.replace("_", "-")

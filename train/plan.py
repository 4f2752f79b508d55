"""From what was asked for to what will be done: the settings of a run with every default and derived value filled in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.datasets_manifest import Manifest, require_valid
from genrep.encoders.devices import pick_device, pick_precision
from genrep.errors import DatasetError, TrainingError
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD

from .config import DEFAULT_EPOCHS, TrainConfig
from .loader import default_workers
from .order import subset

SMALL_IMAGE = 64  # up to here crops are as large as the stored images
LARGE_CROP = 112  # GenRep and HL, from 128-px images
REFERENCE_BATCH = 256  # that ``lr`` is stated for
WARMUP_EPOCHS = 10  # GenRep, above the reference batch
# Settings that a resumed run may change: where things are, how fast they are read, how often they are told.
FREE = ("data", "out", "device", "workers", "checkpoint_every", "log_every", "collapse_std", "collapse_steps")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A resolved run: the config's settings, then facts of the dataset and numbers derived from both."""

    data: Path
    out: Path
    arch: str
    stem: str
    batch_size: int  # pairs
    lr: float
    weight_decay: float
    momentum: float
    temperature: float
    warmup_epochs: float
    positive: str
    pixel_views: str
    crop: int  # pixels
    limit: float
    seed: int
    device: str
    precision: str
    workers: int
    checkpoint_every: int
    log_every: int
    collapse_std: float
    collapse_steps: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dataset_id: str
    image_shape: tuple[int, int]  # height, width of the stored images
    num_pairs: int  # trained on
    steps_per_epoch: int
    dropped_per_epoch: int  # pairs of the incomplete last batch
    total_steps: int
    warmup_steps: int
    lr_scaled: float  # the schedule's peak

    def to_json(self) -> dict[str, Any]:
        """What config.json holds."""
        value: dict[str, Any] = json.loads(json.dumps(vars(self), default=str))
        return value

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        return {name: item for name, item in self.to_json().items() if name not in FREE}


def resolve(config: TrainConfig) -> Plan:
    """Look at the dataset and the machine, and settle every setting.

    Defaults: ``positive`` is ``stored`` where the set has positives, else ``anchor``; ``crop`` is the stored size up to
    64 px, 112 above (at most the stored size); 20 epochs; a warm-up only above batch 256, of 10 epochs or a tenth of the run.

    Raises:
        DatasetError: the dataset is unfinished or damaged, or has not what the settings want of it.
        TrainingError: the settings make no training.
    """
    manifest = require_valid(config.data, level="quick")
    device = pick_device(config.device)
    height, width, _ = manifest.image_fields[0]["shape"]
    num_pairs = len(subset(manifest.num_pairs, config.limit, config.seed))
    steps_per_epoch, dropped = divmod(num_pairs, config.batch_size)
    if not steps_per_epoch:
        raise TrainingError(
            f"--batch-size {config.batch_size}: {config.data} gives {num_pairs} pairs, less than one batch"
        )
    total_steps = config.steps or (config.epochs or DEFAULT_EPOCHS) * steps_per_epoch
    warmup_epochs = _warmup_epochs(config, total_steps / steps_per_epoch)
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if warmup_steps >= total_steps:
        raise TrainingError(f"--warmup-epochs {warmup_epochs:g}: {warmup_steps} of {total_steps} steps, wanted fewer")
    return Plan(
        **{name: getattr(config, name) for name in _UNCHANGED},
        warmup_epochs=warmup_epochs,
        positive=_positive(config, manifest),
        crop=config.crop or _default_crop(min(height, width)),
        device=device.type,
        precision=pick_precision(config.precision, device),
        workers=config.workers or default_workers(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        dataset_id=manifest.id,
        image_shape=(height, width),
        num_pairs=num_pairs,
        steps_per_epoch=steps_per_epoch,
        dropped_per_epoch=dropped,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        lr_scaled=config.lr * config.batch_size / REFERENCE_BATCH,
    )


_UNCHANGED = (
    *(
        "data",
        "out",
        "arch",
        "stem",
        "batch_size",
        "lr",
        "weight_decay",
        "momentum",
        "temperature",
        "pixel_views",
        "limit",
        "seed",
    ),
    *("checkpoint_every", "log_every", "collapse_std", "collapse_steps"),
)


def _warmup_epochs(config: TrainConfig, epochs: float) -> float:
    if config.warmup_epochs is not None:
        return config.warmup_epochs
    return min(WARMUP_EPOCHS, epochs / 10) if config.batch_size > REFERENCE_BATCH else 0.0


def _default_crop(side: int) -> int:
    return side if side <= SMALL_IMAGE else min(side, LARGE_CROP)


def _positive(config: TrainConfig, manifest: Manifest) -> str:
    if config.positive in ("stored", "random") and not manifest.num_positives:
        raise DatasetError(f"--positive {config.positive}: {config.data} stores anchors only; wanted --positive anchor")
    positive = config.positive or ("stored" if manifest.num_positives else "anchor")
    if positive == "anchor" and config.pixel_views == "none":
        raise TrainingError(
            "--positive anchor with --pixel-views none: the two views of a pair would be the same image"
        )
    return positive

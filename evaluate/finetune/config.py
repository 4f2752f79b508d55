"""Settings and schedules of fine-tuning, every number with its source."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import ConfigError
from genrep.evaluate.settings import (
    EncoderChoice,
    check_seeds,
    dataset_setting,
    device_setting,
    download_setting,
    force_setting,
    root_setting,
    seeds_setting,
)
from genrep.settings import config, setting


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How an encoder is fine-tuned. Pixels are kept in proportion to the encoder's."""

    source: str
    resize: int = 256
    crop: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)  # torchvision's default
    bicubic: bool = False
    epochs: int
    batch_size: int
    lr: float  # at batch_size
    head_std: float  # of the classifier's initial weights

    # SGD
    milestone: float = 1.0
    decay: float = 0.1
    momentum: float = 0.9

    # AdamW (.9, .999), a rate for each layer, and soft labels
    adamw: bool = False
    weight_decay: float = 0.0  # of matrices, not of biases, norms, tokens and positions
    warmup: int = 0  # of the epochs: a linear rise from 0, then a cosine, per update
    floor: float = 0.0  # the cosine's end: a rate
    layer_decay: float = 1.0  # part of the rate that a layer has of the one above
    drop_path: float = 0.0  # of the last block; from 0 at the first
    mixup: float = 0.0  # the beta distribution's parameter
    cutmix: float = 0.0
    smoothing: float = 0.0  # of labels
    rand_augment: bool = False
    erasing: float = 0.0  # probability of random erasing
    average: float = 0.0  # decay of the moving average of weights, which is tested; 0: the weights are
    pool: str | None = None  # of a vision transformer; None: as it is
    new_norm: bool = False  # a new norm after pooling in place of the last one

    def scale(self, epoch: int, epochs: int) -> float:
        """The part of SGD's learning rate in this epoch, counted from 1.

        >>> [VISSL.scale(e, 70) for e in (1, 30, 31, 70)]
        [1.0, 1.0, 0.1, 0.1]
        """
        return self.decay if epoch - 1 >= round(self.milestone * epochs) else 1.0

    def rate(self, step: int, per_epoch: int, epochs: int, lr: float) -> float:
        """AdamW's rate in this update, counted from 0. Of fewer epochs the rise is as large a part.

        >>> [round(PRESETS["mae"].rate(step, 2, 20, 1.0), 3) for step in (0, 1, 2, 21, 39)]
        [0.0, 0.5, 1.0, 0.5, 0.002]
        """
        done, rise = step / per_epoch, self.warmup * epochs / self.epochs
        if done < rise:
            return lr * done / rise
        return self.floor + (lr - self.floor) * (1 + math.cos(math.pi * (done - rise) / (epochs - rise))) / 2


# VISSL 0.1.6, semi_supervised/imagenet1k/eval_resnet_8gpu_transfer_in1k_semi_sup_fulltune.yaml, by which COP-Gen did it. The
# same for 1 % and 10 %: SGD with Nesterov momentum 0.9 and no weight decay, 70 epochs, a tenth of the rate after 30, the same
# rate for encoder and classifier, batch norm in training mode, incomplete batches dropped; Resize(256) -> CenterCrop(224).
VISSL = FinetuneSettings(
    source="VISSL 0.1.6, in1k_semi_sup_fulltune",
    epochs=70,
    milestone=30 / 70,
    batch_size=256,
    lr=0.05,
    head_std=0.01,
)

# What MAE's and SynCLR's commands have in common: weight decay .05, mixup .8, CutMix 1, layer decay .65, drop path .1, erasing
# .25, 100 epochs, batch 1,024; and by default smoothing .1, RandAugment, a cosine to 1e-6, N(0, 2e-5).
_STRONG: Any = {
    "bicubic": True,
    "epochs": 100,
    "batch_size": 1024,
    "head_std": 2e-5,
    "adamw": True,
    "weight_decay": 0.05,
    "floor": 1e-6,
    "layer_decay": 0.65,
    "drop_path": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "smoothing": 0.1,
    "rand_augment": True,
    "erasing": 0.25,
}

PRESETS = {
    "vissl": VISSL,
    # He et al. 2022 (MAE), FINETUNE.md of their code, ViT-B: base rate 5e-4 at batch 256, 5 epochs of a rise, the mean of the
    # patches behind a new norm. ViT-L: 50 epochs, base rate 1e-3, layer decay .75, drop path .2; ViT-H: drop path .3.
    "mae": FinetuneSettings(
        source="MAE (He et al. 2022), FINETUNE.md, ViT-B",
        lr=5e-4 * 1024 / 256,
        warmup=5,
        pool="avg",
        new_norm=True,
        **_STRONG,
    ),
    # Tian et al. 2023 (SynCLR), SynCLR/eval/EVALUATE.md, ViT-B/16: base rate 5e-5, 20 epochs of a rise, the class token, a test
    # crop of 95 %, a moving average of .9999. Their code prints the best epoch on test images; here it is the last.
    "synclr": FinetuneSettings(
        source="SynCLR (Tian et al. 2023), eval/EVALUATE.md, ViT-B/16",
        resize=int(224 / 0.95),
        lr=5e-5 * 1024 / 256,
        warmup=20,
        pool="cls",
        average=0.9999,
        **_STRONG,
    ),
}


LABELS = re.compile(r"(?P<percent>\d+(\.\d+)?)%|(?P<count>\d+)-per-class")


@config
class FinetuneConfig(EncoderChoice):
    """Settings of a fine-tuning on a part of the labels, or on all; None: what the preset says."""

    dataset: str = dataset_setting()
    root: Path | None = root_setting()
    download: bool = download_setting()
    out: Path = setting(metavar="DIR", help="Folder whose finetune.json receives the result.")
    preset: str = setting(default="vissl", choices=PRESETS, help="Protocol of the fine-tuning.")
    labels: str | None = setting(
        default=None,
        text=True,
        metavar="P%|N-per-class",
        help="Labelled images of each class: a percentage (1%, 10%) or a number. vissl: give this or --subset.  [default: all]",
    )
    subset: Path | None = setting(
        default=None,
        metavar="FILE",
        help="File with the names of the labelled images, one per line, such as SimCLR's 1percent.txt. Give "
        "this or --labels.",
    )
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Shorter side of test images before the central crop.  [default: 8/7 of --crop; synclr: 1/.95]",
    )
    crop: int | None = setting(
        default=None, least=1, metavar="PIXELS", help="Side of the crops.  [default: what the encoder was trained at]"
    )
    epochs: int | None = setting(
        default=None,
        least=1,
        help=f"Number of passes over the labelled images.  [default: the preset's; vissl: {VISSL.epochs}, others: 100]",
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help=f"Learning rate.  [default: the preset's; vissl: {VISSL.lr:g} at batch size 256, mae: 5e-4, synclr: 5e-5, in "
        "proportion at others]",
    )
    batch_size: int | None = setting(
        default=None,
        least=1,
        metavar="IMAGES",
        help=f"Images per update.  [default: the preset's, or all if there are fewer; vissl: {VISSL.batch_size}, others: 1024]",
    )
    layer_decay: float | None = setting(
        default=None,
        above=0,
        most=1,
        help="Part of the learning rate that a layer has of the one above it.  [default: the preset's; vissl: all have the "
        "same, others: 0.65]",
    )
    drop_path: float | None = setting(
        default=None,
        least=0,
        below=1,
        help="Rate at which the last block's branches are left out in training; the first one's never are.  [default: the "
        "preset's; vissl: none, others: 0.1]",
    )
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    seeds: tuple[int, ...] = seeds_setting()
    device: str = device_setting()
    force: bool = force_setting()

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        check_seeds(self.seeds)
        adamw = PRESETS[self.preset].adamw
        if (self.labels is None) == (self.subset is None) and not (adamw and self.labels is None):
            raise ConfigError.naming("{labels} or {subset}: give exactly one of the two")
        given = [name for name in ("layer_decay", "drop_path") if getattr(self, name) is not None]
        if given and not adamw:
            raise ConfigError.naming(f"{{{given[0]}}}: {{preset}} {{}} has none; give another {{preset}}", self.preset)
        if adamw and self.batch_size is not None and self.batch_size % 2:
            raise ConfigError.naming(
                "{batch_size} {}: {preset} {} mixes images by twos; wanted an even number", self.batch_size, self.preset
            )
        if self.labels is not None:
            parse_labels(self.labels)
        if self.size is not None and self.crop is not None and self.crop > self.size:
            raise ConfigError.naming("{crop} {}: wanted at most {size}, {}", self.crop, self.size)


def parse_labels(text: str) -> tuple[float | None, int | None]:
    """The part of each class, or the number of images of each class. Raises ConfigError.

    >>> parse_labels("1%"), parse_labels("20-per-class")
    ((0.01, None), (None, 20))
    """
    match = LABELS.fullmatch(text)
    if match is None:
        raise ConfigError.naming("{labels} {!r}: wanted 1%, 10% or N-per-class", text)
    if match["percent"]:
        percent = float(match["percent"])
        if not 0 < percent <= 100:
            raise ConfigError.naming("{labels} {}: wanted more than 0 and at most 100 %", text)
        return percent / 100, None
    if int(match["count"]) < 1:
        raise ConfigError.naming("{labels} {}: wanted at least 1 image of each class", text)
    return None, int(match["count"])

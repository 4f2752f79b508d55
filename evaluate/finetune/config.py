"""Settings and schedule of a semi-supervised fine-tuning, every number with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

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
    """VISSL 0.1.6, semi_supervised/imagenet1k/eval_resnet_8gpu_transfer_in1k_semi_sup_fulltune.yaml, by which COP-Gen did it.

    The same for 1 % and 10 %: SGD with Nesterov momentum 0.9 and no weight decay, 70 epochs, a tenth of the rate after 30, the
    same rate for encoder and classifier, batch norm in training mode, incomplete batches dropped. Its pixels (Resize(256) ->
    CenterCrop(224), RandomResizedCrop(224)) are kept in proportion to the encoder's.
    """

    resize: int = 256
    crop: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)  # torchvision's default
    epochs: int = 70
    milestone: float = 30 / 70
    decay: float = 0.1
    batch_size: int = 256
    lr: float = 0.05  # at batch 256
    momentum: float = 0.9
    head_std: float = 0.01  # of the classifier's initial weights

    def scale(self, epoch: int, epochs: int) -> float:
        """The part of the learning rate in this epoch, counted from 1.

        >>> [FinetuneSettings().scale(e, 70) for e in (1, 30, 31, 70)]
        [1.0, 1.0, 0.1, 0.1]
        """
        return self.decay if epoch - 1 >= round(self.milestone * epochs) else 1.0


VISSL = FinetuneSettings()


LABELS = re.compile(r"(?P<percent>\d+(\.\d+)?)%|(?P<count>\d+)-per-class")


@config
class FinetuneConfig(EncoderChoice):
    """Settings of a fine-tuning on a part of the labels; None: what ``VISSL`` says."""

    dataset: str = dataset_setting()
    root: Path | None = root_setting()
    download: bool = download_setting()
    out: Path = setting(metavar="DIR", help="Folder whose finetune.json receives the result.")
    labels: str | None = setting(
        default=None,
        text=True,
        metavar="P%|N-per-class",
        help="Labelled images of each class: a percentage (1%, 10%) or a number. Give this or --subset.",
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
        help="Shorter side of test images before the central crop.  [default: 8/7 of --crop]",
    )
    crop: int | None = setting(
        default=None, least=1, metavar="PIXELS", help="Side of the crops.  [default: what the encoder was trained at]"
    )
    epochs: int | None = setting(
        default=None, least=1, help=f"Number of passes over the labelled images.  [default: {VISSL.epochs}]"
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help=f"Learning rate of SGD.  [default: {VISSL.lr:g} at batch size 256, in proportion at others]",
    )
    batch_size: int | None = setting(
        default=None,
        least=1,
        metavar="IMAGES",
        help=f"Images per update.  [default: {VISSL.batch_size}, or all if there are fewer]",
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
        if (self.labels is None) == (self.subset is None):
            raise ConfigError.naming("{labels} or {subset}: give exactly one of the two")
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

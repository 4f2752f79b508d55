"""What a semi-supervised fine-tuning is asked for, and how it is done: every number with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from genrep.encoders import DEVICES
from genrep.errors import one_of

from ..encoders import check_encoder_choice


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


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of a fine-tuning on a part of the labels; None: what ``presets.VISSL`` says."""

    dataset: str  # a name of images.sets.SETS, or an image folder
    out: Path
    encoder: str | Path | None = None  # see evaluate.encoders.open_encoder; this or random_init
    random_init: bool = False
    arch: str | None = None
    stem: str = "imagenet"
    root: Path | None = None
    download: bool = False
    labels: str | None = None  # "1%", "10%", "20-per-class": of each class, chosen by the seed; this or subset
    subset: Path | None = None  # a file with a file name per line, as SimCLR's 1percent.txt
    size: int | None = None  # shorter side of test images
    crop: int | None = None  # side of what the network sees
    epochs: int | None = None
    lr: float | None = None  # at this batch size
    batch_size: int | None = None
    workers: int | None = None
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_encoder_choice(encoder=self.encoder, random_init=self.random_init, arch=self.arch, stem=self.stem)
        if self.device not in DEVICES:
            raise ValueError(f"--device {self.device!r}: wanted one of {one_of(self.device, DEVICES)}")
        if (self.labels is None) == (self.subset is None):
            raise ValueError("--labels or --subset: wanted one of the two")
        if self.labels is not None:
            parse_labels(self.labels)
        for name in ("epochs", "batch_size", "size", "crop", "workers"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"--{name.replace('_', '-')} {count}: wanted at least 1")
        if self.size is not None and self.crop is not None and self.crop > self.size:
            raise ValueError(f"--crop {self.crop}: wanted at most --size, {self.size}")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise ValueError(f"--lr {self.lr}: wanted a positive number")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"--seed {','.join(map(str, self.seeds))}: wanted different numbers, at least one")


def parse_labels(text: str) -> tuple[float | None, int | None]:
    """The part of each class, or the number of images of each class. Raises ValueError.

    >>> parse_labels("1%"), parse_labels("20-per-class")
    ((0.01, None), (None, 20))
    """
    match = LABELS.fullmatch(text)
    if match is None:
        raise ValueError(f"--labels {text!r}: wanted 1%, 10% or N-per-class")
    if match["percent"]:
        percent = float(match["percent"])
        if not 0 < percent <= 100:
            raise ValueError(f"--labels {text}: wanted more than 0 and at most 100 %")
        return percent / 100, None
    if int(match["count"]) < 1:
        raise ValueError(f"--labels {text}: wanted at least 1 image of each class")
    return None, int(match["count"])

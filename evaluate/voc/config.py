"""Settings of a VOC07 classification."""

from __future__ import annotations

from pathlib import Path

from genrep.errors import ConfigError
from genrep.evaluate.settings import (
    EncoderChoice,
    class_names,
    device_setting,
    force_setting,
)
from genrep.machine import cores
from genrep.settings import MOST_SEED, config, setting

from .layout import MEASURABLE

SPLITS = ("trainval/test", "train/val")  # fitted on / tested on
PROTOCOLS = ("default", "genrep")
COSTS = tuple(
    sorted([10.0**k for k in range(-7, 3)] + [0.5**k for k in range(4, 20)])
)  # 26, as GenRep's script has them


@config
class Voc07Config(EncoderChoice):
    """Settings of a VOC07 classification (GenRep, COP-Gen)."""

    data: Path = setting(metavar="DIR", help="Folder in Pascal VOC's layout, such as VOCdevkit/VOC2007.")
    out: Path = setting(metavar="DIR", help="Folder whose voc07.json receives the result.")
    protocol: str = setting(
        default="default",
        choices=PROTOCOLS,
        help="default: VOC's own, which ignores difficult objects and takes the 11-point AP. genrep: "
        "difficult objects count, and the AP is the area under the curve.",
    )
    split: str | None = setting(
        default=None,
        choices=SPLITS,
        help="Lists of images to fit on / to test on.  [default: trainval/test; with --protocol genrep, train/val]",
    )
    classes: tuple[str, ...] = setting(
        default=(),
        metavar="A,B,…|measurable",
        parse=class_names,
        help="Classes to measure; others are dropped. measurable: all classes that enough images of both "
        "splits show.  [default: all]",
    )
    size: int = setting(
        default=224, least=1, metavar="PIXELS", help="Resize the shorter side to this and crop the central square."
    )
    batch_size: int = setting(default=64, least=1, metavar="IMAGES", help="Images per forward pass of the encoder.")
    workers: int | None = setting(
        default=None, least=1, metavar="PROCESSES", help="Number of processes that fit SVMs.  [default: one per core]"
    )
    seed: int = setting(
        default=0, least=0, most=MOST_SEED, help="Seed of the SVM solver and of the weights of --random-init."
    )
    device: str = device_setting()
    force: bool = force_setting("Replace an earlier result of this dataset, protocol and seed.")

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError.naming("{classes} {}: names a class twice", ",".join(self.classes))

    @property
    def measurable(self) -> bool:
        """Whether the classes are those of both splits that can be measured."""
        return self.classes == (MEASURABLE,)

    @property
    def splits(self) -> tuple[str, str]:
        """Fitted on, tested on."""
        text = self.split or ("train/val" if self.protocol == "genrep" else "trainval/test")
        train, test = text.split("/")
        return train, test

    @property
    def processes(self) -> int:
        """How many fit at a time."""
        return self.workers or cores()

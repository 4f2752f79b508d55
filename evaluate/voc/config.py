"""What a VOC07 classification is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from genrep.encoders import DEVICES
from genrep.errors import one_of
from genrep.evaluate.encoders import check_encoder_choice

from .layout import MEASURABLE

SPLITS = ("trainval/test", "train/val")  # fitted on / tested on
PROTOCOLS = ("default", "genrep")
COSTS = tuple(
    sorted([10.0**k for k in range(-7, 3)] + [0.5**k for k in range(4, 20)])
)  # 26, as GenRep's script has them


@dataclass(frozen=True, kw_only=True)
class Voc07Config:
    """Settings of a VOC07 classification (GenRep, COP-Gen)."""

    data: Path  # a folder in VOC's layout
    out: Path
    encoder: str | Path | None = None
    random_init: bool = False
    arch: str | None = None
    stem: str = "imagenet"
    protocol: str = (
        "default"  # default: VOC's own rules; genrep: difficult objects count as any other, area under the curve
    )
    split: str | None = None  # None: trainval/test; under genrep train/val, which its figures are of
    classes: tuple[str, ...] = ()  # none: those of both splits, sorted; ("measurable",): of these what can be measured
    size: int = 224  # pixels of the shorter side, and of the central square
    batch_size: int = 64  # of the forward pass; not a matter of the result
    workers: int | None = None  # processes that fit; None: one per core
    seed: int = 0  # of liblinear's order of coordinates, and of --random-init
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_encoder_choice(encoder=self.encoder, random_init=self.random_init, arch=self.arch, stem=self.stem)
        for name, value, known in (
            ("protocol", self.protocol, PROTOCOLS),
            ("split", self.split, (None, *SPLITS)),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise ValueError(f"--{name} {value!r}: wanted one of {one_of(value, known)}")
        for name, count in (("size", self.size), ("batch-size", self.batch_size), ("workers", self.workers)):
            if count is not None and count < 1:
                raise ValueError(f"--{name} {count}: wanted at least 1")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"--classes {','.join(self.classes)}: names a class twice")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^63 - 1")

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
        return self.workers or len(os.sched_getaffinity(0))

"""What a detection run is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genrep.encoders import DEVICES, PRECISIONS
from genrep.errors import one_of
from genrep.evaluate.encoders import check_encoder_choice
from genrep.evaluate.voc.choice import MEASURABLE

from .presets import PRESETS, Preset

NORMS = ("batch", "frozen")
OVERRIDES = ("steps", "batch_size", "lr", "warmup", "clip_norm", "min_sizes", "max_size", "test_size", "precision")


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """Settings of a detection run; what is None is the preset's."""

    data: tuple[Path, ...]  # folders in VOC's layout, trained on together
    out: Path
    test_data: Path | None = None  # None: the first of ``data``
    train_split: str = "trainval"
    test_split: str = "test"
    classes: tuple[str, ...] = ()  # none: those of both splits; ("measurable",): of these what can be measured
    encoder: str | Path | None = None
    random_init: bool = False
    arch: str | None = None
    stem: str = "imagenet"
    preset: str = "genrep-24k"
    norm: str = (
        "batch"  # batch norm, over all processes; or frozen: the encoder's statistics and gains stay as they are
    )
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    warmup: int | None = None
    clip_norm: float | None = None
    min_sizes: tuple[int, ...] = ()
    max_size: int | None = None
    test_size: int | None = None
    precision: str | None = None
    seed: int = 0
    device: str = "auto"
    workers: int = 4  # threads that decode and resize images
    checkpoint_every: int = 500  # steps
    log_every: int = 20  # steps
    force: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_encoder_choice(encoder=self.encoder, random_init=self.random_init, arch=self.arch, stem=self.stem)
        for name, value, known in (
            ("preset", self.preset, PRESETS),
            ("norm", self.norm, NORMS),
            ("device", self.device, DEVICES),
            ("precision", self.precision, (None, *PRECISIONS)),
        ):
            if value not in known:
                raise ValueError(f"--{name} {value!r}: wanted one of {one_of(value, known)}")
        if not self.data:
            raise ValueError("--data: wanted at least one folder")
        for name in ("steps", "batch_size", "workers", "checkpoint_every", "log_every", "max_size", "test_size"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"--{name.replace('_', '-')} {count}: wanted at least 1")
        for name in ("lr", "clip_norm"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} {rate}: wanted a positive number")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"--classes {','.join(self.classes)}: names a class twice")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^63 - 1")

    @property
    def measurable(self) -> bool:
        """Whether the classes are those of both splits that can be measured."""
        return self.classes == (MEASURABLE,)

    def resolved(self) -> Preset:
        """The preset with what was asked for instead; one length only for the longer side of training and test."""
        given = {name: value for name in OVERRIDES if (value := getattr(self, name)) not in (None, ())}
        if "max_size" in given:
            given["test_max_size"] = given["max_size"]
        return replace(PRESETS[self.preset], **given)

    def to_json(self) -> dict[str, Any]:
        """What ``--dry-run`` prints."""
        return {**vars(self), "resolved": asdict(self.resolved())}

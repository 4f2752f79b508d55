"""What a detection run is asked for, and how detectors are trained: the papers' settings, and a small one for a CPU.

Where no source is named a value is detectron2's default for Faster R-CNN R50-C4, which the papers' configs build on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genrep.encoders import DEVICES, PRECISIONS
from genrep.errors import one_of
from genrep.evaluate.encoders import check_encoder_choice
from genrep.evaluate.voc.layout import MEASURABLE


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that decides what a detector becomes, besides its encoder, data and seed."""

    source: str
    batch_size: int  # images per step, over all processes
    lr: float  # of SGD, at this batch size
    steps: int
    decay_at: tuple[float, ...] = (0.75, 11 / 12)  # parts of the steps after which the rate falls to a tenth
    warmup: int = 100  # steps; linear from a thousandth of the rate
    momentum: float = 0.9
    weight_decay: float = 1e-4  # not on the parameters of normalisation layers
    clip_norm: float | None = None  # largest norm of all gradients together
    min_sizes: tuple[int, ...] = tuple(range(480, 801, 32))  # shorter side in training, drawn for every image
    max_size: int = 1333  # longer side; the shorter becomes less than asked for where this binds
    test_size: int = 800
    test_max_size: int = 1333
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)  # sides in pixels; each in the ratios .5, 1 and 2
    pool: int = 14  # side of what RoIAlign takes out of a region; res5 halves it
    rois: int = 512  # regions per image in training, a quarter of them objects
    rpn_train: tuple[int, int] = (12000, 2000)  # proposals per image before and after non-maximum suppression
    rpn_test: tuple[int, int] = (6000, 1000)  # Base-RCNN-C4-BN of MoCo, GenRep and COP-Gen
    precise_bn: int = 200  # batches that the statistics of batch norm are measured on before the test
    precision: str = "fp32"


PRESETS = {
    "genrep-24k": Preset(
        source="GenRep, pascal_voc_R_50_C4_24k_transfer: 8 images, lr .02, 24,000 steps, decay at 18,000 and 22,000",
        batch_size=8,
        lr=0.02,
        steps=24_000,
    ),
    "cop-gen-96k": Preset(
        source="COP-Gen's command: 4 images, lr .005, 96,000 steps, decay at 72,000 and 88,000, warm-up 400, longer side 1,024",
        batch_size=4,
        lr=0.005,
        steps=96_000,
        warmup=400,
        max_size=1024,
    ),
    "small": Preset(
        source="ours: a ResNet-18 on a few hundred images, half an hour on one core",
        batch_size=4,
        lr=0.02,
        steps=1_000,
        clip_norm=10.0,
        min_sizes=(240, 256, 272, 288, 304, 320),
        max_size=427,
        test_size=320,
        test_max_size=427,
        anchors=(16, 32, 64, 128, 256),
        pool=7,
        rois=32,
        rpn_train=(2000, 500),
        rpn_test=(1000, 300),
        precise_bn=50,
        precision="auto",
    ),
}


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

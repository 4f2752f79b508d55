"""Settings of a detection run and of the detector's training: the papers', and a small set for a CPU.

A value without a named source is detectron2's default for Faster R-CNN R50-C4, on which the papers' configs build.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genrep.encoders import PRECISIONS
from genrep.errors import ConfigError
from genrep.evaluate.settings import (
    EncoderChoice,
    class_names,
    device_setting,
    force_setting,
)
from genrep.evaluate.voc.layout import MEASURABLE
from genrep.settings import MOST_SEED, config, setting


@dataclass(frozen=True, kw_only=True)
class DetectionPreset:
    """Every setting that determines the detector, except its encoder, data and seed."""

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
    "genrep-24k": DetectionPreset(
        source="GenRep, pascal_voc_R_50_C4_24k_transfer: 8 images, lr .02, 24,000 steps, decay at 18,000 and 22,000",
        batch_size=8,
        lr=0.02,
        steps=24_000,
    ),
    "cop-gen-96k": DetectionPreset(
        source="COP-Gen's command: 4 images, lr .005, 96,000 steps, decay at 72,000 and 88,000, warm-up 400, longer side 1,024",
        batch_size=4,
        lr=0.005,
        steps=96_000,
        warmup=400,
        max_size=1024,
    ),
    "small": DetectionPreset(
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


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError.naming("{min_sizes} {}: wanted whole numbers with commas between", text) from None


@config
class DetectionConfig(EncoderChoice):
    """Settings of a detection run. None takes the preset's value."""

    data: tuple[Path, ...] = setting(
        default=(),
        metavar="DIR",
        help="Folder in Pascal VOC's layout to train on. Repeat it for several, such as VOC2007 and VOC2012.",
    )
    test_data: Path | None = setting(
        default=None, metavar="DIR", help="Folder in Pascal VOC's layout to test on.  [default: the first --data]"
    )
    train_split: str = setting(
        default="trainval", text=True, metavar="NAME", help="List of training images in ImageSets/Main."
    )
    test_split: str = setting(default="test", text=True, metavar="NAME", help="List of test images in ImageSets/Main.")
    classes: tuple[str, ...] = setting(
        default=(),
        metavar="A,B,…|measurable",
        parse=class_names,
        help="Classes to detect; others are dropped. measurable: all classes with objects in both splits.  "
        "[default: all]",
    )
    out: Path  # required, but for --export-detectron2
    preset: str = setting(
        default="genrep-24k", choices=PRESETS, help="Settings of a paper; small: ours, half an hour on a CPU."
    )
    norm: str = setting(
        default="batch",
        choices=NORMS,
        help="Batch norm of the detector. batch: trained, over the images of all processes. frozen: the "
        "encoder's statistics and gains stay fixed.",
    )
    steps: int | None = setting(default=None, least=1, help="Number of updates.  [default: the preset's]")
    batch_size: int | None = setting(
        default=None,
        least=1,
        metavar="IMAGES",
        help="Images per update, summed over all processes.  [default: the preset's]",
    )
    lr: float | None = setting(
        default=None, above=0, help="Learning rate of SGD at this batch size.  [default: the preset's]"
    )
    warmup: int | None = setting(
        default=None, least=0, metavar="STEPS", help="Steps of linear warm-up.  [default: the preset's]"
    )
    clip_norm: float | None = setting(
        default=None, above=0, help="Clip the gradients to this norm.  [default: the preset's]"
    )
    min_sizes: tuple[int, ...] = setting(
        default=(),
        metavar="PIXELS,…",
        parse=_sizes,
        help="Shorter sides of training images; one is drawn for each image.  [default: the preset's]",
    )
    max_size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Largest longer side of training and test images.  [default: the preset's]",
    )
    test_size: int | None = setting(
        default=None, least=1, metavar="PIXELS", help="Shorter side of test images.  [default: the preset's]"
    )
    precision: str | None = setting(
        default=None,
        choices=PRECISIONS,
        help="Number format of the convolutions. auto: bf16 where the device computes in it natively, else "
        "fp32.  [default: the preset's]",
    )
    seed: int = setting(
        default=0,
        least=0,
        most=MOST_SEED,
        help="Seed of the new layers, the order, the augmentation and the weights of --random-init.",
    )
    device: str = device_setting()
    workers: int = setting(default=4, least=1, metavar="THREADS", help="Number of threads that read and resize images.")
    checkpoint_every: int = setting(
        default=500, least=1, metavar="STEPS", help="Steps between checkpoints, from which an interrupted run resumes."
    )
    log_every: int = setting(default=20, least=1, metavar="STEPS", help="Steps between lines of metrics.jsonl.")
    force: bool = force_setting("Replace an earlier result of this dataset, protocol and seed.")

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        if not self.data:
            raise ConfigError.naming("{data}: wanted at least one folder")
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError.naming("{classes} {}: names a class twice", ",".join(self.classes))

    @property
    def measurable(self) -> bool:
        """Whether the classes are those of both splits that can be measured."""
        return self.classes == (MEASURABLE,)

    def resolved(self) -> DetectionPreset:
        """The preset with what was asked for instead; one length only for the longer side of training and test."""
        given = {name: value for name in OVERRIDES if (value := getattr(self, name)) not in (None, ())}
        if "max_size" in given:
            given["test_max_size"] = given["max_size"]
        return replace(PRESETS[self.preset], **given)

    def to_json(self) -> dict[str, Any]:
        """The settings that ``--dry-run`` prints."""
        return {**vars(self), "resolved": asdict(self.resolved())}

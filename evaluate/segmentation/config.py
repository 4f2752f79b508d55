"""Settings of a segmentation protocol: the papers', and a small set for a CPU."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genrep.errors import ConfigError
from genrep.evaluate.settings import (
    EncoderChoice,
    cache_setting,
    channels_setting,
    check_seeds,
    class_names,
    device_setting,
    force_setting,
    precision_setting,
    seeds_setting,
)
from genrep.settings import config, setting

MOST_CLASSES = 255  # of masks with 8 bits; index 255 is void


@dataclass(frozen=True, kw_only=True)
class SegmentationPreset:
    """Every setting that determines a result, except encoder, data and seed."""

    source: str
    probe: str  # linear or knn
    size: int  # pixels of the shorter side (linear), or of both (knn)
    # linear
    crop: int = 0
    stride: int = 0  # of the test's windows
    batch_size: int = 16
    steps: int = 0
    lr: float = 1e-3  # of AdamW
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-3
    warmup: float = 0.0375  # part of the steps
    warmup_from: float = 1e-6  # of the rate
    dropout: float = 0.1  # of whole channels
    scales: tuple[float, float] = (0.5, 2.0)  # of ``size``, drawn for every training image
    most_of_class: float = 0.75  # a crop is drawn again, up to ten times, while one class has more of it
    distort: bool = True  # brightness, contrast, saturation and hue
    # knn
    neighbours: tuple[int, ...] = ()
    distances: tuple[str, ...] = ()
    held_out: int = 10  # one in so many training images chooses among them

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0.

        The authors' schedule, as their code has it: a warm-up below a falling line, then the cosine of all steps; their
        scheduler does not move after the first step.

        >>> [round(PRESETS["dinov3"].rate(step) * 1e3, 6) for step in (0, 1, 2, 751, 1500, 1501, 39_999)]
        [1e-06, 1e-06, 0.000668, 0.490625, 0.961883, 0.99653, 0.0]
        """
        at, warm = max(step - 1, 0), round(self.warmup * self.steps)
        if at < warm:
            part = self.warmup_from + (1 - self.warmup_from) * at / warm
            return self.lr * part * (1 - at / self.steps)
        return self.lr * (1 + math.cos(math.pi * (at + 1) / self.steps)) / 2


PRESETS = {
    "dinov3": SegmentationPreset(
        source="DINOv3, config-ade20k-linear-training: 16 images, AdamW lr 1e-3, 40,000 steps, 512 px, windows of stride 341",
        probe="linear",
        size=512,
        crop=512,
        stride=341,
        steps=40_000,
    ),
    "capi": SegmentationPreset(
        source="CAPI, eval_segmentation: 224 px, standardised patches, the best of k 1, 3, 10, 30 by cosine or L2",
        probe="knn",
        size=224,
        neighbours=(1, 3, 10, 30),
        distances=("cosine", "L2"),
    ),
    "small": SegmentationPreset(
        source="ours: the linear head of dinov3 on a few hundred images, minutes on a CPU",
        probe="linear",
        size=128,
        crop=128,
        stride=96,
        batch_size=8,
        steps=500,
        lr=5e-3,
        scales=(0.75, 1.5),
        distort=False,
    ),
}

OF_KNN = ("source", "probe", "size", "neighbours", "distances", "held_out")
OF_LINEAR = tuple(name for name in SegmentationPreset.__dataclass_fields__ if name not in OF_KNN[3:])
OVERRIDES = ("size", "crop", "stride", "steps", "batch_size", "lr", "weight_decay")


@config
class SegmentationConfig(EncoderChoice):
    """Settings of a segmentation protocol. None takes the preset's value."""

    mean: tuple[float, ...] | None = channels_setting("Mean")
    std: tuple[float, ...] | None = channels_setting("Standard deviation")
    data: Path = setting(
        metavar="DIR",
        help="Folder of images and index masks: Pascal VOC's (VOCdevkit/VOC2012), ADE20K's (ADEChallengeData2016), or one with "
        "images/SPLIT/ and masks/SPLIT/, or SPLIT/images/ and SPLIT/masks/.",
    )
    train_split: str | None = setting(
        default=None, text=True, metavar="NAME", help="Training split.  [default: train, or training]"
    )
    test_split: str | None = setting(
        default=None, text=True, metavar="NAME", help="Test split.  [default: test, or val, or validation; of VOC val]"
    )
    classes: tuple[str, ...] = setting(
        default=(),
        metavar="NUMBER|A,B,…",
        parse=class_names,
        help="Number of classes, or their names in the order of their indices in the masks.  [default: those of Pascal VOC or "
        "ADE20K; required for other folders]",
    )
    reduce_zero_label: bool | None = setting(
        default=None,
        help="Index 0 of the masks is void, and 1 the first class.  [default: of ADE20K only]",
    )
    out: Path = setting(metavar="DIR", help="Folder whose segmentation.json receives the result.")
    preset: str = setting(
        default="dinov3",
        choices=PRESETS,
        help="Protocol. dinov3: a linear head on the patches, windows at 512 pixels; capi: nearest neighbours of patches; "
        "small: ours, a linear head in minutes on a CPU.",
    )
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Shorter side of the images; with nearest neighbours both sides.  [default: the preset's]",
    )
    crop: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of training crops and test windows.  [default: the preset's]",
    )
    stride: int | None = setting(
        default=None, least=1, metavar="PIXELS", help="Pixels between test windows.  [default: the preset's]"
    )
    steps: int | None = setting(default=None, least=1, help="Number of updates.  [default: the preset's]")
    batch_size: int | None = setting(
        default=None, least=1, metavar="IMAGES", help="Images per update.  [default: the preset's]"
    )
    lr: float | None = setting(default=None, above=0, help="Learning rate of AdamW.  [default: the preset's]")
    weight_decay: float | None = setting(default=None, least=0, help="Weight decay of AdamW.  [default: the preset's]")
    feature_batch: int = setting(
        default=16, least=1, metavar="IMAGES", help="Images or windows per forward pass where nothing is random."
    )
    precision: str = precision_setting()
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    cache: bool = cache_setting("nearest neighbours' features")
    seeds: tuple[int, ...] = seeds_setting()
    device: str = device_setting()
    checkpoint_every: int = setting(
        default=1000, least=1, metavar="STEPS", help="Steps between checkpoints, from which an interrupted run resumes."
    )
    log_every: int = setting(default=50, least=1, metavar="STEPS", help="Steps between lines of metrics.jsonl.")
    force: bool = force_setting()

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        check_seeds(self.seeds)
        naming = ConfigError.naming
        if isinstance(self.named_classes, int) and not 0 < self.named_classes <= MOST_CLASSES:
            raise naming("{classes} {}: wanted 1 to {}", self.named_classes, MOST_CLASSES)
        if len(set(self.classes)) < len(self.classes) or "" in self.classes:
            raise naming("{classes} {}: wanted different names", ",".join(self.classes))
        if len(self.classes) > MOST_CLASSES:
            raise naming("{classes}: {} names; wanted at most {}", len(self.classes), MOST_CLASSES)
        preset = self.resolved()
        if preset.probe == "knn":
            given = [name for name in OVERRIDES[1:] if getattr(self, name) is not None]
            if given:
                raise naming(f"{{{given[0]}}}: {{preset}} {{}} trains nothing; give another {{preset}}", self.preset)
        elif preset.size < preset.crop:
            raise naming("{crop} {}: wanted at most {size}, {}", preset.crop, preset.size)
        elif preset.stride > preset.crop:
            raise naming("{stride} {}: wanted at most {crop}, {}: windows have to meet", preset.stride, preset.crop)

    @property
    def named_classes(self) -> tuple[str, ...] | int:
        """The classes' names, or their number."""
        one = self.classes[0] if len(self.classes) == 1 else ""
        return int(one) if one.isdecimal() else self.classes

    def resolved(self) -> SegmentationPreset:
        """The preset with what was asked for instead. A crop follows the size, and a stride the crop, in proportion."""
        preset = PRESETS[self.preset]
        given: dict[str, Any] = {name: value for name in OVERRIDES if (value := getattr(self, name)) is not None}
        if preset.probe == "linear" and "size" in given and "crop" not in given:
            given["crop"] = max(1, round(preset.crop * given["size"] / preset.size))
        if preset.probe == "linear" and "crop" in given and "stride" not in given:
            given["stride"] = max(1, int(preset.stride * given["crop"] / preset.crop))
        return replace(preset, **given)

    def to_json(self) -> dict[str, Any]:
        """The settings that ``--dry-run`` prints."""
        return {**vars(self), "resolved": asdict(self.resolved())}

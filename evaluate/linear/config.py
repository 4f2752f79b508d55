"""Settings of a linear probe, and the papers' presets, every number with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genrep.errors import ConfigError
from genrep.evaluate.settings import (
    EncoderChoice,
    cache_setting,
    check_seeds,
    dataset_setting,
    device_setting,
    download_setting,
    force_setting,
    precision_setting,
    root_setting,
    seeds_setting,
)
from genrep.settings import config, setting

from ..transforms import Augmentation, Transform

LR_RULE = 64.0  # `frozen`: the rate is this over the mean squared length of the training features


@dataclass(frozen=True, kw_only=True)
class LinearPreset:
    """How a linear classifier is trained and tested."""

    source: str
    transform: Transform  # of test images
    crop_scale: tuple[float, float] | None = None  # of RandomResizedCrop in training
    flip: bool = False  # in training; comes with the crop
    head: str = "sgd"  # or "lbfgs"
    epochs: int = 60
    batch_size: int = 256
    lr: float | None = None  # at `batch_size`; None: LR_RULE
    lr_grid: tuple[float, ...] = ()  # told beside it
    milestones: tuple[float, ...] = ()  # parts of all epochs at which the rate is divided by ten; none: a cosine
    floor: float = 0.2**3  # the cosine ends at this part of the rate
    weight_decay: float = 0.0
    nesterov: bool = False
    batch_norm: bool = False  # in front of the classifier
    normal_init: bool = False  # weights N(0, 0.01) and no bias; else torch's nn.Linear
    metric: str | None = None  # None: what is usual for the dataset
    long: Mapping[str, int] = field(default_factory=dict)  # epochs on some datasets
    whole: tuple[str, ...] = ()  # datasets whose training images are not cropped
    stretched: tuple[str, ...] = ()  # datasets whose images are made square instead of cropped

    def augmentation(self, dataset: str, transform: Transform) -> Augmentation | None:
        """The random augmentation of training images of a dataset; None if there is none."""
        if self.crop_scale is not None and dataset not in (*self.whole, *self.stretched):
            return Augmentation(scale=self.crop_scale, size=transform.crop or transform.resize)
        return Augmentation(scale=None) if self.flip or self.crop_scale is not None else None

    def transform_of(self, dataset: str) -> Transform:
        """The transform of test images of a dataset."""
        side = self.transform.crop
        if dataset in self.stretched:
            return Transform(resize=side, stretch=True, bicubic=self.transform.bicubic)
        if dataset in self.whole:
            return Transform(resize=side, crop=side, bicubic=self.transform.bicubic)
        return self.transform

    def scale(self, epoch: int, epochs: int) -> float:
        """The part of the learning rate in this epoch, counted from 1.

        The cosine is GenRep's (util.py): the first epoch is one step down already.

        >>> [round(PRESETS["genrep"].scale(e, 4), 3) for e in (1, 2, 3, 4)]
        [0.855, 0.504, 0.153, 0.008]
        >>> [round(PRESETS["vissl"].scale(e, 28), 4) for e in (1, 8, 9, 17, 28)]
        [1.0, 1.0, 0.1, 0.01, 0.001]
        """
        if self.milestones:
            return 0.1 ** sum(epoch - 1 >= round(part * epochs) for part in self.milestones)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2

    def describe_schedule(self) -> str:
        """For a protocol."""
        if self.milestones:
            return "a tenth after " + ", ".join(f"{part:.3g}" for part in self.milestones) + " of the epochs"
        return f"cosine per epoch to {self.floor:g} of lr"


PRESETS = {
    # Ours: features once, epochs of seconds, and a rate that does not favour one scale of features.
    "frozen": LinearPreset(source="genrep", transform=Transform(bicubic=True)),
    # Jahanian et al. 2022, section 4 and appendix: 60 epochs, batch 256, cosine, lr 2 for encoders of generated images and 0.3
    # of real ones; transforms and the cosine's floor of their main_linear.py. Stanford Cars: 100 epochs.
    "genrep": LinearPreset(
        source="GenRep (Jahanian et al. 2022)",
        transform=Transform(resize=128, crop=112),
        crop_scale=(0.2, 1.0),
        lr=2.0,
        lr_grid=(0.3,),
        metric="top-1",
        long={"stanford_cars": 100},
    ),
    # Li et al. 2022, main_linear.py: 128 pixels, val Resize(int(128 / 0.875)); rates of GenRep times 224 / 256.
    "cop-gen": LinearPreset(
        source="COP-Gen (Li et al. 2022)",
        transform=Transform(resize=146, crop=128),
        crop_scale=(0.2, 1.0),
        batch_size=224,
        lr=2.0 * 224 / 256,
        lr_grid=(0.3 * 224 / 256,),
        metric="top-1",
    ),
    # HL's code: lr 30 at batch 256, N(0, 0.01), cosine to a tenth; 100 epochs on Cars and Aircraft.
    "hl": LinearPreset(
        source="HL (hierarchical latents)",
        transform=Transform(resize=128, crop=112),
        crop_scale=(0.2, 1.0),
        lr=30.0,
        floor=0.1,
        normal_init=True,
        metric="top-1",
        long={"stanford_cars": 100, "fgvc_aircraft": 100, "fgvc_aircraft_family": 100},
    ),
    # Chen et al. 2020 (SimCLR), appendix B.8: 224 pixels, bicubic, no augmentation, L-BFGS, 45 strengths of the L2 penalty.
    "simclr-lbfgs": LinearPreset(
        source="SimCLR (Chen et al. 2020), B.8", transform=Transform(resize=224, crop=224, bicubic=True), head="lbfgs"
    ),
    # VISSL 0.1.6, linear_image_classification/*/eval_resnet_8gpu_transfer_*_linear.yaml, by which COP-Gen's table 2 was made:
    # 28 epochs, rates 0.01 … 0.00001 from epochs 8, 16, 24, batch norm in front, top-1; CIFAR whole, SUN397 stretched.
    "vissl": LinearPreset(
        source="VISSL 0.1.6 (COP-Gen, table 2)",
        transform=Transform(resize=256, crop=224),
        crop_scale=(0.08, 1.0),
        epochs=28,
        lr=0.01,
        milestones=(8 / 28, 16 / 28, 24 / 28),
        weight_decay=5e-4,
        nesterov=True,
        batch_norm=True,
        metric="top-1",
        whole=("cifar10", "cifar100"),
        stretched=("sun397", "sun397_80_20"),
    ),
}

L2_GRID = tuple(10 ** (-6 + 11 * k / 44) for k in range(45))  # 45 values from 1e-6 to 1e5 (SimCLR, B.8)
HELD_OUT = 5  # one in so many training images of each class chooses among them


@config
class LinearConfig(EncoderChoice):
    """Settings of a linear probe; None: what the preset says."""

    dataset: str = dataset_setting()
    root: Path | None = root_setting()
    download: bool = download_setting()
    out: Path = setting(metavar="DIR", help="Folder whose linear.json receives the result.")
    preset: str = setting(default="frozen", choices=PRESETS, help="Protocol of the probe: a paper's, or frozen, ours.")
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Resize the shorter side to this.  [default: the preset's; frozen: what the encoder was trained "
        "at, for photos and image folders]",
    )
    crop: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the crops.  [default: the preset's, in proportion to --size]",
    )
    epochs: int | None = setting(
        default=None, least=1, help="Number of passes over the training images.  [default: the preset's; 60 for most]"
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help=f"Learning rate of SGD.  [default: the preset's; frozen: {LR_RULE:g} / mean squared length of the "
        "training features]",
    )
    lr_grid: tuple[float, ...] | None = setting(
        default=None,
        above=0,
        metavar="LR",
        help="Also train a head at this learning rate; it is recorded but is not the result. May be "
        "repeated.  [default: the preset's]",
    )
    batch_size: int | None = setting(
        default=None, least=1, metavar="IMAGES", help="Images per update.  [default: the preset's]"
    )
    feature_batch: int = setting(
        default=256, least=1, metavar="IMAGES", help="Images per forward pass of the encoder where nothing is random."
    )
    precision: str = precision_setting()
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    cache: bool = cache_setting("features")
    seeds: tuple[int, ...] = seeds_setting()
    device: str = device_setting()
    force: bool = force_setting()

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        check_seeds(self.seeds)
        side = self.size or PRESETS[self.preset].transform.resize
        if self.crop is not None and (side is None or self.crop > side):
            raise ConfigError.naming("{crop} {}: wanted at most {size}, {}", self.crop, side or "which is not given")
        given = [name for name in ("epochs", "lr", "lr_grid", "batch_size") if getattr(self, name) is not None]
        if PRESETS[self.preset].head == "lbfgs" and given:
            raise ConfigError.naming(
                f"{{{given[0]}}}: {{preset}} {{}} does not train by SGD; give another {{preset}}", self.preset
            )

"""How a linear classifier is trained and tested: the papers' presets, every number with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..transforms import Augmentation, Transform


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
    rates: tuple[float, ...] = ()  # at batch 256: instead, one is chosen on held-out training images
    blocks: tuple[int, ...] = ()  # heads that read the class tokens of so many last blocks; none: pooled features
    average: tuple[bool, ...] = (True,)  # and the mean of the patches, or not
    milestones: tuple[float, ...] = ()  # parts of all epochs at which the rate is divided by ten; none: a cosine
    floor: float = 0.2**3  # the cosine ends at this part of the rate
    stepwise: bool = False  # a cosine to 0 that falls with every update, after …
    warmup: float = 0.0  # … a linear rise over this part of them
    epoch_length: int | None = None  # updates; None: a pass
    full_batches: bool = False  # a pass leaves its incomplete last batch out
    own_size: bool = False  # pixels in proportion to those that the encoder was trained at
    weight_decay: float = 0.0
    nesterov: bool = False
    lars: bool = False  # steps of SGD scaled by weight norm / gradient norm
    batch_norm: bool = False  # in front of the classifier
    affine: bool = True  # with a gain and a shift
    norm_eps: float = 1e-5
    normal_init: bool = False  # weights N(0, 0.01) and no bias; else torch's nn.Linear
    metric: str | None = None  # None: what is usual for the dataset
    long: Mapping[str, int] = field(default_factory=dict)  # epochs on some datasets
    whole: tuple[str, ...] = ()  # datasets whose training images are not cropped
    stretched: tuple[str, ...] = ()  # datasets whose images are made square instead of cropped

    def augmentation(self, dataset: str, transform: Transform) -> Augmentation | None:
        """The random augmentation of training images of a dataset; None if there is none."""
        if self.crop_scale is not None and dataset not in (*self.whole, *self.stretched):
            bicubic = self.transform.bicubic
            return Augmentation(scale=self.crop_scale, size=transform.crop or transform.resize, bicubic=bicubic)
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

    def scale_at(self, step: int, per_epoch: int, epochs: int) -> float:
        """The part of the learning rate in this update, counted from 0.

        >>> [round(PRESETS["mae"].scale_at(step, 9, 2), 3) for step in (0, 1, 2, 10, 17)]
        [0.0, 0.5, 1.0, 0.5, 0.01]
        """
        if not self.stepwise:
            return self.scale(step // per_epoch + 1, epochs)
        total = epochs * per_epoch
        rise = self.warmup * total
        if step < rise:
            return step / rise
        return (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2

    def describe_schedule(self) -> str:
        """For a protocol."""
        if self.stepwise:
            rise = f"linear over {self.warmup:.3g} of the epochs, then " if self.warmup else ""
            return f"{rise}cosine per update to 0"
        if self.milestones:
            return "a tenth after " + ", ".join(f"{part:.3g}" for part in self.milestones) + " of the epochs"
        return f"cosine per epoch to {self.floor:g} of lr"


CROPS: Any = {  # of the vision transformers' protocols: torchvision's random crops, incomplete batches left out
    "crop_scale": (0.08, 1.0),
    "stepwise": True,
    "full_batches": True,
    "own_size": True,
    "normal_init": True,
    "metric": "top-1",
}
WHOLE_NORM: Any = {"batch_norm": True, "affine": False, "norm_eps": 1e-6}
DINO_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
DINO: Any = {
    "transform": Transform(resize=256, crop=224, bicubic=True),
    "epochs": 10,
    "epoch_length": 1250,
    "batch_size": 128 * 8,
    **CROPS,
}
STABLEREP: Any = {
    "transform": Transform(resize=256, crop=224),
    "epochs": 90,
    "batch_size": 128 * 8,
    "rates": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
    **CROPS,
}

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
    # Oquab et al. 2023 (DINOv2), dinov2/eval/linear.py: batch 128 a GPU, 10 epochs of 1,250 updates, 13 rates times batch/256,
    # SGD .9 without weight decay, the last 1 or 4 blocks with and without the mean of the patches, N(0, 0.01). Its number of
    # GPUs is not in it: 8 make 10 passes over ImageNet of it. They choose on ImageNet's validation images.
    "dinov2": LinearPreset(
        source="DINOv2 (Oquab et al. 2023), eval/linear.py",
        rates=DINO_RATES,
        blocks=(1, 4),
        average=(False, True),
        **DINO,
    ),
    # Siméoni et al. 2025 (DINOv3), dinov3/eval/linear.py: as DINOv2's, with the class token of the last block and the mean of
    # the patches alone. The number of GPUs is not in it; 8 as DINOv2's.
    "dinov3": LinearPreset(
        source="DINOv3 (Siméoni et al. 2025), eval/linear.py", rates=DINO_RATES, blocks=(1,), average=(True,), **DINO
    ),
    # He et al. 2022 (MAE), table 10 and main_linprobe.py: LARS, base rate .1 at batch 16,384, 90 epochs, the first 10 of them a
    # rise, no weight decay, batch norm without gain and shift, N(0, 0.01). Their random crops come from one draw that is cut
    # to fit, ours from torchvision's ten.
    "mae": LinearPreset(
        source="MAE (He et al. 2022), main_linprobe.py",
        transform=Transform(resize=256, crop=224, bicubic=True),
        epochs=90,
        batch_size=16384,
        lr=0.1 * 16384 / 256,
        lars=True,
        warmup=10 / 90,
        **WHOLE_NORM,
        **CROPS,
    ),
    # Tian et al. 2023 (StableRep), StableRep/main_linear.py: 90 epochs, SGD .9 without weight decay, cosine to 0, ten base
    # rates, N(0, 0.01), batch 128 a GPU. The number of GPUs is not in it: 8 are assumed. They choose, every ten epochs, on
    # ImageNet's validation images.
    "stablerep": LinearPreset(source="StableRep (Tian et al. 2023), main_linear.py", **STABLEREP),
    # Tian et al. 2023 (SynCLR), SynCLR/eval/EVALUATE.md: StableRep's code with batch norm (without gain and shift).
    "synclr": LinearPreset(
        source="SynCLR (Tian et al. 2023), eval/EVALUATE.md: StableRep's main_linear.py behind batch norm",
        **STABLEREP,
        **WHOLE_NORM,
    ),
}

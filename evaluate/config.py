"""What a linear probe is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrep.encoders import ARCHS, DEVICES, STEMS

LR_RULE = 64.0  # the default rate is this over the mean squared length of the training features


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Settings of a linear probe; epochs, batch, momentum, weight decay and schedule are GenRep's (papers.md §4.1)."""

    dataset: str  # a name of genrep.real_images.NAMED, or an image folder
    out: Path
    encoder: Path | None = None  # a run folder or an encoder.safetensors; this or random_init
    random_init: bool = False
    arch: str | None = None  # of a random-initialised encoder
    stem: str = "imagenet"
    root: Path | None = None  # where named datasets lie
    download: bool = False
    size: int | None = (
        None  # side that a folder's images are cropped and resized to; None: what the encoder was trained at
    )
    epochs: int = 60
    lr: float | None = None  # of SGD at this batch size; None: probe.default_lr of the training features
    lr_grid: tuple[float, ...] = ()  # further heads on the same features; told beside the result, never chosen from
    batch_size: int = 256
    seed: int = 0
    device: str = "auto"
    force: bool = False  # replace an earlier result of the same dataset, protocol and seed

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        if (self.encoder is None) != self.random_init:
            raise ValueError("--encoder or --random-init: wanted one of the two")
        if self.random_init and self.arch is None:
            raise ValueError("--random-init: wanted --arch beside it")
        if self.encoder is not None and self.arch is not None:
            raise ValueError(f"--arch {self.arch}: the encoder's file says what it is; wanted only with --random-init")
        for name, value, known in (
            ("arch", self.arch, (None, *ARCHS)),
            ("stem", self.stem, STEMS),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise ValueError(f"--{name} {value!r}: wanted one of {', '.join(k for k in known if k)}")
        for name, count in (("epochs", self.epochs), ("batch-size", self.batch_size), ("size", self.size)):
            if count is not None and count < 1:
                raise ValueError(f"--{name} {count}: wanted at least 1")
        for lr in (*self.lr_grid, *([] if self.lr is None else [self.lr])):
            if not 0 < lr < float("inf"):
                raise ValueError(f"--lr {lr}: wanted a positive number")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^63 - 1")

"""What a linear probe is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrep.encoders import DEVICES, PRECISIONS
from genrep.errors import one_of

from ..encoders import check_encoder_choice
from .presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Settings of a linear probe; None: what the preset says."""

    dataset: str  # a name of images.sets.SETS, or an image folder
    out: Path
    encoder: str | Path | None = None  # see evaluate.encoders.open_encoder; this or random_init
    random_init: bool = False
    arch: str | None = None  # of a random-initialised encoder
    stem: str = "imagenet"
    root: Path | None = None  # where named datasets lie
    download: bool = False
    preset: str = "frozen"
    size: int | None = (
        None  # shorter side that images are resized to; `frozen` on folders: what the encoder was trained at
    )
    crop: int | None = None  # side of the central square (and of training's crops)
    epochs: int | None = None
    lr: float | None = None  # of SGD at this batch size
    lr_grid: tuple[float, ...] | None = None  # further heads; told beside the result, never chosen from
    batch_size: int | None = None
    feature_batch: int = 256  # images per forward pass where nothing is random
    precision: str = "fp32"  # of the encoder's forward passes
    workers: int | None = None  # threads that decode; None: one per core
    cache: bool = True  # keep features in out/features/
    seeds: tuple[int, ...] = (0,)  # a result each
    device: str = "auto"
    force: bool = False  # replace earlier results of the same dataset, protocol and seed

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_encoder_choice(encoder=self.encoder, random_init=self.random_init, arch=self.arch, stem=self.stem)
        for name, value, known in (
            ("preset", self.preset, PRESETS),
            ("precision", self.precision, PRECISIONS),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise ValueError(f"--{name} {value!r}: wanted one of {one_of(value, known)}")
        for name in ("epochs", "batch_size", "feature_batch", "size", "crop", "workers"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"--{name.replace('_', '-')} {count}: wanted at least 1")
        side = self.size or PRESETS[self.preset].transform.resize
        if self.crop is not None and (side is None or self.crop > side):
            raise ValueError(f"--crop {self.crop}: wanted at most --size, {side or 'which is not given'}")
        self._check_rates()
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise ValueError(f"--seed {seed}: wanted 0 to 2^63 - 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"--seed {','.join(map(str, self.seeds))}: wanted different numbers, at least one")

    def _check_rates(self) -> None:
        for lr in (*(self.lr_grid or ()), *([] if self.lr is None else [self.lr])):
            if not 0 < lr < float("inf"):
                raise ValueError(f"--lr {lr}: wanted a positive number")
        given = [name for name in ("epochs", "lr", "lr_grid", "batch_size") if getattr(self, name) is not None]
        if PRESETS[self.preset].head == "lbfgs" and given:
            raise ValueError(f"--{given[0].replace('_', '-')}: --preset {self.preset} has no SGD")

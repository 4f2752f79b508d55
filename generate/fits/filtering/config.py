"""What a run of ``genrep-generate fit-filter`` is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..settings import option


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Settings of a discriminator of real against generated images; lengths are counted in real images shown to it."""

    gen: str
    data: str  # an image folder, or a dataset's name (then ``root`` holds it)
    out: Path
    root: Path | None = None
    download: bool = False  # fetch a named dataset that is not under root
    weights: Path | None = None  # of the generator, instead of the recipe's own
    features: Path | None = None  # instance features (IC-GAN)
    truncation: float | None = None  # the generator's own
    images: int | None = None  # None = HL's one epoch: each real image once, but for those that are held out
    batch_size: int = 64  # real images, and as many generated ones
    lr: float = 1e-3  # of Adam
    seed: int = 0
    device: str = "auto"
    checkpoint_images: int = 20_000
    log_every: int = 20  # steps

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        for name, minimum in (
            ("images", 1),
            ("batch_size", 1),
            ("seed", 0),
            ("checkpoint_images", 1),
            ("log_every", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"{option(name)} {value}: wanted at least {minimum}")
        if self.seed >= 1 << 63:
            raise ValueError(f"--seed {self.seed}: wanted less than 2**63")
        for name in ("lr", "truncation"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{option(name)} {value}: wanted a positive number")

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the command line gives."""
        given = {"features": self.features, "truncation": self.truncation}
        return {name: value for name, value in given.items() if value is not None}

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share; weights, features and real images enter by their digests."""
        free = {"data", "out", "root", "download", "weights", "features", "device", "images", "checkpoint_images"}
        return {name: value for name, value in vars(self).items() if name not in free}

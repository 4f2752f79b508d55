"""What a run of ``genrep-generate fit-steer`` is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..settings import option

MAX_SEED = 1 << 63


@dataclass(frozen=True, kw_only=True)
class SteerConfig:
    """Settings of a fit of walks; lengths are counted in samples, of which each is one z with one composed transform.

    The defaults are GenRep's (Jahanian et al. 2022, section 3.2 and the released code).
    """

    gen: str
    out: Path
    weights: Path | None = None  # of the generator, instead of the recipe's own
    features: Path | None = None  # instance features (IC-GAN)
    truncation: float | None = None  # the generator's own
    samples: int = 160_000
    batch_size: int = 32
    lr: float = 1e-3  # of Adam
    seed: int = 0
    device: str = "auto"
    checkpoint_samples: int = 20_000  # a checkpoint and a new picture
    log_every: int = 50  # steps
    measure_images: int = 256  # anchors on which the effect of the walks is measured in the end; 0 = not at all

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        minima = {
            "samples": 1,
            "batch_size": 1,
            "seed": 0,
            "checkpoint_samples": 1,
            "log_every": 1,
            "measure_images": 0,
        }
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{option(name)} {getattr(self, name)}: wanted at least {minimum}")
        if self.seed >= MAX_SEED:
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
        """The settings that a resumed run must share; weights and features enter by their digests."""
        free = {"out", "weights", "features", "device", "samples", "checkpoint_samples", "measure_images"}
        return {name: value for name, value in vars(self).items() if name not in free}

"""The settings of a build from a generator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import RecipeError

MAX_POSITIVES = 64
PART = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of ``genrep-generate dataset``. None leaves the choice to the recipe or the machine."""

    gen: str = "stylegan2_fashion"
    out: Path = Path("shards")
    num_pairs: int = 10_000
    views: str | None = None
    num_positives: int = 1
    encoding: str | None = None
    shard_size: str | None = None  # "4096" pairs or "512MB"
    seed: int = 0
    weights: str | None = None
    features: str | None = None  # file of instance features (IC-GAN)
    classes: str = "all"  # "all", "0-99", a preset or a file
    truncation: float | None = None  # the generator's own (psi of StyleGAN2)
    filter: str | None = None  # "keep=0.5,weights=FILE" of fit-filter
    # From here on: how, not what. None of it changes a latent.
    batch_size: int | None = None  # None = as large as the memory allows, from START_BATCH_SIZE down
    device: str = "auto"
    processes: int | None = None
    encoders: int | None = None  # processes that encode and write beside one that generates; 0 = none
    part: str | None = None  # "K/N": only the shards i with i = K mod N, for array jobs
    threads: int = 1  # of each process

    def __post_init__(self) -> None:
        for name, minimum in (("num_pairs", 1), ("num_positives", 1), ("batch_size", 1), ("threads", 1), ("seed", 0)):
            if getattr(self, name) is not None and getattr(self, name) < minimum:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: wanted at least {minimum}")
        if self.num_positives > MAX_POSITIVES:
            raise RecipeError(f"--num-positives {self.num_positives}: wanted at most {MAX_POSITIVES}")
        if self.seed >= 1 << 63:
            raise RecipeError(f"--seed {self.seed}: wanted less than 2**63")
        if self.processes is not None and self.processes < 1:
            raise RecipeError(f"--processes {self.processes}: wanted at least 1")
        if self.encoders is not None and self.encoders < 0:
            raise RecipeError(f"--encoders {self.encoders}: wanted at least 0")
        if self.encoders and (self.processes or 1) > 1:
            raise RecipeError(f"--encoders {self.encoders}: goes with --processes 1, one generating process")
        parse_part(self.part)

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the command line gives."""
        given = {"features": self.features, "truncation": self.truncation}
        return {name: value for name, value in given.items() if value is not None}


def parse_part(text: str | None) -> tuple[int, int]:
    """``K/N`` -> (K, N), 0 <= K < N; None is the whole, (0, 1).

    Raises:
        RecipeError: anything else.
    """
    if text is None:
        return 0, 1
    match = PART.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]):
        raise RecipeError(f"--part {text!r}: wanted K/N with 0 <= K < N")
    return int(match[1]), int(match[2])

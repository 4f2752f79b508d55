"""What ``genrep-generate preview`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = {"num_anchors": 64, "num_positives": 64, "columns": 40, "seed": (1 << 63) - 1}
MOST_DISTANCES, LARGEST_DISTANCE = 64, 1e6


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Settings of a sheet of anchors and positives. The pairs are those of ``genrep-generate dataset``, from pair 0 on."""

    gen: str
    out: Path  # FILE.png
    views: tuple[str, ...] = ()  # a group of columns each; none = the recipe's own, with distances a random direction
    compare: bool = False  # beside them, the papers' random views that this generator admits
    chunks: str | None = None  # "each": every chunk, or every group of W layers, moved alone (HL, Figure 2)
    distances: tuple[float, ...] = ()  # a column each, along the direction of the first positive (COP-Gen, Figure 2)
    num_anchors: int = 6
    num_positives: int = 4  # not with distances
    seed: int = 0
    columns: int | None = None  # of positives side by side, at most; None = as many as can be seen well
    weights: Path | None = None  # of the generator, instead of the recipe's own
    features: Path | None = None  # instance features (IC-GAN)
    classes: str = "all"
    truncation: float | None = None  # the generator's own
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        for name, most in MOST.items():
            value, least = getattr(self, name), 0 if name == "seed" else 1
            if value is not None and not least <= value <= most:
                raise ValueError(f"--{name.replace('_', '-')} {value}: wanted {least} to {most}")
        if self.out.suffix != ".png":
            raise ValueError(f"--out {self.out}: wanted a name that ends in .png")
        if self.chunks not in (None, "each"):
            raise ValueError(
                f"--chunks {self.chunks!r}: wanted each; one part alone is --views hierarchical:over=chunks,1-5=gaussian"
            )
        if len(self.distances) > MOST_DISTANCES:
            raise ValueError(f"--distances: {len(self.distances)} of them, wanted at most {MOST_DISTANCES}")
        for distance in self.distances:
            if not 0 < distance <= LARGEST_DISTANCE:
                raise ValueError(f"--distances {distance:g}: wanted positive numbers such as .5,1,2,4, to 1e6")

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the command line gives."""
        given = {"features": self.features, "truncation": self.truncation}
        return {name: value for name, value in given.items() if value is not None}


def parse_distances(text: str | None) -> tuple[float, ...]:
    """``.5,1,2,4`` as numbers; None is none. Raises ValueError, naming the option."""
    if text is None:
        return ()
    try:
        return tuple(float(item) for item in text.split(","))
    except ValueError:
        raise ValueError(f"--distances {text!r}: wanted positive numbers such as .5,1,2,4") from None

"""Settings of ``genrep-generate preview``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from genrep.errors import ConfigError
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import device, features, generator, generator_options, guidance, prompts, steps, truncation, weights

MOST_DISTANCES, LARGEST_DISTANCE = 64, 1e6


@config
class PreviewConfig:
    """Settings of a sheet of anchors and positives. The pairs are those of ``genrep-generate dataset``, from pair 0 on."""

    gen: str = generator(default="stylegan2_fashion")
    weights: str | Path | None = weights()
    features: Path | None = features()
    classes: str = setting(
        default="all",
        metavar="all|0-99|PRESET|FILE",
        help="Classes of a class-conditional generator, taken in turn: numbers, a preset such as imagenet100, or "
        "a file "
        "with a class per line.",
    )
    prompts: Path | None = prompts("Prompts of a text-to-image generator: a prompt per line, or GROUP<TAB>PROMPT.")
    truncation: float | None = truncation()
    guidance: float | None = guidance()
    steps: int | None = steps()
    views: tuple[str, ...] = setting(  # none: the recipe's own; with distances, a random direction
        default=(),
        metavar="NAME:KEY=VALUE,...",
        help="Latent view that makes the positives; repeat it to see several side by side.  [default: the recipe's]",
    )
    compare: bool = setting(default=False, help="Also show the papers' random views that this generator supports.")
    chunks: str | None = setting(
        default=None,
        metavar="each",
        text=True,
        help="Move each chunk of the latent, or each group of W layers, on its own (HL, Figure 2).",
    )
    distances: str | Sequence[float] = setting(
        default=(),
        metavar=".5,1,2,4",
        parse=str,  # read below, where the error is the setting's own
        help="Show positives at these distances instead, in a random direction or in that of the view (COP-Gen, "
        "Figure 2).",
    )
    out: Path = setting(metavar="FILE.png", help="File for the picture.")
    num_anchors: int = setting(
        default=6, least=1, most=64, show_range=False, metavar="N", help="Number of anchors, one per row."
    )
    num_positives: int = setting(
        default=4, least=1, most=64, show_range=False, metavar="K", help="Positives per view; not with --distances."
    )
    columns: int | None = setting(
        default=None,
        least=1,
        most=40,
        show_range=False,
        metavar="N",
        help="Most positives side by side.  [default: as many as are legible]",
    )
    seed: int = setting(default=0, least=0, most=MOST_SEED, show_range=False, help="Seed of the latents.")
    device: str = device()

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.out.suffix != ".png":
            raise ConfigError.naming("{out} {}: wanted a name that ends in .png", self.out)
        if self.chunks not in (None, "each"):
            raise ConfigError.naming(
                "{chunks} {!r}: wanted each; one part alone is {views} hierarchical:over=chunks,1-5=gaussian",
                self.chunks,
            )
        if isinstance(self.distances, str):
            object.__setattr__(self, "distances", _numbers(self.distances))
        if len(self.distances) > MOST_DISTANCES:
            raise ConfigError.naming("{distances}: {} of them, wanted at most {}", len(self.distances), MOST_DISTANCES)
        for distance in self.at:
            if not 0 < distance <= LARGEST_DISTANCE:
                raise ConfigError.naming("{distances} {:g}: wanted positive numbers such as .5,1,2,4, to 1e6", distance)

    @property
    def at(self) -> tuple[float, ...]:
        """The distances as numbers."""
        return cast(tuple[float, ...], self.distances)

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)


def _numbers(text: str) -> tuple[float, ...]:
    """Read ``.5,1,2,4``. Raises ConfigError."""
    try:
        return tuple(float(item) for item in text.split(","))
    except ValueError:
        raise ConfigError.naming("{distances} {!r}: wanted positive numbers such as .5,1,2,4", text) from None

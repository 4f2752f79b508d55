"""Settings of ``genrep-generate measure-gan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genrep.errors import ConfigError
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import device, download, generator, generator_options, guidance, root, steps, truncation


@config
class MeasureGanConfig:
    """Settings of a comparison of a generator with the real images that it was trained on."""

    gen: str | None = generator(
        help="Generator: a recipe's name, a recipe file or a Python factory.  [default: told by --weights]",
        default=None,
    )
    weights: Path | None = setting(
        default=None,
        metavar="FILE|RUN",
        help="Weights of the generator: a file, or the folder of a run of fit-gan or fit-diffusion.  [default: the recipe's]",
    )
    truncation: float | None = truncation()
    guidance: float | None = guidance()
    steps: int | None = steps()
    data: str = setting(metavar="NAME|DIR", help="Dataset that the generator was trained on.")
    root: Path | None = root()
    download: bool = download()
    out: Path = setting(metavar="FILE.json", help="File for the result.")
    num_images: int = setting(
        default=10_000, least=100, metavar="N", help="Number of images of each kind: generated, training, test."
    )
    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Seed of the classifier and of the latents.")
    device: str = device()

    def __post_init__(self) -> None:
        if self.gen is None and self.weights is None:
            raise ConfigError.naming("{gen}: wanted a generator, or its {weights}")

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

"""Settings of ``genrep-generate fit-gan`` and ``measure-gan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genrep.encoders import PRECISIONS
from genrep.files import sha256_file
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import device, download, root, training_data, training_size


def seed(help: str) -> Any:
    """The setting ``seed``."""
    return setting(default=0, least=0, most=MOST_SEED, help=help)


@config
class FitGanConfig:
    """Settings of a StyleGAN2 training run. Lengths are counted in images shown to the discriminator."""

    data: str = training_data()
    root: Path | None = root()
    download: bool = download()
    size: int | None = training_size()
    out: Path = setting(metavar="DIR", help="Folder of the run.")
    classes: bool = setting(default=False, negatable=True, show_default=True, help="Train a class-conditional network.")
    total_images: int = setting(default=1_000_000, least=1, metavar="N", help="Images to train on.")
    batch_size: int = setting(default=64, least=4, help="Images per step.")
    z_dim: int = setting(default=128, least=1, help="Components of the latent z.")
    w_dim: int = setting(default=128, least=1, help="Components of the mapped latent w.")
    mapping_layers: int = setting(default=2, least=1, help="Layers of the mapping network.")
    channel_base: int = setting(
        default=512,
        least=1,
        help="Channels of a layer are the smaller of this divided by its resolution, and --channel-max.",
    )
    channel_max: int = setting(default=128, least=1, help="Most channels of a layer; see --channel-base.")
    lr: float = setting(default=0.0025, above=0, help="Learning rate of Adam.")
    r1_gamma: float = setting(default=0.02, least=0, help="Weight of the R1 penalty on the discriminator.")
    r1_interval: int = 16  # discriminator steps
    ema_halflife: int = 20_000  # images
    ema_rampup: float = 0.05  # the half-life is at most this fraction of the images seen
    style_mixing: float = setting(
        default=0.0, least=0, most=1, metavar="PROBABILITY", help="Probability that an image mixes two latents."
    )
    augment: str = setting(
        default="none", choices=("none", "ada"), help="ada: adaptive discriminator augmentation, for small datasets."
    )
    init: Path | None = setting(
        default=None,
        metavar="FILE",
        help="checkpoint.pt of another run; tensors whose names and shapes agree start from it.  [default: from "
        "scratch]",
    )
    mirror: bool = setting(default=False, help="Mirror images at random.")
    precision: str = setting(
        default="auto",
        choices=PRECISIONS,
        help="Precision of activations; auto is bf16 on devices with native support.",
    )
    compile: bool = setting(
        default=False, help="Use torch.compile: a minute to start, about 1.2 times as fast on a CPU."
    )
    seed: int = seed("Seed of the run.")
    device: str = device()
    snapshot_images: int = setting(  # also the interval of progress lines
        default=50_000, least=1, metavar="N", help="Images between checkpoints; each also writes a sheet of samples."
    )

    def identity(self) -> dict[str, object]:
        """The settings that a resumed run must share."""
        free = {"out", "root", "download", "device", "compile", "snapshot_images", "total_images"}
        settings = {name: value for name, value in vars(self).items() if name not in free}
        return {**settings, "init": None if self.init is None else sha256_file(self.init)}

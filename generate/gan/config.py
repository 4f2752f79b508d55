"""What ``genrep-generate fit-gan`` and ``measure-gan`` are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genrep.encoders import PRECISIONS
from genrep.files import sha256_file
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import device, download, root


def seed() -> Any:
    """The setting ``seed``."""
    return setting(default=0, least=0, most=MOST_SEED)


@config
class FitGanConfig:
    """Settings of a StyleGAN2 training run. Lengths are counted in images shown to the discriminator."""

    data: str = setting(metavar="NAME|DIR", help="fashion_mnist, cifar10, or an image folder.")
    root: Path | None = root()
    download: bool = download()
    size: int | None = setting(
        default=None, least=4, metavar="PIXELS", help="Crop and resize an image folder's images to this."
    )
    out: Path = setting(metavar="DIR", help="The run's folder.")
    classes: bool = setting(default=False, negatable=True, show_default=True, help="Train a class-conditional network.")
    total_images: int = setting(default=1_000_000, least=1, metavar="N", help="Length of training.")
    batch_size: int = setting(default=64, least=4, help="Images per step.")
    z_dim: int = setting(default=128, least=1, help="Size of the latent.")
    w_dim: int = setting(default=128, least=1, help="Size of the mapped latent.")
    mapping_layers: int = setting(default=2, least=1, help="Of the mapping network.")
    channel_base: int = setting(default=512, least=1, help="Channels are min(base / resolution, max).")
    channel_max: int = setting(default=128, least=1, help="See --channel-base.")
    lr: float = setting(default=0.0025, above=0, help="Learning rate.")
    r1_gamma: float = setting(default=0.02, least=0, help="Weight of R1.")
    r1_interval: int = 16  # discriminator steps
    ema_halflife: int = 20_000  # images
    ema_rampup: float = 0.05  # the half-life is at most this fraction of the images seen
    style_mixing: float = setting(
        default=0.0, least=0, most=1, metavar="PROBABILITY", help="Of two latents in one image."
    )
    augment: str = setting(default="none", choices=("none", "ada"), help="Adaptive augmentation for small sets.")
    init: Path | None = setting(
        default=None,
        metavar="FILE",
        help="checkpoint.pt of another run to start from, where names and shapes agree.",
    )
    mirror: bool = setting(default=False, help="Add mirrored images.")
    precision: str = setting(default="auto", choices=PRECISIONS, help="Of activations.")
    compile: bool = setting(
        default=False, help="Use torch.compile (a minute to start, about 1.2 times the speed on a CPU)."
    )
    seed: int = seed()
    device: str = device("auto, cpu, cuda, ...")
    snapshot_images: int = setting(  # and a line of progress
        default=50_000, least=1, metavar="N", help="Checkpoint and sample sheet every N."
    )

    def identity(self) -> dict[str, object]:
        """The settings that a resumed run must share."""
        free = {"out", "root", "download", "device", "compile", "snapshot_images", "total_images"}
        settings = {name: value for name, value in vars(self).items() if name not in free}
        return {**settings, "init": None if self.init is None else sha256_file(self.init)}


@config
class MeasureGanConfig:
    """Settings of a comparison of a generator with the real images that it was trained on."""

    weights: Path = setting(metavar="FILE", help="generator.safetensors of a fit-gan run.")
    data: str = setting(metavar="NAME|DIR", help="The dataset that the generator was trained on.")
    root: Path | None = root()
    download: bool = download()
    out: Path = setting(metavar="FILE.json", help="The result.")
    num_images: int = setting(default=10_000, least=100, metavar="N", help="Of each kind.")
    seed: int = seed()
    device: str = setting(default="auto", text=True)

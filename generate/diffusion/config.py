"""Settings of ``genrep-generate fit-diffusion``."""

from __future__ import annotations

from pathlib import Path

from genrep.encoders import PRECISIONS
from genrep.errors import ConfigError
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import device, download, root, training_data, training_size


def _numbers(text: str) -> tuple[int, ...]:
    """``16,32`` as numbers. Raises ValueError."""
    return tuple(int(part) for part in text.split(","))


@config
class FitDiffusionConfig:
    """Settings of the training of a denoiser by flow matching. Lengths are counted in training images shown to it."""

    data: str = training_data()
    root: Path | None = root()
    download: bool = download()
    size: int | None = training_size()
    out: Path = setting(metavar="DIR", help="Folder of the run; receives the model folder's files.")
    classes: bool = setting(
        default=True, negatable=True, show_default=True, help="Train a class-conditional denoiser, with a null class."
    )
    drop_class: float = setting(
        default=0.1,
        least=0,
        below=1,
        metavar="PROBABILITY",
        help="Probability that an image is shown with the null class instead of its own, for classifier-free guidance.",
    )
    total_images: int = setting(default=1_000_000, least=1, metavar="N", help="Images to train on.")
    decay: float = setting(
        default=0.4,
        least=0,
        most=1,
        metavar="FRACTION",
        help="Last part of the training, in which the learning rate falls linearly to zero.",
    )
    batch_size: int = setting(default=64, least=1, help="Images per step.")
    channels: tuple[int, ...] = setting(
        default=(16, 32, 64, 128),
        least=1,
        metavar="N,N,…",
        parse=_numbers,
        show_default="16,32,64,128",
        help="Channels of each resolution, from the full one down; each has half the side of the one before.",
    )
    layers: int = setting(default=1, least=1, help="Residual blocks of each resolution.")
    attention: int = setting(
        default=8,
        least=0,
        metavar="PIXELS",
        help="Side of the resolution that has self-attention, as the middle has; 0 = none.",
    )
    norm_groups: int = setting(default=8, least=1, help="Groups of the group normalisation; divides --channels.")
    embedding: int = setting(default=128, least=1, help="Components of the embedding of time and class.")
    lr: float = setting(default=0.0015, above=0, help="Learning rate of AdamW.")
    warmup_images: int = setting(default=20_000, least=0, metavar="N", help="Images in which the learning rate rises.")
    ema_halflife: int = 50_000  # images
    ema_rampup: float = 0.05  # the half-life is at most this fraction of the images seen
    mirror: bool = setting(default=False, help="Mirror images at random.")
    precision: str = setting(
        default="auto",
        choices=PRECISIONS,
        help="Precision of activations; auto is bf16 on devices with native support.",
    )
    compile: bool = setting(default=False, help="Use torch.compile: minutes to start, then faster.")
    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Seed of the run.")
    device: str = device()
    snapshot_images: int = setting(  # also the interval of progress lines
        default=50_000, least=1, metavar="N", help="Images between checkpoints; each also writes a sheet of samples."
    )

    def __post_init__(self) -> None:
        for width in self.channels:
            if width % self.norm_groups:
                raise ConfigError.naming("{channels} {}: wanted multiples of {norm_groups} {}", width, self.norm_groups)

    def identity(self) -> dict[str, object]:
        """The settings that a resumed run must share. The end may move: the learning rate falls before the new one."""
        free = {"out", "root", "download", "device", "compile", "snapshot_images", "total_images"}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if name not in free
        }

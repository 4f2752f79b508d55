"""Settings of ``genrep-evaluate source``."""

from __future__ import annotations

from pathlib import Path

from genrep.errors import ConfigError
from genrep.evaluate.settings import EncoderChoice, cache_setting, device_setting, download_setting, root_setting
from genrep.settings import MOST_SEED, config, setting


@config
class SourceConfig(EncoderChoice):
    """Settings of a comparison of datasets with real images."""

    sources: tuple[Path, ...]  # folders of shards
    real: str = setting(metavar="NAME|DIR", help="Real images: a named dataset, or an image folder.")
    root: Path | None = root_setting()
    download: bool = download_setting()
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Resize the shorter side of every image to this and crop the central square.  [default: as stored]",
    )
    images: int = setting(
        default=10_000,
        least=10,
        metavar="N",
        help="Number of images of each dataset and of the real training images. All get the smallest number that one has.",
    )
    out: Path = setting(metavar="DIR", help="Folder for source.json and source.md.")
    feature_batch: int = setting(default=256, least=1, metavar="IMAGES", help="Images per forward pass.")
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    cache: bool = cache_setting("the features")
    seed: int = setting(
        default=0, least=0, most=MOST_SEED, help="Seed of the choice of images, and of the weights of --random-init."
    )
    device: str = device_setting()

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        names = [path.resolve() for path in self.sources]
        if not names or len(set(names)) < len(names):
            text = " ".join(map(str, self.sources)) or "none"
            raise ConfigError(f"datasets {text}: wanted at least one, and each of them once")
        self.check_choice()

"""Settings of a linear probe."""

from __future__ import annotations

from pathlib import Path

from genrep.errors import ConfigError
from genrep.evaluate.settings import (
    EncoderChoice,
    cache_setting,
    check_seeds,
    crops_setting,
    dataset_setting,
    device_setting,
    download_setting,
    force_setting,
    precision_setting,
    root_setting,
    seeds_setting,
)
from genrep.settings import config, setting

from .presets import PRESETS

LR_RULE = 64.0  # `frozen`: the rate is this over the mean squared length of the training features


L2_GRID = tuple(10 ** (-6 + 11 * k / 44) for k in range(45))  # 45 values from 1e-6 to 1e5 (SimCLR, B.8)
HELD_OUT = 5  # one in so many training images of each class chooses among them
CHOOSING = 10  # likewise among the heads of a grid, as CAPI's protocol has it


@config
class LinearConfig(EncoderChoice):
    """Settings of a linear probe; None: what the preset says."""

    dataset: str = dataset_setting()
    root: Path | None = root_setting()
    download: bool = download_setting()
    out: Path = setting(metavar="DIR", help="Folder whose linear.json receives the result.")
    preset: str = setting(default="frozen", choices=PRESETS, help="Protocol of the probe: a paper's, or frozen, ours.")
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Resize the shorter side to this.  [default: the preset's; frozen: what the encoder was trained "
        "at, for photos and image folders]",
    )
    crop: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the crops.  [default: the preset's, in proportion to --size]",
    )
    epochs: int | None = setting(
        default=None, least=1, help="Number of passes over the training images.  [default: the preset's; 60 for most]"
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help=f"Learning rate of SGD.  [default: the preset's; frozen: {LR_RULE:g} / mean squared length of the "
        "training features]",
    )
    lr_grid: tuple[float, ...] | None = setting(
        default=None,
        above=0,
        metavar="LR",
        help="Also train a head at this learning rate; it is recorded but is not the result. A preset that chooses its rate "
        "chooses among --lr and these. May be repeated.  [default: the preset's]",
    )
    epoch_length: int | None = setting(
        default=None, least=1, metavar="UPDATES", help="Updates of an epoch.  [default: the preset's; a pass for most]"
    )
    crops: bool = crops_setting()
    batch_size: int | None = setting(
        default=None, least=1, metavar="IMAGES", help="Images per update.  [default: the preset's]"
    )
    feature_batch: int = setting(
        default=256, least=1, metavar="IMAGES", help="Images per forward pass of the encoder where nothing is random."
    )
    precision: str = precision_setting()
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    cache: bool = cache_setting("features")
    seeds: tuple[int, ...] = seeds_setting()
    device: str = device_setting()
    force: bool = force_setting()

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        check_seeds(self.seeds)
        preset = PRESETS[self.preset]
        side = self.size or preset.transform.resize
        free = self.size is None and preset.own_size
        if self.crop is not None and not free and (side is None or self.crop > side):
            raise ConfigError.naming("{crop} {}: wanted at most {size}, {}", self.crop, side or "which is not given")
        trained = ("epochs", "lr", "lr_grid", "batch_size", "epoch_length")
        given = [name for name in trained if getattr(self, name) is not None]
        if preset.head == "lbfgs" and given:
            raise ConfigError.naming(
                f"{{{given[0]}}}: {{preset}} {{}} does not train by SGD; give another {{preset}}", self.preset
            )

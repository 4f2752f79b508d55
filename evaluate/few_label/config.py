"""Settings of ``genrep-evaluate few-label``."""

from __future__ import annotations

from pathlib import Path

from genrep.errors import ConfigError
from genrep.settings import MOST_SEED, config, setting

from ..settings import (
    EncoderChoice,
    cache_setting,
    dataset_setting,
    device_setting,
    download_setting,
    force_setting,
    precision_setting,
    root_setting,
)

LABELS = (1, 5, 10, 100)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ValueError(f"{text!r}: wanted whole numbers with commas between, such as 1,5,10,100") from None


@config
class FewLabelConfig(EncoderChoice):
    """Settings of logistic regression on a few labels of each class."""

    dataset: str = dataset_setting()
    root: Path | None = root_setting()
    download: bool = download_setting()
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Resize the shorter side to this and crop the central square.  [default: what the encoder was "
        "trained at, for photos and image folders; small sets stay as stored]",
    )
    out: Path = setting(metavar="DIR", help="Folder whose few-label.json receives the results.")
    labels: tuple[int, ...] = setting(
        default=LABELS,
        metavar="N,N,…",
        parse=_numbers,
        show_default=",".join(map(str, LABELS)),
        help="Numbers of labelled training images of each class.",
    )
    draws: int = setting(default=50, least=2, most=10_000, help="Number of draws of the labelled images.")
    inverse_l2: float = setting(
        default=1.0, above=0, help="Inverse strength of the L2 penalty, which scikit-learn calls C."
    )
    feature_batch: int = setting(default=256, least=1, metavar="IMAGES", help="Images per forward pass.")
    precision: str = precision_setting()
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    cache: bool = cache_setting("the features")
    seed: int = setting(
        default=0, least=0, most=MOST_SEED, help="Seed of the draws, and of the weights of --random-init."
    )
    device: str = device_setting()
    force: bool = force_setting("Replace earlier results of this dataset, protocol and seed.")

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        if not self.labels or min(self.labels) < 1 or len(set(self.labels)) < len(self.labels):
            text = ",".join(map(str, self.labels)) or "none"
            raise ConfigError.naming("{labels} {}: wanted positive numbers, each of them once", text)
        self.check_choice()

"""What a run of ``genrep-generate fit-gan`` is fixed by, and what can be wrong with it before its images are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genrep.errors import ResumeError, WeightsError
from genrep.files import require_writable, sha256_file
from genrep.runs.folder import CONFIG_FILE, differences, refuse_another
from genrep.untrusted import read_object


@dataclass(frozen=True, kw_only=True)
class FitGanConfig:
    """Settings of a StyleGAN2 training run. Lengths are counted in images shown to the discriminator."""

    data: str  # an image folder, or a dataset's name (then ``root`` holds it)
    out: Path
    root: Path | None = None
    download: bool = False  # fetch a named dataset that is not under root
    size: int | None = None  # pixels, image folders of mixed sizes only
    classes: bool = False  # train a class-conditional network
    z_dim: int = 128
    w_dim: int = 128
    mapping_layers: int = 2
    channel_base: int = 512  # a layer at resolution r has min(channel_base / r, channel_max) channels
    channel_max: int = 128
    total_images: int = 1_000_000
    batch_size: int = 64
    lr: float = 0.0025
    r1_gamma: float = 0.02
    r1_interval: int = 16  # discriminator steps
    ema_halflife: int = 20_000  # images
    ema_rampup: float = 0.05  # the half-life is at most this fraction of the images seen
    style_mixing: float = 0.0  # probability
    augment: Literal["none", "ada"] = "none"
    init: Path | None = None  # checkpoint.pt of another run: its weights are the start where names and shapes agree
    mirror: bool = False  # add mirrored real images
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    seed: int = 0
    device: str = "cpu"
    snapshot_images: int = 50_000  # a checkpoint, a sample sheet and a line of progress

    def identity(self) -> dict[str, object]:
        """The settings that a resumed run must share."""
        free = {"out", "root", "download", "device", "compile", "snapshot_images", "total_images"}
        settings = {name: value for name, value in vars(self).items() if name not in free}
        return {**settings, "init": None if self.init is None else sha256_file(self.init)}


def check_run(config: FitGanConfig) -> None:
    """See whether the folder can be this run's. Its checkpoint has the last word, when it is read.

    Raises:
        ResumeError: ``out`` cannot be written, or holds a run with other settings.
        WeightsError: there is no file ``init``.
    """
    require_writable(config.out, "--out")
    if config.init is not None and not config.init.is_file():
        raise WeightsError(f"--init {config.init}: no such file; wanted checkpoint.pt of another run of fit-gan")
    try:
        there = read_object(config.out / CONFIG_FILE, ResumeError)
    except ResumeError:  # missing or damaged
        return
    ours = {name: value for name, value in config.identity().items() if name != "init"}
    refuse_another(config.out, differences(ours, there, sorted(ours)))

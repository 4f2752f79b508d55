"""What fit-steer, fit-navigator, measure-delta and fit-filter are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.encoders import ARCHS, PRECISIONS, STEMS
from genrep.errors import RecipeError, one_of
from genrep.pixel_views import PIXEL_VIEWS

from ..views.base import parse_range


def option(name: str) -> str:
    """A field's option on the command line."""
    return "--" + name.replace("_", "-")


MAX_SEED = 1 << 63


@dataclass(frozen=True, kw_only=True)
class SteerConfig:
    """Settings of a fit of walks; lengths are counted in samples, of which each is one z with one composed transform.

    The defaults are GenRep's (Jahanian et al. 2022, section 3.2 and the released code).
    """

    gen: str
    out: Path
    weights: str | Path | None = None  # of the generator, instead of the recipe's own
    features: Path | None = None  # instance features (IC-GAN)
    truncation: float | None = None  # the generator's own
    samples: int = 160_000
    batch_size: int = 32
    lr: float = 1e-3  # of Adam
    seed: int = 0
    device: str = "auto"
    checkpoint_samples: int = 20_000  # a checkpoint and a new picture
    log_every: int = 50  # steps
    measure_images: int = 256  # anchors on which the effect of the walks is measured in the end; 0 = not at all

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        minima = {
            "samples": 1,
            "batch_size": 1,
            "seed": 0,
            "checkpoint_samples": 1,
            "log_every": 1,
            "measure_images": 0,
        }
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{option(name)} {getattr(self, name)}: wanted at least {minimum}")
        if self.seed >= MAX_SEED:
            raise ValueError(f"--seed {self.seed}: wanted less than 2**63")
        for name in ("lr", "truncation"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{option(name)} {value}: wanted a positive number")

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the command line gives."""
        given = {"features": self.features, "truncation": self.truncation}
        return {name: value for name, value in given.items() if value is not None}

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share; weights and features enter by their digests."""
        free = {"out", "weights", "features", "device", "samples", "checkpoint_samples", "measure_images"}
        return {name: value for name, value in vars(self).items() if name not in free}


POLICIES = {name: PIXEL_VIEWS[name] for name in ("simclr", "no-color", "no-crop", "none")}  # differentiable ones
WALKS = ("mlp", "linear")
INITS = ("torch", "small")
# What a preset changes of NavigatorConfig's defaults, which are COP-Gen's.
PRESETS: dict[str, dict[str, Any]] = {
    "cop-gen": {},
    "hl": {
        "init": "small",
        "lr_walk": 1e-5,  # of walks of the whole latent or of several chunks
        "lr_f": 3e-5,
        "batch_size": 64,
        "samples": 120_000,
        "pixel_views": "none",
        "crop": 112,  # the middle of 128-px images
    },
}
HL_SINGLE: dict[str, Any] = {"lr_walk": 8e-5, "lr_f": 5e-5}  # HL's rates for one chunk, or one group of layers


@dataclass(frozen=True, kw_only=True)
class NavigatorConfig:
    """Settings of an adversarial fit of T against an InfoNCE estimator f; lengths are counted in anchors.

    The defaults are COP-Gen's (Li et al. 2022, section 3.3 and the released code); ``of_preset`` has HL's. Losses that
    these papers print are τ / .07 times ours (``genrep.infonce``), 1.43 times at τ = .1.
    """

    gen: str
    out: Path
    weights: str | Path | None = None  # of the generator, instead of the recipe's own
    features: Path | None = None  # instance features (IC-GAN)
    truncation: float | None = None  # the generator's own
    chunks: str | None = None  # "1-5": T moves these chunks of the latent; None = all of it
    layers: str | None = None  # "0-3": w of T's latent replaces that of these layers only
    walk: str = "mlp"  # Linear - ReLU - Linear, or without the ReLU
    reduction: int = 1  # the hidden layer has F / reduction units, F the latent components that T moves
    init: str = "torch"  # U(±1 / sqrt F), or HL's small: weights N(0, .01), biases U(±.001)
    max_distance: float | None = None  # T(z) is projected on the ball of this radius; None = no constraint
    supervised: bool = False  # SupCon: all images of a class are positives of each other
    samples: int = 200_000  # early stopping is the papers' only constraint
    stop_at_loss: float | None = (
        None  # or when f's loss, after its first fall, has risen to this; HL's 1.05 is .735 here
    )
    batch_size: int = 176  # pairs
    lr_walk: float = 1e-5
    lr_f: float = 3e-5
    temperature: float = 0.1
    pixel_views: str = "simclr"
    crop: int | None = None  # side in pixels of the images that f sees, at most the shorter side, which is None's
    arch: str = "resnet18"
    stem: str = "imagenet"
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"  # of f
    checkpoint_samples: int = 20_000  # a checkpoint, a saved T and a new strip
    log_every: int = 20  # steps; the window whose mean loss stop_at_loss looks at

    @classmethod
    def of_preset(cls, preset: str, **options: Any) -> NavigatorConfig:
        """The preset's settings under the given options; an option that is None counts as not given.

        Raises:
            ValueError: an unknown preset, or as the constructor.
        """
        if preset not in PRESETS:
            raise ValueError(f"--preset {preset!r}: wanted one of {one_of(preset, PRESETS)}")
        given = {name: value for name, value in options.items() if value is not None}
        single = HL_SINGLE if preset == "hl" and _moves_one_part(given) else {}
        return cls(**{**PRESETS[preset], **single, **given})

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        _check_choices(
            self,
            walk=WALKS,
            init=INITS,
            pixel_views=tuple(POLICIES),
            arch=tuple(ARCHS),
            stem=STEMS,
            precision=PRECISIONS,
        )
        _check_whole(self, reduction=1, samples=1, batch_size=2, crop=1, checkpoint_samples=1, log_every=1, seed=0)
        _check_positive(self, "max_distance", "stop_at_loss", "lr_walk", "lr_f", "temperature", "truncation")
        if self.seed >= 1 << 63:
            raise ValueError(f"--seed {self.seed}: wanted less than 2**63")
        if self.chunks is not None and self.layers is not None:
            raise ValueError(f"--chunks {self.chunks} and --layers {self.layers}: give one of the two")
        for name in ("chunks", "layers"):
            if getattr(self, name) is not None:
                _check_range(getattr(self, name), option(name))

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the command line gives."""
        given = {"features": self.features, "truncation": self.truncation}
        return {name: value for name, value in given.items() if value is not None}

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        free = {"out", "weights", "features", "device", "samples", "stop_at_loss", "checkpoint_samples"}
        return {name: value for name, value in vars(self).items() if name not in free}


@dataclass(frozen=True, kw_only=True)
class DeltaConfig:
    """Settings of a Monte-Carlo measurement of learned walks (HL, Table 1)."""

    walks: tuple[Path, ...]  # run folders of fit-navigator, or files
    out: Path  # FILE.json; the plot lies beside it as FILE.png
    gen: str | None = None  # whose latent law to use; needed for files that do not state theirs
    anchors: int = 1_000_000
    batch_size: int = 8192
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        if not self.walks:
            raise ValueError("--walks: wanted at least one run folder or navigator file")
        if self.out.suffix != ".json":
            raise ValueError(f"--out {self.out}: wanted a name that ends in .json")
        _check_whole(self, anchors=1, batch_size=1, seed=0)


def _moves_one_part(options: dict[str, Any]) -> bool:
    """Whether T moves one chunk of the latent, or one group of layers, as opposed to several chunks or all of it."""
    if options.get("layers") is not None:
        return True
    first, _, last = str(options.get("chunks", "-")).partition("-")
    return first != "" and last in ("", first)


def _check_choices(config: object, **choices: tuple[str, ...]) -> None:
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise ValueError(
                f"{option(name)} {getattr(config, name)!r}: wanted one of {one_of(getattr(config, name), known)}"
            )


def _check_range(text: str, where: str) -> None:
    try:
        parse_range(text, where)
    except RecipeError as error:
        raise ValueError(str(error)) from None


def _check_whole(config: object, **minima: int) -> None:
    for name, minimum in minima.items():
        value = getattr(config, name)
        if value is not None and value < minimum:
            raise ValueError(f"{option(name)} {value}: wanted at least {minimum}")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{option(name)} {value}: wanted a positive number")


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Settings of a discriminator of real against generated images; lengths are counted in real images shown to it."""

    gen: str
    data: str  # an image folder, or a dataset's name (then ``root`` holds it)
    out: Path
    root: Path | None = None
    download: bool = False  # fetch a named dataset that is not under root
    weights: str | Path | None = None  # of the generator, instead of the recipe's own
    features: Path | None = None  # instance features (IC-GAN)
    truncation: float | None = None  # the generator's own
    images: int | None = None  # None = HL's one epoch: each real image once, but for those that are held out
    batch_size: int = 64  # real images, and as many generated ones
    lr: float = 1e-3  # of Adam
    seed: int = 0
    device: str = "auto"
    checkpoint_images: int = 20_000
    log_every: int = 20  # steps

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        for name, minimum in (
            ("images", 1),
            ("batch_size", 1),
            ("seed", 0),
            ("checkpoint_images", 1),
            ("log_every", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"{option(name)} {value}: wanted at least {minimum}")
        if self.seed >= 1 << 63:
            raise ValueError(f"--seed {self.seed}: wanted less than 2**63")
        for name in ("lr", "truncation"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{option(name)} {value}: wanted a positive number")

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the command line gives."""
        given = {"features": self.features, "truncation": self.truncation}
        return {name: value for name, value in given.items() if value is not None}

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share; weights, features and real images enter by their digests."""
        free = {"data", "out", "root", "download", "weights", "features", "device", "images", "checkpoint_images"}
        return {name: value for name, value in vars(self).items() if name not in free}

"""What fit-steer, fit-navigator, measure-delta, compare-navigator and fit-filter are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genrep.encoders import ARCHS, PRECISIONS, STEMS
from genrep.errors import ConfigError, RecipeError, one_of
from genrep.pixel_views import PIXEL_VIEWS
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import (
    device,
    download,
    features,
    generator,
    generator_options,
    root,
    truncation,
    weights,
)


def frozen_generator() -> Any:
    """The setting ``gen`` of a fit."""
    return generator("The generator; it stays as it is.")


def run_folder() -> Any:
    """The setting ``out`` of a fit."""
    return setting(metavar="DIR", help="The run's folder.")


def count(default: int | None, metavar: str | None = None, help: str | None = None, least: int = 1, **said: Any) -> Any:
    """A setting that is a whole number."""
    return setting(default=default, least=least, metavar=metavar, help=help, show_range=False, **said)


def positive(default: float | None, help: str, **said: Any) -> Any:
    """A setting that is a positive number."""
    return setting(default=default, above=0, help=help, show_range=False, **said)


def seed(**said: Any) -> Any:
    """The setting ``seed``."""
    return count(0, least=0, most=MOST_SEED, **said)


@config
class SteerConfig:
    """Settings of a fit of walks; lengths are counted in samples, of which each is one z with one composed transform.

    The defaults are GenRep's (Jahanian et al. 2022, section 3.2 and the released code).
    """

    gen: str = frozen_generator()
    weights: str | Path | None = weights()
    features: Path | None = features()
    truncation: float | None = truncation(above=0, show_range=False)
    out: Path = run_folder()
    samples: int = count(160_000, "IMAGES", "Stop after these.")
    batch_size: int = count(32, "IMAGES")
    lr: float = positive(1e-3, "Adam's learning rate.")
    seed: int = seed()
    device: str = device()
    checkpoint_samples: int = count(20_000, "IMAGES", "Between checkpoints.")
    log_every: int = count(50, "STEPS")
    measure_images: int = count(256, "N", "That the effects are measured on.", least=0)  # 0 = not at all

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

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


def word(default: str, known: Iterable[str], metavar: str, help: str) -> Any:
    """A setting of a navigator that is one of some names."""
    return setting(default=default, choices=known, metavar=metavar, help=help)


@config
class NavigatorConfig:
    """Settings of an adversarial fit of T against an InfoNCE estimator f; lengths are counted in anchors.

    The defaults are COP-Gen's (Li et al. 2022, section 3.3 and the released code); ``of_preset`` has HL's. Losses that
    these papers print are τ / .07 times ours (``genrep.infonce``), 1.43 times at τ = .1.
    """

    gen: str = frozen_generator()
    weights: str | Path | None = weights()
    features: Path | None = features()
    truncation: float | None = truncation(above=0, show_range=False)
    out: Path = run_folder()
    chunks: str | None = setting(
        default=None, metavar="A-B", text=True, help="Move these chunks of a hierarchical latent only."
    )
    layers: str | None = setting(
        default=None, metavar="A-B", text=True, help="StyleGAN2: replace w of these layers only."
    )
    walk: str = word("mlp", WALKS, "mlp|linear", "T: with a ReLU between its two layers, or without.")
    reduction: int = count(1, help="The hidden layer is this many times narrower.")
    # U(±1 / sqrt F), F the latent components that T moves; or weights N(0, .01), biases U(±.001)
    init: str = word("torch", INITS, "torch|small", "COP-Gen's start, or HL's close to the identity.")
    max_distance: float | None = positive(None, "Project T(z) on the ball of this radius.", metavar="DELTA")
    supervised: bool = setting(default=False, help="Images of a class are positives of each other (SupCon).")
    samples: int = count(200_000, "ANCHORS", "Stop after these.")  # the papers' only constraint
    # HL's 1.05 is .735 here
    stop_at_loss: float | None = positive(None, "Or when f's loss has risen to this after its first fall (HL).")
    batch_size: int = count(176, "PAIRS", least=2)
    lr_walk: float = positive(1e-5, "Adam's learning rate for T.")
    lr_f: float = positive(3e-5, "Adam's learning rate for the estimator f.")
    temperature: float = positive(0.1, "Of InfoNCE.")
    pixel_views: str = word("simclr", POLICIES, "simclr|no-color|no-crop|none", "T_x on what f sees.")
    crop: int | None = count(
        None, "PIXELS", "Side of the images that f sees, at most their own.  [default: their own; hl: 112]"
    )
    arch: str = word("resnet18", ARCHS, "TEXT", "Of f.")
    stem: str = word("imagenet", STEMS, "imagenet|cifar", "Of f.")
    seed: int = seed()
    device: str = device()
    precision: str = word("auto", PRECISIONS, "auto|fp32|bf16", "Of f.")
    checkpoint_samples: int = count(20_000, "ANCHORS", "Between checkpoints, saved T and strips.")
    log_every: int = count(20, "STEPS")  # the window whose mean loss stop_at_loss looks at

    @classmethod
    def of_preset(cls, preset: str, **options: Any) -> NavigatorConfig:
        """The preset's settings under the given options; an option that is None counts as not given.

        Raises:
            ConfigError: an unknown preset, or as the constructor.
        """
        if preset not in PRESETS:
            raise ConfigError.naming("{preset} {!r}: wanted one of {}", preset, one_of(preset, PRESETS))
        given = {name: value for name, value in options.items() if value is not None}
        single = HL_SINGLE if preset == "hl" and _moves_one_part(given) else {}
        return cls(**{**PRESETS[preset], **single, **given})

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        check_parts(self.chunks, self.layers)

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        free = {"out", "weights", "features", "device", "samples", "stop_at_loss", "checkpoint_samples"}
        return {name: value for name, value in vars(self).items() if name not in free}


def _moves_one_part(options: dict[str, Any]) -> bool:
    """Whether T moves one chunk of the latent, or one group of layers, as opposed to several chunks or all of it."""
    if options.get("layers") is not None:
        return True
    first, _, last = str(options.get("chunks", "-")).partition("-")
    return first != "" and last in ("", first)


def check_parts(chunks: str | None, layers: str | None) -> None:
    """See whether a walk of chunks of the latent or of W layers is of ranges of one of the two. Raises ConfigError."""
    if chunks is not None and layers is not None:
        raise ConfigError.naming("{chunks} {} and {layers} {}: give one of the two", chunks, layers)
    for name, text in (("chunks", chunks), ("layers", layers)):
        if text is not None:
            from ..views.base import parse_range  # NumPy

            try:
                parse_range(text, "")
            except RecipeError as error:
                raise ConfigError.naming(f"{{{name}}}{{}}", error) from None


@config
class DeltaConfig:
    """Settings of a Monte-Carlo measurement of learned walks (HL, Table 1)."""

    walks: tuple[Path, ...] = setting(argument=True, metavar="RUN...")  # run folders of fit-navigator, or files
    out: Path = setting(metavar="FILE.json", help="The table.")  # the plot lies beside it as FILE.png
    gen: str | None = setting(
        default=None, metavar="NAME", help="Whose latent law to use, for files that do not state theirs."
    )
    anchors: int = count(1_000_000, "N")
    batch_size: int = count(8192, "ANCHORS")
    seed: int = seed()
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not self.walks:
            raise ConfigError.naming("{walks}: wanted at least one run folder or navigator file")
        if self.out.suffix != ".json":
            raise ConfigError.naming("{out} {}: wanted a name that ends in .json", self.out)


@config
class CompareConfig:
    """Settings of a comparison of a run's T with random walks."""

    run: Path = setting(argument=True, metavar="RUN")  # folder of fit-navigator
    walk: Path | None = None  # another file's T
    batches: int = count(20, "N", "Of fresh anchors.", least=2)
    batch_size: int | None = None  # the run's
    seed: int = seed()
    device: str = device()


@config
class FilterConfig:
    """Settings of a discriminator of real against generated images; lengths are counted in real images shown to it."""

    gen: str = frozen_generator()
    data: str = setting(metavar="NAME|DIR", help="Real images: fashion_mnist, cifar10, imagenet, or a folder.")
    root: Path | None = root()
    download: bool = download()
    out: Path = run_folder()
    weights: str | Path | None = weights()
    features: Path | None = features()
    truncation: float | None = truncation(above=0, show_range=False)
    # HL's one epoch: each real image once, but for those that are held out
    images: int | None = count(None, "N", "Real images shown.  [default: each once, one epoch]")
    batch_size: int = count(64, "IMAGES", "Real ones, and as many generated.")
    lr: float = positive(1e-3, "Adam's learning rate.")
    seed: int = seed()
    device: str = device()
    checkpoint_images: int = count(20_000, "N")
    log_every: int = count(20, "STEPS")

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share; weights, features and real images enter by their digests."""
        free = {"data", "out", "root", "download", "weights", "features", "device", "images", "checkpoint_images"}
        return {name: value for name, value in vars(self).items() if name not in free}
